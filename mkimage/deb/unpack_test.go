package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tally/internal/testtool"
	"tally/mkimage/tree"
)

var sampleHeaders = []tar.Header{
	{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
	{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755},
	{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
	{Name: "./usr/bin/a", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1, Gid: 2},
	{Name: "./usr/bin/b", Typeflag: tar.TypeLink, Linkname: "./usr/bin/a", Mode: 0o755},
	{Name: "./usr/bin/c", Typeflag: tar.TypeSymlink, Linkname: "/etc/x", Mode: 0o777},
	{Name: "./usr/\xe9t\xe9", Typeflag: tar.TypeSymlink, Linkname: "\xff", Mode: 0o777, Format: tar.FormatGNU},
	{Name: "./usr/empty", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "cap"}},
}

var sampleContents = map[string]string{"./usr/bin/a": "hello"}

// list renders entries as chisel's tests do.
func list(t *testing.T, a *Archive) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, e := range a.Entries {
		text := fmt.Sprintf("%s %04o %d:%d", e.Kind, e.Mode, e.UID, e.GID)
		switch e.Kind {
		case tree.File:
			var b bytes.Buffer
			if err := e.CopyTo(t.Context(), &b, make([]byte, 7)); err != nil {
				t.Fatal(err)
			}
			text += " " + b.String()
		case tree.Symlink, tree.HardLink:
			text += " -> " + e.Link
		}
		for k, v := range e.Xattrs {
			text += fmt.Sprintf(" %s=%s", k, v)
		}
		all[e.Path] = text
	}
	return all
}

var sampleList = map[string]string{
	"usr":           "directory 0755 0:0",
	"usr/bin":       "directory 0755 0:0",
	"usr/bin/a":     "file 4755 1:2 hello",
	"usr/bin/b":     "hard link 0755 0:0 -> usr/bin/a",
	"usr/bin/c":     "symlink 0777 0:0 -> /etc/x",
	"usr/\xe9t\xe9": "symlink 0777 0:0 -> \xff", // no UTF-8: as it is, from the cache too
	"usr/empty":     "file 0644 0:0  security.capability=cap",
}

func TestUnpack(t *testing.T) {
	data := tarFile(t, sampleContents, sampleHeaders...)
	for name, member := range map[string][]byte{"data.tar": data, "data.tar.gz": gz(data), "data.tar.xz": xzipped(t, data), "data.tar.zst": zst(t, data)} {
		path, sum := save(t, arFile("debian-binary", []byte("2.0\n"), "control.tar.xz", xzipped(t, control(t, "postinst", "prerm")), name, member))
		cache := t.TempDir()
		for _, when := range []string{"cold", "cached"} {
			a, err := Unpack(t.Context(), path, sum, cache)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, when, err)
			}
			if d := cmp.Diff(sampleList, list(t, a)); d != "" {
				t.Errorf("%s, %s:\n%s", name, when, d)
			}
			if d := cmp.Diff([]string{"postinst", "prerm"}, a.Scripts); d != "" || a.Control["version"] != "1-1" || a.Control["description"] != "a\nb" {
				t.Errorf("%s, %s: scripts %q, control %q", name, when, a.Scripts, a.Control)
			}
			os.Remove(path) // the cache must do without
		}
	}
}

