package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/oci"
	. "tally/mkimage/oci/ocitest"
	"tally/mkimage/tree"
)

var ctx = context.Background()

// flatten resolves and flattens an image of a layout.
func flatten(t testing.TB, l *Layout, d oci.Digest) (*tree.Tree, error) {
	t.Helper()
	layout := oci.Layout(l.Dir)
	if err := layout.Check(); err != nil {
		return nil, err
	}
	im, err := oci.Resolve(ctx, layout.Get, d, "amd64")
	if err != nil {
		return nil, err
	}
	dir, n := t.TempDir(), 0
	return oci.Flatten(ctx, im.Layers, oci.Options{Open: layout.Open, Source: "oci test", Scratch: func() string { n++; return filepath.Join(dir, fmt.Sprint(n)) },
		Declared: func(e tree.Entry) bool {
			return e.Path == "dev/null" && e.Kind == tree.CharDev && e.Major == 1 && e.Minor == 3
		}})
}

// list prints a tree, with contents, a line an entry.
func list(t testing.TB, tr *tree.Tree) []string {
	t.Helper()
	var all []string
	for _, e := range tr.Entries() {
		if e.Path == "" {
			continue
		}
		text := e.Link
		if e.Kind == tree.File {
			var b bytes.Buffer
			if err := e.CopyTo(ctx, &b, make([]byte, 64)); err != nil {
				t.Error(err)
			}
			text = b.String()
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %04o %s", e.Kind, e.Path, e.Mode, text)))
	}
	return all
}

func layers(all ...[]Item) []Layer {
	var out []Layer
	for i, items := range all {
		out = append(out, Packed(Tar(items...), []string{"gzip", "", "zstd"}[i%3]))
	}
	return out
}

func TestFlatten(t *testing.T) {
	const sym, hard = tar.TypeSymlink, tar.TypeLink
	for _, c := range []struct {
		name   string
		layers [][]Item
		want   []string
	}{
		{"one layer, all spellings of a name", [][]Item{{Dir("./"), Dir("./a/"), File("a/b", "B"), File("/a/c", "C"), Link(sym, "l", "/outside/../x")}},
			[]string{"directory a 0755", "file a/b 0644 B", "file a/c 0644 C", "symlink l 0777 /outside/../x"}},
		{"whiteout", [][]Item{{Dir("a"), File("a/b", "B"), File("a/c", "C")}, {File("a/.wh.b", "")}}, []string{"directory a 0755", "file a/c 0644 C"}},
		{"whiteout of a directory", [][]Item{{Dir("a"), File("a/b", "B"), File("c", "C")}, {File(".wh.a", "")}}, []string{"file c 0644 C"}},
		{"whiteout leaves its own layer alone, wherever it stands", [][]Item{{File("a", "1"), File("b", "1")}, {File("a", "2"), File(".wh.a", ""), File(".wh.b", ""), File("b", "2")}},
			[]string{"file a 0644 2", "file b 0644 2"}},
		{"whiteout of nothing", [][]Item{{File("a", "1")}, {File(".wh.b", ""), File("x/.wh.y", "")}}, []string{"file a 0644 1"}},
		{"opaque", [][]Item{{Dir("d"), File("d/a", "1"), File("d/e/f", "1")}, {File("d/b", "2"), File("d/.wh..wh..opq", "")}}, []string{"directory d 0755", "file d/b 0644 2"}},
		{"opaque in the root", [][]Item{{Dir("d"), File("d/a", "1")}, {File(".wh..wh..opq", ""), File("x", "2")}}, []string{"file x 0644 2"}},
		{"directory on directory keeps what is in it", [][]Item{{Dir("d"), File("d/a", "1")}, {Node(tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o1700})}},
			[]string{"directory d 1700", "file d/a 0644 1"}},
		{"file on directory", [][]Item{{Dir("d"), File("d/a", "1")}, {File("d", "2")}}, []string{"file d 0644 2"}},
		{"directory on link", [][]Item{{Dir("d"), File("d/a", "1"), Link(sym, "l", "d")}, {Dir("l"), File("l/b", "2")}},
			[]string{"directory d 0755", "file d/a 0644 1", "directory l 0755", "file l/b 0644 2"}},
		{"hard links", [][]Item{{File("b", "1"), Link(hard, "a", "./b"), Link(hard, "c", "/a")}}, []string{"file a 0644 1", "hard link b 0644 a", "hard link c 0644 a"}},
		{"hard link to a lower layer", [][]Item{{File("z", "1")}, {Link(hard, "y", "z")}}, []string{"file y 0644 1", "hard link z 0644 y"}},
		{"hard link outlives the other name", [][]Item{{File("a", "1"), Link(hard, "b", "a"), Link(hard, "c", "a")}, {File(".wh.a", ""), File("c", "2")}},
			[]string{"file b 0644 1", "file c 0644 2"}},
		{"hard link to a symbolic link", [][]Item{{Link(sym, "a", "x"), Link(hard, "b", "a")}}, []string{"symlink a 0777 x", "symlink b 0777 x"}},
		{"implied directory stays", [][]Item{{File("a/b", "1")}, {File("a/.wh.b", "")}}, []string{"directory a 0755"}},
		{"same directory twice", [][]Item{{Dir("a"), File("a/b", "1"), Dir("a/")}}, []string{"directory a 0755", "file a/b 0644 1"}},
		{"declared device", [][]Item{{Node(tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3}), File("a", "")}}, []string{"file a 0644"}},
		{"fifo", [][]Item{{Node(tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600})}}, []string{"fifo p 0600"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(t.TempDir())
			tr, err := flatten(t, l, l.Image("amd64", layers(c.layers...)...).ID())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, list(t, tr)); d != "" {
				t.Error(d)
			}
			if err := tr.Complete(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	l := New(t.TempDir())
	it := File("f", "x")
	it.Header.Uid, it.Header.Gid, it.Header.Mode = 1<<31, 42, 0o4755
	it.Header.PAXRecords = map[string]string{"SCHILY.xattr.user.n": "v\x00w", "SCHILY.xattr.security.capability": "cap"}
	tr, err := flatten(t, l, l.Image("amd64", Packed(Tar(it), "zstd")).ID())
	if err != nil {
		t.Fatal(err)
	}
	e := tr.Get("f")
	if e.UID != 1<<31 || e.GID != 42 || e.Mode != 0o4755 || string(e.Xattrs["user.n"]) != "v\x00w" || string(e.Xattrs["security.capability"]) != "cap" || len(e.Xattrs) != 2 {
		t.Errorf("owner %d:%d, mode %o, xattrs %q", e.UID, e.GID, e.Mode, e.Xattrs)
	}
}

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
		{"diff ID of another algorithm", `diff ID 0: digest "md5:x": want sha256:`, image(tarType, archive, "md5:x")},
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

func TestResolve(t *testing.T) {
	l := New(t.TempDir())
	layer := Packed(Tar(File("a", "")), "gzip")
	amd, arm := l.Image("amd64", layer), l.Image("arm64", layer)
	other := l.Image("amd64", Packed(Tar(File("b", "")), ""))
	attestation := arm
	attestation.Platform = map[string]string{"os": "unknown", "architecture": "unknown"}
	v3 := other
	v3.Platform = map[string]string{"os": "linux", "architecture": "amd64", "variant": "v3"}
	none := amd
	none.Platform = nil
	wrong := arm
	wrong.Platform = amd.Platform
	huge := amd
	huge.Size = oci.MaxDocument + 1
	short := amd
	short.Size--
	asConfig := amd
	asConfig.MediaType = "application/vnd.oci.image.config.v1+json"
	docker := amd
	docker.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	for _, c := range []struct {
		name, want string
		d          oci.Digest
	}{
		{"manifest", "", amd.ID()},
		{"index", "", l.Index(attestation, arm, v3, amd).ID()},
		{"the same twice", "", l.Index(amd, amd).ID()},
		{"no image of the platform", `no image for linux/amd64; there is "linux/arm64", "linux/amd64/v3", one without platform`, l.Index(arm, v3, none).ID()},
		{"two images", "two images for linux/amd64", l.Index(amd, other).ID()},
		{"platform of the index is not that of the config", `is for "linux/arm64", want linux/amd64`, l.Index(wrong).ID()},
		{"manifest of another platform", `is for "linux/arm64"`, arm.ID()},
		{"huge", "want at most 4194304", l.Index(huge).ID()},
		{"size", fmt.Sprintf("want %d", short.Size), l.Index(short).ID()},
		{"media type of a descriptor", "want one of application/vnd.oci.image.manifest.v1+json", l.Index(asConfig).ID()},
		{"media types that differ", "the index that names it says", l.Index(docker).ID()},
		{"index of indexes", "want one of", l.Index(func() Descriptor { d := l.Index(amd); d.Platform = amd.Platform; return d }()).ID()},
		{"absent", "is not in the layout", oci.Digest{1}},
		{"no JSON", "invalid character", l.Blob("", []byte("x")).ID()},
		{"both", "want either manifests, or config and layers", l.JSON("", map[string]any{"schemaVersion": 2, "manifests": []any{}, "layers": []any{}}).ID()},
		{"neither", "want either manifests, or config and layers", l.JSON("", map[string]any{"schemaVersion": 2}).ID()},
		{"schema 1", "schemaVersion 1: want 2", l.JSON("", map[string]any{"schemaVersion": 1, "manifests": []any{}}).ID()},
		{"no layers", "0 layers, want 1 to 512", l.Image("amd64").ID()},
		{"no config", "no config", l.JSON("", map[string]any{"schemaVersion": 2, "layers": []any{}}).ID()},
	} {
		im, err := oci.Resolve(ctx, oci.Layout(l.Dir).Get, c.d, "amd64")
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		case c.want == "" && (err != nil || len(im.Layers) != 1 || im.Documents[len(im.Documents)-2].Digest != amd.ID()):
			t.Errorf("%s: %+v, %v", c.name, im, err)
		}
	}
}

