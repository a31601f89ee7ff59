package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"tally/internal/atomicfile"
	"tally/release"
)

// The OCI manifest of an output (OCI Image Specification 1.1, "artifact usage"): one layer a file, sorted by name,
// which stands in the title annotation. It depends on the files alone, so that its digest can be signed before a
// registry has anything, and a rebuild makes the same.
const (
	// ArtifactType is the manifest's artifactType.
	ArtifactType = "application/vnd.tallystick.image.v1"

	manifestType = "application/vnd.oci.image.manifest.v1+json"
	emptyType    = "application/vnd.oci.empty.v1+json"
	fileType     = "application/octet-stream"
	titleKey     = "org.opencontainers.image.title"
	versionKey   = "org.opencontainers.image.version"
)

// EmptyConfig is the content of the manifest's config.
var EmptyConfig = []byte("{}")

type ociManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ociManifest returns the manifest of every subject but itself.
func (o *Out) ociManifest() ([]byte, error) {
	m := ociManifest{
		SchemaVersion: 2, MediaType: manifestType, ArtifactType: ArtifactType,
		Config:      descriptor{MediaType: emptyType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(EmptyConfig)), Size: int64(len(EmptyConfig))},
		Annotations: map[string]string{titleKey: o.manifest.Name, versionKey: o.manifest.Version},
	}
	for _, s := range o.subjects {
		if s.Name != release.OCIManifest {
			m.Layers = append(m.Layers, descriptor{fileType, "sha256:" + s.Digest.SHA256.String(), o.sizes[s.Name], map[string]string{titleKey: s.Name}})
		}
	}
	sort.Slice(m.Layers, func(i, j int) bool { return m.Layers[i].Annotations[titleKey] < m.Layers[j].Annotations[titleKey] })
	return json.Marshal(m)
}

// readOCI makes the OCI manifest a subject where there is one. It must be the one of the other files.
func (o *Out) readOCI() error {
	data, err := readSmall(filepath.Join(o.Dir, release.OCIManifest), maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	want, err := o.ociManifest()
	if err != nil {
		return err
	}
	if !bytes.Equal(data, want) {
		return fmt.Errorf("%s: is not of the files in %q: remove it, or sign with --oci to make it anew", release.OCIManifest, o.Dir)
	}
	o.add(release.OCIManifest, sha256.Sum256(data), int64(len(data)))
	return nil
}

// WriteOCI writes the OCI manifest of an output directory into it.
func WriteOCI(ctx context.Context, dir string) error {
	path := filepath.Join(dir, release.OCIManifest)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	o, err := ReadOut(ctx, dir)
	if err != nil {
		return err
	}
	data, err := o.ociManifest()
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, data, 0o644)
}
