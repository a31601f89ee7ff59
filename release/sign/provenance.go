package sign

import (
	"bytes"
	"encoding/json"
	"fmt"

	"tally/release"
)

const (
	// ProvenanceType is the predicate type of SLSA provenance v1 (slsa.dev/spec/v1.0/provenance).
	ProvenanceType = "https://slsa.dev/provenance/v1"

	// BuildType says how the parameters of a provenance are to be read: `tally build` on spec, lock and sources with
	// these digests gives the subjects, byte for byte.
	BuildType = "tag:tallystick,2026:build/v1"

	// BuilderID names who built. It is no service: whoever holds the signing key ran the command.
	BuilderID = "tag:tallystick,2026:builder/v1"
)

// The JSON form of the part of SLSA provenance v1 that this package writes.
type provenance struct {
	Type          string            `json:"_type"`
	Subject       []release.Subject `json:"subject"`
	PredicateType string            `json:"predicateType"`
	Predicate     struct {
		Definition struct {
			BuildType    string         `json:"buildType"`
			External     map[string]any `json:"externalParameters"`
			Internal     map[string]any `json:"internalParameters"`
			Dependencies []resource     `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Run struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	} `json:"predicate"`
}

type resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Provenance returns a SLSA provenance v1 statement about the subjects of s, a statement made from o: one JSON
// object that depends on bytes alone, without the time of the build.
func (o *Out) Provenance(s *release.Statement) ([]byte, error) {
	p := provenance{Type: release.StatementType, Subject: s.Subject, PredicateType: ProvenanceType}
	in, rel := s.Predicate.Inputs, s.Predicate.Release
	d := &p.Predicate.Definition
	d.BuildType = BuildType
	d.External = map[string]any{"name": rel.Name, "version": rel.Version, "spec": in.Spec.String(), "lock": in.Lock.String(), "sources": in.Sources.String()}
	d.Internal = map[string]any{"layout": o.manifest.Layout, "sourceDateEpoch": o.manifest.Epoch}
	if rel.SourceRepository != "" && rel.SourceCommit != "" {
		d.Dependencies = append(d.Dependencies, resource{URI: "git+" + rel.SourceRepository, Digest: map[string]string{"gitCommit": rel.SourceCommit}})
	}
	for _, f := range []struct {
		name string
		sum  release.Digest
	}{{"image.yaml", in.Spec}, {"image.lock", in.Lock}, {"sources.tar", in.Sources}} {
		d.Dependencies = append(d.Dependencies, resource{Name: f.name, Digest: map[string]string{"sha256": f.sum.String()}})
	}
	for _, i := range o.manifest.Inputs {
		r := resource{Name: i.Name, Digest: map[string]string{digestName(i.Kind): i.SHA256.String()}, Annotations: map[string]string{"kind": i.Kind, "verified": i.Verified}}
		if i.Version != "" {
			r.Annotations["version"] = i.Version
		}
		d.Dependencies = append(d.Dependencies, r)
	}
	p.Predicate.Run.Builder.ID = BuilderID
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// digestName is in-toto's name (spec/v1/digest_set.md) for what the manifest has of an input of that kind.
func digestName(kind string) string {
	switch kind {
	case "module", "toolchain":
		return "dirHash" // of package dirhash, as in go.sum
	case "dir", "go":
		return "tallyTree" // our own, over a directory (package source): in-toto has no name for it
	}
	return "sha256"
}

// Provenance returns the unlogged bundle of a payload that Out.Provenance made.
func Provenance(payload []byte, k Signer) (*release.Bundle, error) { return Seal(k, payload) }
