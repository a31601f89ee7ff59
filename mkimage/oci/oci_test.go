package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
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
		{"opaque directory on link", [][]Item{{Dir("d"), File("d/a", "1"), Link(sym, "l", "d")}, {Dir("l"), File("l/.wh..wh..opq", ""), File("l/.wh.a", ""), File("l/b", "2")}},
			[]string{"directory d 0755", "file d/a 0644 1", "directory l 0755", "file l/b 0644 2"}},
		{"opaque directory in one on a removed file", [][]Item{{File("a", "1")}, {File(".wh.a", ""), Dir("a/b"), File("a/b/.wh..wh..opq", ""), File("a/b/c", "2")}},
			[]string{"directory a 0755", "directory a/b 0755", "file a/b/c 0644 2"}},
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
