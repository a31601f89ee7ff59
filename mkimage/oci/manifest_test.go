package oci_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"tally/mkimage/oci"
	. "tally/mkimage/oci/ocitest"
)

const (
	ociType    = "application/vnd.oci.image."
	dockerType = "application/vnd.docker."
)

type object = map[string]any

// TestDocuments: every field of a document that could lead to another image is looked at.
func TestDocuments(t *testing.T) {
	l := New(t.TempDir())
	archive := Tar(File("a", ""))
	diff := oci.Digest(sha256.Sum256(archive)).String()
	layer := l.Blob(ociType+"layer.v1.tar", archive)
	config := func(edit func(rootfs, c object)) Descriptor {
		rootfs := object{"type": "layers", "diff_ids": []string{diff}}
		c := object{"os": "linux", "architecture": "amd64", "rootfs": rootfs}
		edit(rootfs, c)
		return l.JSON(ociType+"config.v1+json", c)
	}
	plain := config(func(_, _ object) {})
	manifest := func(edit func(m object)) oci.Digest {
		m := object{"schemaVersion": 2, "config": plain, "layers": []Descriptor{layer}}
		edit(m)
		return l.JSON(ociType+"manifest.v1+json", m).ID()
	}
	configured := func(edit func(rootfs, c object)) oci.Digest {
		return manifest(func(m object) { m["config"] = config(edit) })
	}
	good := l.Image("amd64", Packed(archive, ""))
	sized := func(size int) oci.Digest {
		d := good
		d.Size = size
		return l.Index(d).ID()
	}
	negative, asLayer, deep := layer, plain, good
	negative.Size, asLayer.MediaType = -1, layer.MediaType
	deep.Platform = map[string]string{"os": "linux", "architecture": "amd64", "variant": ""}
	many := make([]Descriptor, 1025)
	for i := range many {
		many[i] = good
	}
	for _, c := range []struct {
		name, want string
		d          oci.Digest
	}{
		{"as it should be", "", manifest(func(object) {})},
		{"an empty variant", "", l.Index(deep).ID()},
		{"the most images", "", l.Index(many[1:]...).ID()},
		{"too many images", "1025 images, want at most 1024", l.Index(many...).ID()},
		{"the largest document", "want 4194304", sized(oci.MaxDocument)},
		{"document of no bytes", "want 0", sized(0)},
		{"document of negative size", "size -1", sized(-1)},
		{"layer of negative size", "size -1", manifest(func(m object) { m["layers"] = []Descriptor{negative} })},
		{"manifests and config", "want either manifests, or config and layers", manifest(func(m object) { m["manifests"] = []any{}; delete(m, "layers") })},
		{"manifests and layers", "want either manifests, or config and layers", manifest(func(m object) { m["manifests"] = []any{}; delete(m, "config") })},
		{"config alone", "0 layers", manifest(func(m object) { delete(m, "layers") })},
		{"manifest of another kind", `media type "application/vnd.oci.artifact.manifest.v1+json": want one of`, manifest(func(m object) { m["mediaType"] = "application/vnd.oci.artifact.manifest.v1+json" })},
		{"manifest that says index", `does not fit what is in it`, manifest(func(m object) { m["mediaType"] = ociType + "index.v1+json" })},
		{"index that says manifest", `does not fit what is in it`, l.JSON("", object{"schemaVersion": 2, "mediaType": ociType + "manifest.v1+json", "manifests": []Descriptor{good}}).ID()},
		{"config of a layer's type", "want one of " + ociType + "config.v1+json", manifest(func(m object) { m["config"] = asLayer })},
		{"config that is none", "invalid character", manifest(func(m object) { m["config"] = l.Blob(ociType+"config.v1+json", []byte("x")) })},
		{"another system", `is for "windows/amd64", want linux/amd64`, configured(func(_, c object) { c["os"] = "windows" })},
		{"another machine", `is for "linux/arm64", want linux/amd64`, configured(func(_, c object) { c["architecture"] = "arm64" })},
		{"a newer machine", `is for "linux/amd64/v3", want linux/amd64`, configured(func(_, c object) { c["variant"] = "v3" })},
		{"no layers' rootfs", `rootfs of type "foreign", want layers`, configured(func(r, _ object) { r["type"] = "foreign" })},
		{"no diff ID", "1 layers, but the config has 0 diff IDs", configured(func(r, _ object) { delete(r, "diff_ids") })},
		{"a diff ID more", "1 layers, but the config has 2 diff IDs", configured(func(r, _ object) { r["diff_ids"] = []string{diff, diff} })},
		{"too many layers", "513 layers, want 1 to 512", manifest(func(m object) { m["layers"] = make([]Descriptor, 513) })},
	} {
		im, err := oci.Resolve(ctx, oci.Layout(l.Dir).Get, c.d, "amd64")
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || im != nil && len(im.Layers) > 0):
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		case c.want == "" && (err != nil || len(im.Layers) != 1 || im.Layers[0].DiffID.String() != diff):
			t.Errorf("%s: %+v, %v", c.name, im, err)
		}
	}
}

// TestDocker: what Docker calls the same things.
func TestDocker(t *testing.T) {
	l := New(t.TempDir())
	archive := Tar(File("a", "A"))
	for name, compression := range map[string]string{"": "", ".gzip": "gzip", ".zstd": "zstd"} {
		config := l.JSON(dockerType+"container.image.v1+json", object{"os": "linux", "architecture": "amd64",
			"rootfs": object{"type": "layers", "diff_ids": []string{oci.Digest(sha256.Sum256(archive)).String()}}})
		m := l.JSON(dockerType+"distribution.manifest.v2+json", object{"schemaVersion": 2, "mediaType": dockerType + "distribution.manifest.v2+json", "config": config,
			"layers": []Descriptor{l.Blob(dockerType+"image.rootfs.diff.tar"+name, Packed(archive, compression).Compressed())}})
		m.Platform = map[string]string{"os": "linux", "architecture": "amd64"}
		fat := l.JSON("", object{"schemaVersion": 2, "mediaType": dockerType + "distribution.manifest.list.v2+json", "manifests": []Descriptor{m}})
		for _, d := range []oci.Digest{m.ID(), fat.ID()} {
			tr, err := flatten(t, l, d)
			if err != nil {
				t.Errorf("%q: %v", name, err)
			} else if got := strings.Join(list(t, tr), "\n"); got != "file a 0644 A" {
				t.Errorf("%q: %s", name, got)
			}
		}
	}
}

// TestGetterIsNotBelieved: a document is what its digest says, not what somebody gives for it.
func TestGetterIsNotBelieved(t *testing.T) {
	l := New(t.TempDir())
	good, other := l.Image("amd64", Packed(Tar(File("a", "1")), "")), l.Image("amd64", Packed(Tar(File("a", "2")), ""))
	if good.Size != other.Size {
		t.Fatal("two manifests of different sizes")
	}
	layout := oci.Layout(l.Dir)
	index := l.Index(good)
	for name, root := range map[string]oci.Digest{"manifest": good.ID(), "index": index.ID()} {
		_, err := oci.Resolve(ctx, func(ctx context.Context, b oci.Blob) ([]byte, error) {
			if b.Digest == good.ID() {
				b.Digest = other.ID()
			}
			return layout.Get(ctx, b)
		}, root, "amd64")
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("document %s: %d bytes with %s", good.ID(), good.Size, other.ID())) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