func TestReference(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, good := range []string{"registry.example/app", "localhost/app", "localhost:5000/a/b-c_d", "127.0.0.1:1/x", "[::1]:5000/x/y", "a.b/x__y/z--w"} {
		r, err := oci.ParseReference(good + "@" + digest)
		if err != nil || r.Repository != good || r.String() != good+"@"+digest {
			t.Errorf("%s: %v, %v", good, r, err)
		}
	}
	for _, bad := range []string{"registry.example/app", "registry.example/app:1", "registry.example/app:1@" + digest, "app@" + digest, "library/app@" + digest, "registry.example/App@" + digest,
		"registry.example/../app@" + digest, "https://registry.example/app@" + digest, "registry.example/app?x@" + digest, "user@registry.example/app@" + digest, "registry.example/@" + digest,
		"registry.example/app@sha512:00", "registry.example/app@" + strings.ToUpper(digest), "registry.example/app@" + digest + "0"} {
		if _, err := oci.ParseReference(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestLayoutCheck(t *testing.T) {
	dir := t.TempDir()
	if err := oci.Layout(dir).Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
	for text, want := range map[string]string{`{"imageLayoutVersion":"2.0.0"}`: "want 1.0.0", "x": "invalid character", strings.Repeat(" ", 5000): "more than 4096"} {
		if err := os.WriteFile(filepath.Join(dir, oci.LayoutFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := oci.Layout(dir).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, want)
		}
	}
}

// FuzzFlatten: two layers of any bytes give a tree that writers take, or one line.
func FuzzFlatten(f *testing.F) {
	f.Add(Tar(File("a", "1"), Link(tar.TypeLink, "b", "a"), Dir("d"), Link(tar.TypeSymlink, "d/l", "..")), Tar(File(".wh.a", ""), File("d/.wh..wh..opq", ""), File("d/x", "")))
	f.Add(Tar(Node(tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3})), []byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		blobs := map[oci.Digest][]byte{}
		var all []oci.Layer
		for _, b := range [][]byte{one, two} {
			d := oci.Digest(sha256.Sum256(b))
			blobs[d] = b
			all = append(all, oci.Layer{Blob: oci.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: int64(len(b))}, DiffID: d})
		}
		n := 0
		defer func() {
			for i := range n {
				os.Remove(filepath.Join(dir, fmt.Sprint(os.Getpid(), i+1)))
			}
		}()
		tr, err := oci.Flatten(ctx, all, oci.Options{Source: "fuzz",
			Open:    func(b oci.Blob) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blobs[b.Digest])), nil },
			Scratch: func() string { n++; return filepath.Join(dir, fmt.Sprint(os.Getpid(), n)) }})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if err := tr.Complete(); err != nil {
			t.Errorf("a tree that writers refuse: %v", err)
		}
		for _, e := range tr.Entries() {
			if e.Path != "" && tree.CheckPath(e.Path) != nil || e.Kind == tree.CharDev || e.Kind == tree.BlockDev || strings.Contains("/"+e.Path, "/.wh.") {
				t.Errorf("entry %q of kind %s got through", e.Path, e.Kind)
			}
			if e.Kind == tree.File {
				if err := e.CopyTo(ctx, io.Discard, make([]byte, 4096)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// FuzzResolve: an index and a manifest of any bytes give one line or an image within the limits.
func FuzzResolve(f *testing.F) {
	l := New(f.TempDir())
	d := l.Index(l.Image("amd64", Packed(Tar(), "gzip")))
	seed, err := os.ReadFile(oci.Layout(l.Dir).Path(d.ID()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		root := oci.Digest(sha256.Sum256(data))
		get := func(ctx context.Context, b oci.Blob) ([]byte, error) {
			if b.Digest == root {
				return data, nil
			}
			return oci.Layout(l.Dir).Get(ctx, b)
		}
		im, err := oci.Resolve(ctx, get, root, "amd64")
		if err == nil && (len(im.Layers) == 0 || len(im.Documents) < 2) {
			t.Errorf("%+v", im)
		}
	})
}
