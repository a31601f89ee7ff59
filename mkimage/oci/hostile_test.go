package oci_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage/oci"
	. "tally/mkimage/oci/ocitest"
)

// TestHostileLayers: each is refused by a line that names layer and path.
func TestHostileLayers(t *testing.T) {
	const sym, hard = tar.TypeSymlink, tar.TypeLink
	pax := func(key, value string) Item {
		it := File("f", "")
		it.Header.PAXRecords = map[string]string{key: value}
		return it
	}
	device := func(name string, kind byte, major, minor int64) Item {
		return Node(tar.Header{Typeflag: kind, Name: name, Devmajor: major, Devminor: minor})
	}
	for _, c := range []struct {
		name   string
		layers [][]Item
		want   string
	}{
		{"climbs", [][]Item{{File("../x", "")}}, `path "../x": element ".."`},
		{"climbs inside", [][]Item{{File("a/../../x", "")}}, `element ".."`},
		{"two slashes", [][]Item{{File("//x", "")}}, `element ""`},
		{"through a link of this layer", [][]Item{{Link(sym, "a", "/etc"), File("a/passwd", "")}}, `path "a/passwd": "a" is a symlink, and nothing is written through it`},
		{"through a link of a lower layer", [][]Item{{Link(sym, "a", "..")}, {File("a/b/c", "")}}, `path "a/b/c": "a" is a symlink`},
		{"whiteout through a link", [][]Item{{Dir("d"), File("d/x", ""), Link(sym, "a", "d")}, {File("a/.wh.x", "")}}, `path "a": holds a whiteout, but is a symlink`},
		{"opaque through a link", [][]Item{{Dir("d/e"), Link(sym, "a", "d")}, {File("a/e/.wh..wh..opq", "")}}, `is a symlink`},
		{"below a file", [][]Item{{File("a", "")}, {File("a/b", "")}}, `path "a/b": "a" is a file`},
		{"hard link outside", [][]Item{{Link(hard, "a", "../../etc/shadow")}}, `hard link to "../../etc/shadow": outside the image`},
		{"hard link to nothing", [][]Item{{Link(hard, "a", "etc/shadow")}}, `hard link to "etc/shadow", which is not there`},
		{"hard link through a link", [][]Item{{Link(sym, "l", "/"), Link(hard, "a", "l/x")}}, `which is not there`},
		{"hard link to a later file", [][]Item{{Link(hard, "a", "b"), File("b", "")}}, `which is not there`},
		{"hard link to a directory", [][]Item{{Dir("d"), Link(hard, "a", "d")}}, `which is a directory`},
		{"device", [][]Item{{device("dev/sda", tar.TypeBlock, 8, 0)}}, `path "dev/sda": block device 8:0: only the spec may name devices`},
		{"other device of a declared name", [][]Item{{device("dev/null", tar.TypeChar, 1, 1)}}, `only the spec may name devices`},
		{"device out of range", [][]Item{{device("dev/null", tar.TypeChar, 1, 1<<20)}}, `device 1:1048576 out of range`},
		{"twice", [][]Item{{File("a", "1"), File("./a", "2")}}, `path "a": twice in this layer`},
		{"directory twice, differently", [][]Item{{Dir("a"), Node(tar.Header{Typeflag: tar.TypeDir, Name: "a", Mode: 0o777})}}, `path "a": twice`},
		{"file over what the layer put", [][]Item{{File("a/b", ""), File("a", "")}}, `path "a": twice`},
		{"link over what the layer put", [][]Item{{File("a/b", ""), Link(sym, "a", "/etc")}}, `path "a": twice`},
		{"whiteout of the parent", [][]Item{{File("a/.wh...", "")}}, `unknown whiteout`},
		{"whiteout without a name", [][]Item{{File(".wh.", "")}}, `unknown whiteout`},
		{"aufs file", [][]Item{{File(".wh..wh.plnk", "")}}, `unknown whiteout`},
		{"whiteout with contents", [][]Item{{File(".wh.a", "x")}}, `whiteout that is no empty file`},
		{"whiteout directory", [][]Item{{Dir(".wh.a")}}, `whiteout that is no empty file`},
		{"below a whiteout", [][]Item{{File(".wh.a/b", "")}}, `lies below the name of a whiteout`},
		{"root that is no directory", [][]Item{{Link(sym, "./", "/etc")}}, `the root is a symlink`},
		{"xattr", [][]Item{{pax("SCHILY.xattr.trusted.overlay.opaque", "y")}}, `path "f": extended attribute "trusted.overlay.opaque": want`},
		{"xattr of the user without a name", [][]Item{{pax("SCHILY.xattr.user.", "y")}}, `extended attribute "user."`},
		{"unknown extended header", [][]Item{{pax("LIBARCHIVE.xattr.user.a", "y")}}, `extended header "LIBARCHIVE.xattr.user.a" is not supported`},
		{"long name", [][]Item{{File(strings.Repeat("x", 300), "")}}, `element longer than 255 bytes`},
		{"empty link", [][]Item{{Link(sym, "a", "")}}, `link target of 0 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(t.TempDir())
			_, err := flatten(t, l, l.Image("amd64", layers(c.layers...)...).ID())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if c.name != "empty link" && (err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("layer %d (sha256:", len(c.layers)-1))) {
				t.Errorf("error %v does not name the layer", err)
			}
		})
	}
}

// TestHostileBlobs: what is not what its digest, size, media type or diff ID says.
func TestHostileBlobs(t *testing.T) {
	archive := Tar(File("a", strings.Repeat("x", 5000)))
	rewrite := func(t *testing.T, l *Layout, d oci.Digest, f func([]byte) []byte) {
		name := oci.Layout(l.Dir).Path(d)
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, f(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, compression := range []string{"", "gzip", "zstd"} {
		blob := Packed(archive, compression).Compressed()
		d := oci.Digest(sha256.Sum256(blob))
		for name, f := range map[string]func([]byte) []byte{
			"longer":  func(b []byte) []byte { return append(b, 0) },
			"shorter": func(b []byte) []byte { return b[:len(b)-1] },
			"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"empty":   func([]byte) []byte { return nil },
			"other":   func([]byte) []byte { return Packed(Tar(File("b", "y")), compression).Compressed() },
		} {
			l := New(t.TempDir())
			id := l.Image("amd64", Packed(archive, compression)).ID()
			rewrite(t, l, d, f)
			if _, err := flatten(t, l, id); err == nil || !strings.HasPrefix(err.Error(), "layer 0 (") {
				t.Errorf("%s %s: error %v", compression, name, err)
			}
		}
	}
	l := New(t.TempDir())
	image := func(media string, blob []byte, diff string) oci.Digest {
		layer := l.Blob(media, blob)
		config := l.JSON("application/vnd.oci.image.config.v1+json", map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{diff}}})
		return l.JSON("application/vnd.oci.image.manifest.v1+json", map[string]any{"schemaVersion": 2, "config": config, "layers": []Descriptor{layer}}).ID()
	}
	diff := oci.Digest(sha256.Sum256(archive)).String()
	const tarType = "application/vnd.oci.image.layer.v1.tar"
	for _, c := range []struct {
		name, want string
		d          oci.Digest
	}{
		{"wrong diff ID", "want the diff ID", image(tarType, archive, "sha256:"+strings.Repeat("0", 64))},
		{"gzip that is none", "gzip: invalid header", image(tarType+"+gzip", archive, diff)},
		{"zstd that is none", "magic number mismatch", image(tarType+"+zstd", archive, diff)},
		{"plain that is gzip", "want the diff ID", image(tarType, Packed(archive, "gzip").Compressed(), diff)},
		{"unknown compression", `media type "application/vnd.oci.image.layer.v1.tar+bzip2": want one of`, image(tarType+"+bzip2", archive, diff)},
		{"foreign layer", `want one of`, image("application/vnd.oci.image.layer.nondistributable.v1.tar", archive, diff)},
		{"no archive", "archive/tar", image(tarType, bytes.Repeat([]byte("x"), 1024), oci.Digest(sha256.Sum256(bytes.Repeat([]byte("x"), 1024))).String())},
		{"huge", fmt.Sprintf("layer 0: %d bytes, want at most %d", int64(oci.MaxLayer+1), int64(oci.MaxLayer)), func() oci.Digest {
			layer := l.Blob(tarType, archive)
			layer.Size = oci.MaxLayer + 1
			config := l.JSON("application/vnd.oci.image.config.v1+json", map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{diff}}})
			return l.JSON("application/vnd.oci.image.manifest.v1+json", map[string]any{"schemaVersion": 2, "config": config, "layers": []Descriptor{layer}}).ID()
		}()},
		{"archive that ends early", "unexpected EOF", image(tarType, archive[:1024], oci.Digest(sha256.Sum256(archive[:1024])).String())},
		{"diff ID of another algorithm", `layer 0: digest "md5:x": want sha256:`, image(tarType, archive, "md5:x")},
	} {
		if _, err := flatten(t, l, c.d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// TestBombs: a layer, and all layers together, unpack to no more than the limit, however small they are.
func TestBombs(t *testing.T) {
	l := New(t.TempDir())
	zeros := Tar(File("zeros", strings.Repeat("\x00", 10<<20)))
	d := l.Image("amd64", Packed(zeros, "gzip"), Packed(Tar(File("a", "")), ""), Packed(zeros, "zstd")).ID()
	im, err := oci.Resolve(ctx, oci.Layout(l.Dir).Get, d, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if im.Layers[0].Size > 1<<20 || im.Layers[2].Size > 1<<20 {
		t.Fatalf("blobs of %d and %d bytes: no bombs", im.Layers[0].Size, im.Layers[2].Size)
	}
	for limit, want := range map[int64]string{1 << 20: "layer 0", int64(len(zeros)): "layer 1", int64(2 * len(zeros)): "layer 2", int64(3 * len(zeros)): ""} {
		dir, n := t.TempDir(), 0
		_, err := oci.Flatten(ctx, im.Layers, oci.Options{Open: oci.Layout(l.Dir).Open, Limit: limit, Scratch: func() string { n++; return filepath.Join(dir, fmt.Sprint(n)) }})
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "unpacks to more than")) {
			t.Errorf("limit %d: error %v, want one of %q", limit, err, want)
		}
		var written int64
		for i := range n {
			if fi, err := os.Stat(filepath.Join(dir, fmt.Sprint(i+1))); err == nil {
				written += fi.Size()
			}
		}
		if written > limit+1 {
			t.Errorf("limit %d: %d bytes written", limit, written)
		}
	}
}