// TestDamagedCache: a damaged list is made again, damaged contents are an error.
func TestDamagedCache(t *testing.T) {
	path, sum := save(t, debFile(t, tarFile(t, sampleContents, sampleHeaders...)))
	cache := t.TempDir()
	if _, err := Unpack(t.Context(), path, sum, cache); err != nil {
		t.Fatal(err)
	}
	lists, _ := filepath.Glob(filepath.Join(cache, "*.json"))
	b, err := os.ReadFile(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(lists[0], b[:len(b)/2], 0o644)
	a, err := Unpack(t.Context(), path, sum, cache)
	if err != nil {
		t.Fatalf("damaged list: %v", err)
	}
	tars, _ := filepath.Glob(filepath.Join(cache, "*.tar"))
	b, err = os.ReadFile(tars[0])
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(tars[0])
	if _, err := Unpack(t.Context(), path, sum, cache); err != nil {
		t.Fatalf("missing contents: %v", err)
	}
	os.WriteFile(tars[0], bytes.Replace(b, []byte("hello"), []byte("jello"), 1), 0o644)
	for _, e := range a.Entries {
		if e.Path == "usr/bin/a" {
			if err := e.CopyTo(t.Context(), io.Discard, make([]byte, 64)); !errors.Is(err, tree.ErrDigest) || !strings.Contains(err.Error(), tars[0]) {
				t.Errorf("damaged contents: %v, want %v that names %s", err, tree.ErrDigest, tars[0])
			}
		}
	}
}

func TestUnpackRefusals(t *testing.T) {
	one := func(h tar.Header) []byte { return debFile(t, tarFile(t, map[string]string{h.Name: "x"}, h)) }
	good := debFile(t, tarFile(t, sampleContents, sampleHeaders...))
	data := tarFile(t, nil)
	stanzas := func(text string) []byte {
		control := tarFile(t, map[string]string{"control": text}, tar.Header{Name: "control"})
		return arFile("debian-binary", []byte("2.0\n"), "control.tar", control, "data.tar", data)
	}
	for name, c := range map[string]struct {
		deb  []byte
		want string
	}{
		"empty":               {nil, "starts with"},
		"no archive":          {[]byte("PK\x03\x04 something else"), "starts with"},
		"truncated header":    {good[:70], "truncated"},
		"truncated data":      {good[:len(good)-2000], "truncated"},
		"unknown compression": {arFile("debian-binary", []byte("2.0\n"), "control.tar.gz", gz(control(t)), "data.tar.lz4", data), "unknown compression"},
		"no data":             {arFile("debian-binary", []byte("2.0\n"), "control.tar.gz", gz(control(t))), "want debian-binary"},
		"other order":         {arFile("control.tar", control(t), "debian-binary", []byte("2.0\n"), "data.tar", data), "want debian-binary"},
		"another first":       {arFile("debian-binarx", []byte("2.0\n"), "control.tar", control(t), "data.tar", data), "want debian-binary"},
		"version 3":           {arFile("debian-binary", []byte("3.0\n"), "control.tar", control(t), "data.tar", data), "format version"},
		"no control":          {arFile("debian-binary", []byte("2.0\n"), "control.tar", data, "data.tar", data), `no file "control"`},
		"damaged gzip":        {arFile("debian-binary", []byte("2.0\n"), "control.tar.gz", []byte("x"), "data.tar", data), "EOF"},
		"climbing path":       {one(tar.Header{Name: "./../etc/passwd", Typeflag: tar.TypeReg}), `element ".."`},
		"absolute path":       {one(tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg}), "not allowed"},
		"dot inside":          {one(tar.Header{Name: "./a/./b", Typeflag: tar.TypeReg}), `element "."`},
		"device":              {debFile(t, tarFile(t, nil, tar.Header{Name: "./dev/sda", Typeflag: tar.TypeBlock})), "only the spec may name devices"},
		"char device":         {debFile(t, tarFile(t, nil, tar.Header{Name: "./dev/tty", Typeflag: tar.TypeChar})), "only the spec may name devices"},
		"fifo":                {debFile(t, tarFile(t, nil, tar.Header{Name: "./run/x", Typeflag: tar.TypeFifo})), "not supported"},
		"duplicate path":      {debFile(t, tarFile(t, nil, tar.Header{Name: "./a", Typeflag: tar.TypeReg}, tar.Header{Name: "a", Typeflag: tar.TypeReg})), `path "a" twice`},
		"hard link outside":   {debFile(t, tarFile(t, nil, tar.Header{Name: "./a", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"})), "outside the image"},
		"setting attribute":   {one(tar.Header{Name: "./a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.security.selinux": "x"}}), "want security.capability or user.*"},
		"unknown record":      {one(tar.Header{Name: "./a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"VENDOR.thing": "x"}}), `"VENDOR.thing" is not supported`},
		"owner over 32 bits":  {one(tar.Header{Name: "./a", Typeflag: tar.TypeReg, Uid: 1 << 32, Format: tar.FormatGNU}), "out of range"},
		"negative group":      {one(tar.Header{Name: "./a", Typeflag: tar.TypeReg, Gid: -1, Format: tar.FormatGNU}), "out of range"},
		"mode of nothing":     {one(tar.Header{Name: "./a", Typeflag: tar.TypeReg, Mode: 0o200644}), "out of range"},
		"global header":       {debFile(t, tarFile(t, nil, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}})), "not supported"},
		"two controls":        {arFile("debian-binary", []byte("2.0\n"), "control.tar", tarFile(t, nil, tar.Header{Name: "postinst"}, tar.Header{Name: "./postinst"}), "data.tar", data), `path "postinst" twice`},
		"climbing script":     {arFile("debian-binary", []byte("2.0\n"), "control.tar", tarFile(t, nil, tar.Header{Name: "x/../postinst"}), "data.tar", data), `element ".."`},
		"large control":       {arFile("debian-binary", []byte("2.0\n"), "control.tar.gz", gz(tarFile(t, map[string]string{"x": strings.Repeat("x", maxControl)}, tar.Header{Name: "x"})), "data.tar", data), "more than 16777216 bytes"},
		"two stanzas":         {stanzas("Package: x\n\nPackage: y\n"), "want one stanza"},
		"empty stanza":        {stanzas("\n\n"), "want one stanza"},
		"latin-1 stanza":      {stanzas("Package: x\nMaintainer: Andr\xe9\n"), `field "maintainer": not in UTF-8`},
		"truncated tar":       {debFile(t, tarFile(t, sampleContents, sampleHeaders...)[:700]), "data.tar"},
	} {
		cache := t.TempDir()
		path, sum := save(t, c.deb)
		if a, err := Unpack(t.Context(), path, sum, cache); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, a, err, c.want)
		}
		if left, _ := os.ReadDir(cache); len(left) != 0 {
			t.Errorf("%s: left %v in the cache", name, left)
		}
	}
	path, sum := save(t, good)
	sum[0] ^= 1
	if _, err := Unpack(t.Context(), path, sum, t.TempDir()); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("wrong hash: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sum[0] ^= 1
	if _, err := Unpack(ctx, path, sum, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLimits: what is too large is not read on, before anything is hashed or kept.
func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge.deb")
	if err := os.WriteFile(path, []byte(arMagic), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, MaxPackage+1); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	if _, err := Unpack(t.Context(), path, [32]byte{}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "want at most 4294967296") {
		t.Errorf("huge package: %v", err)
	}
	data := tarFile(t, sampleContents, sampleHeaders...)
	for limit, want := range map[int64]string{int64(len(data)): "", int64(len(data)) - 1: "more than", 1000: "more than 1000 bytes"} {
		p := &position{ctx: t.Context(), r: bytes.NewReader(data), limit: limit}
		_, err := readData(p, "x", func(int64, int64) tree.Content { return tree.Bytes(nil) })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("limit of %d bytes: %v, want %q", limit, err, want)
		}
	}
}

// TestHardLinkToNothing: what only the whole tree can tell.
func TestHardLinkToNothing(t *testing.T) {
	path, sum := save(t, debFile(t, tarFile(t, nil, tar.Header{Name: "./a", Typeflag: tar.TypeLink, Linkname: "./b"})))
	a, err := Unpack(t.Context(), path, sum, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	for _, e := range a.Entries {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Complete(); err == nil || !strings.Contains(err.Error(), "no file of this image") {
		t.Errorf("error %v", err)
	}
}

// TestAgainstDpkgDeb builds a package with dpkg-deb and compares what we read with what it lists.
func TestAgainstDpkgDeb(t *testing.T) {
	tool := testtool.Need(t, "dpkg-deb")
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for path, text := range map[string]string{"DEBIAN/control": "Package: xx\nVersion: 2:1.0~rc1-1\nArchitecture: all\nMaintainer: nobody <n@example>\nDescription: test\n", "etc/one": "1", "usr/share/two words": "22"} {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, compression := range []string{"xz", "gzip", "zstd", "none"} {
		file := filepath.Join(dir, compression+".deb")
		if out, err := exec.Command(tool, "--root-owner-group", "-Z"+compression, "--build", root, file).CombinedOutput(); err != nil {
			if compression == "zstd" && strings.Contains(string(out), "unknown compression") {
				t.Log("this dpkg-deb has no zstd")
				continue
			}
			t.Fatalf("%s: %v\n%s", compression, err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path, sum := save(t, b)
		a, err := Unpack(t.Context(), path, sum, t.TempDir())
		if err != nil {
			t.Fatalf("%s: %v", compression, err)
		}
		fsys, err := exec.Command(tool, "--fsys-tarfile", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for tr := tar.NewReader(bytes.NewReader(fsys)); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if p := strings.Trim(strings.TrimPrefix(h.Name, "."), "/"); p != "" {
				content, _ := io.ReadAll(tr)
				want[p] = string(content)
			}
		}
		got := map[string]string{}
		for _, e := range a.Entries {
			var buf bytes.Buffer
			if e.Kind == tree.File {
				if err := e.CopyTo(t.Context(), &buf, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			got[e.Path] = buf.String()
		}
		if d := cmp.Diff(want, got); d != "" || len(got) < 5 {
			t.Errorf("%s:\n%s", compression, d)
		}
	}
}

// TestScriptsAreSorted, whatever the order in the package.
func TestScriptsAreSorted(t *testing.T) {
	_, scripts, err := readControl(t.Context(), bytes.NewReader(control(t, "prerm", "config", "postinst")), "control.tar")
	if want := []string{"config", "postinst", "prerm"}; err != nil || !slices.Equal(scripts, want) {
		t.Errorf("%v, %v; want %v", scripts, err, want)
	}
}

func FuzzAr(f *testing.F) {
	f.Add(arFile("debian-binary", []byte("2.0\n"), "x", []byte("y")))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := readAr(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, m := range ms {
			if m.offset < 0 || m.size < 0 || m.offset+m.size > int64(len(b)) {
				t.Errorf("member %+v outside of %d bytes", m, len(b))
			}
		}
	})
}

func FuzzDataTar(f *testing.F) {
	f.Add(tarFile(f, sampleContents, sampleHeaders...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &position{ctx: t.Context(), r: bytes.NewReader(b), limit: 1 << 20}
		entries, err := readData(p, "x", func(int64, int64) tree.Content { return tree.Bytes(nil) })
		if err != nil {
			return
		}
		for _, e := range entries {
			if err := tree.CheckPath(e.Path); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add([]byte("A: b\n c\n\nD: e\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewParagraphReader(bytes.NewReader(b))
		for range 100 {
			if _, err := r.Next(); err != nil {
				return
			}
		}
	})
}

func FuzzControlTar(f *testing.F) {
	f.Add(control(f, "postinst"))
	f.Fuzz(func(t *testing.T, b []byte) {
		para, scripts, err := readControl(t.Context(), bytes.NewReader(b), "control.tar")
		if err == nil && (para == nil || len(scripts) > len(scriptNames)) {
			t.Errorf("%d scripts of %v", len(scripts), para)
		}
	})
}

// FuzzDeb holds the first reading against the one from the cache.
func FuzzDeb(f *testing.F) {
	for _, data := range [][]byte{tarFile(f, sampleContents, sampleHeaders...), tarFile(f, nil)} {
		f.Add(debFile(f, data, "postinst"))
		f.Add(arFile("debian-binary", []byte("2.0\n"), "control.tar.xz", xzipped(f, control(f)), "data.tar.zst", zst(f, data)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path, sum := save(t, b)
		cache := t.TempDir()
		cold, err := Unpack(t.Context(), path, sum, cache)
		if err != nil {
			return
		}
		os.Remove(path)
		cached, err := Unpack(t.Context(), path, sum, cache)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(cold, cached, cmp.AllowUnexported(slice{}), cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
