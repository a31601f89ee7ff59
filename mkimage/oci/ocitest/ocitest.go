// Package ocitest makes small container images for tests: the layers say what is in them, everything else
// is derived. The same image has the same bytes.
package ocitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"tally/mkimage/oci"
)

// An Item is one entry of a layer.
type Item struct {
	Header tar.Header
	Data   string
}

// File is a regular file with mode 0644.
func File(name, data string) Item {
	return Item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, data}
}

// Dir is a directory with mode 0755.
func Dir(name string) Item {
	return Item{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

// Link is a symbolic (tar.TypeSymlink) or hard (tar.TypeLink) link.
func Link(kind byte, name, target string) Item {
	return Item{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}, ""}
}

// Node is an entry without contents.
func Node(h tar.Header) Item { return Item{h, ""} }

// Tar returns the uncompressed archive.
func Tar(items ...Item) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, it := range items {
		must(w.WriteHeader(&it.Header))
		_, err := w.Write([]byte(it.Data))
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// A Layer is one layer: an archive and how it is compressed ("", "gzip" or "zstd").
type Layer struct {
	Archive     []byte
	Compression string
}

// Packed is a layer of archive.
func Packed(archive []byte, compression string) Layer { return Layer{archive, compression} }

// Compressed returns the blob.
func (l Layer) Compressed() []byte {
	var b bytes.Buffer
	switch l.Compression {
	case "":
		return l.Archive
	case "gzip":
		w := gzip.NewWriter(&b)
		_, err := w.Write(l.Archive)
		must(err)
		must(w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		must(err)
		_, err = w.Write(l.Archive)
		must(err)
		must(w.Close())
	default:
		panic("unknown compression " + l.Compression)
	}
	return b.Bytes()
}

// A Layout is an image layout being filled.
type Layout struct {
	Dir string
}

// New starts a layout in dir.
func New(dir string) *Layout {
	l := &Layout{dir}
	must(os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	must(os.WriteFile(filepath.Join(dir, oci.LayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return l
}

// A Descriptor names a blob.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Blob puts bytes into the layout.
func (l *Layout) Blob(media string, data []byte) Descriptor {
	d := oci.Digest(sha256.Sum256(data))
	must(os.WriteFile(oci.Layout(l.Dir).Path(d), data, 0o644))
	return Descriptor{MediaType: media, Digest: d.String(), Size: len(data)}
}

// JSON puts a document into the layout.
func (l *Layout) JSON(media string, v any) Descriptor {
	data, err := json.Marshal(v)
	must(err)
	return l.Blob(media, data)
}

// Image puts an image for linux/arch into the layout and returns its manifest.
func (l *Layout) Image(arch string, layers ...Layer) Descriptor {
	var diffs []string
	blobs := []Descriptor{}
	for _, layer := range layers {
		media := "application/vnd.oci.image.layer.v1.tar"
		if layer.Compression != "" {
			media += "+" + layer.Compression
		}
		blobs = append(blobs, l.Blob(media, layer.Compressed()))
		diffs = append(diffs, oci.Digest(sha256.Sum256(layer.Archive)).String())
	}
	config := l.JSON("application/vnd.oci.image.config.v1+json", map[string]any{"os": "linux", "architecture": arch,
		"config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	m := l.JSON("application/vnd.oci.image.manifest.v1+json", map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": blobs})
	m.Platform = map[string]string{"os": "linux", "architecture": arch}
	return m
}

// Index puts an index of manifests into the layout.
func (l *Layout) Index(manifests ...Descriptor) Descriptor {
	const media = "application/vnd.oci.image.index.v1+json"
	return l.JSON(media, map[string]any{"schemaVersion": 2, "mediaType": media, "manifests": manifests})
}

// Tag writes index.json, which names d by tag: for tools that want tags.
func (l *Layout) Tag(tag string, d Descriptor) {
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []Descriptor{d}})
	must(err)
	must(os.WriteFile(filepath.Join(l.Dir, "index.json"), data, 0o644))
}

// ID is the digest of d.
func (d Descriptor) ID() oci.Digest {
	v, err := oci.ParseDigest(d.Digest)
	must(err)
	return v
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("ocitest: %v", err))
	}
}
