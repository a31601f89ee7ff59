package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"
)

const (
	// StatementType is the _type of an in-toto Statement v1
	// (github.com/in-toto/attestation, spec/v1/statement.md).
	StatementType = "https://in-toto.io/Statement/v1"

	// PredicateType names the predicate of this package. It is a tag URI (RFC 4151): a name, not a
	// place to visit. A change of meaning is a new type ending in /v2.
	PredicateType = "tag:tallystick,2026:release/v1"

	// PayloadType is the DSSE payload type of every in-toto statement.
	PayloadType = "application/vnd.in-toto+json"

	// MaxStatement is the size in bytes above which a statement is refused unread.
	MaxStatement = 8 << 20

	// ReferenceValues is the name of the subject that holds the reference values.
	ReferenceValues = "reference-values.json"

	// Manifest is the name of the subject that holds the build's manifest.
	Manifest = "manifest.json"

	// OCIManifest is the name of the subject that holds the manifest under which a container registry has the
	// files. A release need not have it.
	OCIManifest = "oci-manifest.json"

	maxSubjects = 4096
)

// A Statement says what was released. Its subjects are every artefact of the build, the manifest and the
// reference values, so that one signature covers all of them.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"` // sorted by name, each name once
	PredicateType string    `json:"predicateType"`
	Predicate     Predicate `json:"predicate"`
}

// A Subject is one file by name and digest.
type Subject struct {
	Name   string    `json:"name"` // slash-separated, relative, clean
	Digest DigestSet `json:"digest"`
}

// A DigestSet has SHA-256 only: one algorithm leaves nothing to choose.
type DigestSet struct {
	SHA256 Digest `json:"sha256"`
}

// A Predicate is what the subjects alone do not say.
type Predicate struct {
	Release   Release    `json:"release"`
	Inputs    Inputs     `json:"inputs"`
	Artifacts []Artifact `json:"artifacts"` // sorted by name; each is a subject too
	Verity    Verity     `json:"verity"`
	Cmdline   string     `json:"cmdline"` // the measured command line; its digest is the subject "cmdline"

	// ReferenceValues is the content of reference-values.json, compacted; indented again by two
	// spaces, with a newline at its end, it has the digest of that subject.
	ReferenceValues json.RawMessage `json:"referenceValues"`

	// Optional: what else the maintainer says.
	Floors           *Floors           `json:"floors,omitempty"`
	Models           []Model           `json:"models,omitempty"`  // sorted by name
	GPURIMs          []RIM             `json:"gpuRims,omitempty"` // sorted by name
	Wires            []string          `json:"wires,omitempty"`   // how else than by tally/1 the enclave is reached, by its configuration; sorted
	BuildEnvironment *BuildEnvironment `json:"buildEnvironment,omitempty"`
	Supersedes       []Digest          `json:"supersedes,omitempty"` // payloads of earlier releases, sorted

	Validity Validity `json:"validity"`
}

// A Release is what people call it.
type Release struct {
	Name             string `json:"name"`
	Version          string `json:"version"`
	Sequence         uint64 `json:"sequence"`         // grows with every release of this name; at least 1
	SourceRepository string `json:"sourceRepository"` // URL, or empty
	SourceCommit     string `json:"sourceCommit"`     // 40 or 64 hex digits, or empty
}

// Inputs are the digests that let anyone rebuild the image.
type Inputs struct {
	Spec    Digest `json:"spec"`    // image.yaml
	Lock    Digest `json:"lock"`    // image.lock
	Sources Digest `json:"sources"` // sources.tar
}

// An Artifact is one output of the build.
type Artifact struct {
	Name   string `json:"name"`
	Role   string `json:"role"` // disk, model, uki, kernel, initrd, cmdline, firmware, spec, lock, sources, sbom, …
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"` // bytes
}

// Verity are the dm-verity parameters that stand on the measured command line.
type Verity struct {
	Algorithm     string `json:"algorithm"`
	RootHash      Digest `json:"rootHash"`
	Salt          string `json:"salt"` // hex, "-" for none
	DataBlockSize int    `json:"dataBlockSize"`
	HashBlockSize int    `json:"hashBlockSize"`
	DataBlocks    uint64 `json:"dataBlocks"`
	HashStart     uint64 `json:"hashStart"` // in hash blocks
}

// Validity is the time in which the signer stands behind the release.
type Validity struct {
	NotBefore time.Time  `json:"notBefore"`
	NotAfter  *time.Time `json:"notAfter,omitempty"` // nil: the statement names no end
}

// Marshal returns the one form of s: compact JSON, lists sorted, no trailing newline.
func (s *Statement) Marshal() ([]byte, error) {
	c := *s
	c.Subject = append([]Subject{}, s.Subject...)
	sort.Slice(c.Subject, func(i, j int) bool { return c.Subject[i].Name < c.Subject[j].Name })
	c.Predicate.Artifacts = append([]Artifact{}, s.Predicate.Artifacts...)
	a := c.Predicate.Artifacts
	sort.Slice(a, func(i, j int) bool { return a[i].Name < a[j].Name })
	return releases.marshal(&c)
}

// ParseStatement reads and checks a statement, which must be in the form Marshal writes.
func ParseStatement(data []byte) (*Statement, error) {
	s := new(Statement)
	if err := releases.parse(data, s); err != nil {
		return nil, err
	}
	return s, nil
}

// SubjectDigest returns the digest of the subject called name.
func (s *Statement) SubjectDigest(name string) (Digest, bool) {
	for _, sub := range s.Subject {
		if sub.Name == name {
			return sub.Digest.SHA256, true
		}
	}
	return Digest{}, false
}

// ReferenceFile returns the bytes of reference-values.json for the compact form that a statement carries.
func ReferenceFile(compact json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	if len(compact) == 0 || compact[0] != '{' {
		return nil, errors.New("referenceValues: want a JSON object")
	}
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("referenceValues: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// CompactReference is the way back: it wants the exact form that ReferenceFile returns.
func CompactReference(file []byte) (json.RawMessage, error) {
	if len(file) > MaxStatement {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(file), MaxStatement)
	}
	var any json.RawMessage
	if err := unmarshalStrict(file, &any); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, file); err != nil {
		return nil, err
	}
	again, err := ReferenceFile(b.Bytes())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, file) {
		return nil, errors.New("not in the form tally writes (two-space indentation, one trailing newline)")
	}
	return b.Bytes(), nil
}
