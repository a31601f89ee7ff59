package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/lock"
)

// TestArchive: the archive holds what the build reads and nothing else, in one form whatever umask and
// directory, and what is unpacked from it pins and archives to the same bytes again.
func TestArchive(t *testing.T) {
	ctx := context.Background()
	store := lock.NewStore(t.TempDir())
	l := open(t, newProject().write(t))
	k, raw := pin(t, l, store)
	first := archive(t, l, raw)
	want := []string{
		"0644 .tally-sources", "0644 cmd/app/main.go", "0644 cmd/init/main.go", "0644 go.mod",
		"0644 images/one/data.xz", "0644 images/one/fw.fd", "0644 images/one/image.lock", "0644 images/one/image.yaml", "0644 images/one/more.tar",
		"0755 images/shared/rootfs/", "0755 images/shared/rootfs/bin/", "0755 images/shared/rootfs/bin/tool", "0755 images/shared/rootfs/empty/",
		"0755 images/shared/rootfs/etc/", "0644 images/shared/rootfs/etc/conf", "0777 images/shared/rootfs/link ../outside", "0644 lib/lib.go",
	}
	if d := cmp.Diff(want, names(t, first)); d != "" {
		t.Error(d)
	}
	var second []byte
	withUmask(0o077, func() {
		p := newProject()
		p["unrelated/y.go"] = "package unrelated // a commit that does not matter\n"
		other := open(t, p.writeTo(t, filepath.Join(t.TempDir(), "another clone")))
		if err := other.Check(ctx, k); err != nil {
			t.Errorf("the lock is stale in another clone: %v", err)
		}
		second = archive(t, other, raw)
	})
	if !bytes.Equal(first, second) {
		t.Error("another clone under another umask gives another archive")
	}
	var third []byte
	withUmask(0o027, func() {
		file, err := Extract(ctx, bytes.NewReader(first), filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(filepath.Dir(file), lock.FileName)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("the lock beside the extracted spec: %v", err)
		}
		again := open(t, file)
		if err := again.Check(ctx, k); err != nil {
			t.Errorf("the lock is stale in what was extracted: %v", err)
		}
		third = archive(t, again, raw)
	})
	if !bytes.Equal(first, third) {
		t.Error("what was extracted gives another archive")
	}
}

func TestExtractRefusals(t *testing.T) {
	head := tarFile(headName, headPrefix+".\n", tar.TypeReg)
	spec, lck := tarFile("image.yaml", "x", tar.TypeReg), tarFile("image.lock", "y", tar.TypeReg)
	for _, c := range []struct {
		name  string
		items []tarItem
		want  string
	}{
		{"empty", nil, "empty"},
		{"another tar", []tarItem{spec}, `starts with "image.yaml"`},
		{"another version", []tarItem{tarFile(headName, "tally.sources/v2 .\n", tar.TypeReg)}, "want the file .tally-sources"},
		{"base climbs", []tarItem{tarFile(headName, headPrefix+"../x\n", tar.TypeReg)}, `element ".."`},
		{"no spec", []tarItem{head, lck}, `no file "image.yaml"`},
		{"no lock", []tarItem{head, spec}, `no file "image.lock"`},
		{"climbs", []tarItem{head, tarFile("../evil", "x", tar.TypeReg)}, `element ".."`},
		{"climbs inside", []tarItem{head, tarFile("a/../../evil", "x", tar.TypeReg)}, `element ".."`},
		{"absolute", []tarItem{head, tarFile("/etc/evil", "x", tar.TypeReg)}, `element ""`},
		{"backslash", []tarItem{head, tarFile("a\\..\\b", "x", tar.TypeReg)}, "backslash"},
		{"twice", []tarItem{head, tarFile("a", "x", tar.TypeReg), tarFile("a", "y", tar.TypeReg)}, "twice or not in order"},
		{"order", []tarItem{head, tarFile("b", "x", tar.TypeReg), tarFile("a", "y", tar.TypeReg)}, "twice or not in order"},
		{"through a link", []tarItem{head, tarLink("a", "/tmp", tar.TypeSymlink), tarFile("a/evil", "x", tar.TypeReg)}, `lies below "a", which is no directory`},
		{"below a file", []tarItem{head, tarFile("a", "x", tar.TypeReg), tarFile("a/b", "x", tar.TypeReg)}, `lies below "a"`},
		{"hard link", []tarItem{head, tarLink("a", "/etc/passwd", tar.TypeLink)}, "entry type '1'"},
		{"device", []tarItem{head, tarFile("a", "", tar.TypeChar)}, "entry type '3'"},
		{"fifo", []tarItem{head, tarFile("a", "", tar.TypeFifo)}, "entry type '6'"},
		{"head again", []tarItem{head, head}, "twice or not in order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			_, err := Extract(context.Background(), bytes.NewReader(makeTar(c.items...)), filepath.Join(parent, "out"))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "source archive: ") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(parent, "evil")); err == nil {
				t.Error("something was written outside")
			}
		})
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(context.Background(), bytes.NewReader(makeTar(head, lck, spec)), full); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a full directory: %v", err)
	}
	whole := makeTar(head, lck, spec)
	if _, err := Extract(context.Background(), bytes.NewReader(whole[:1100]), filepath.Join(full, "y")); err == nil {
		t.Error("truncated archive: no error")
	}
}

// TestStale changes one input after the other; each is named.
func TestStale(t *testing.T) {
	ctx := context.Background()
	l := open(t, newProject().write(t))
	k, _ := pin(t, l, lock.NewStore(t.TempDir()))
	if err := l.Check(ctx, k); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, text, want string }{
		{"images/one/image.yaml", projectSpec + "# a comment\n", "the spec is not what the lock pinned"},
		{"images/one/data.xz", "x", "file data.xz is not what the lock pinned"},
		{"images/one/fw.fd", "x", "file fw.fd is not"},
		{"images/one/more.tar", "x", "file more.tar is not"},
		{"images/shared/rootfs/etc/conf", "x", "directory ../shared/rootfs is not"},
		{"images/shared/rootfs/etc/new", "x", "directory ../shared/rootfs is not"},
		{"images/shared/rootfs/etc/conf", "#!conf", "directory ../shared/rootfs is not"},
		{"images/shared/rootfs/etc/dir/", "", "directory ../shared/rootfs is not"},
		{"lib/lib.go", "package lib\n\n// F does something.\nfunc F() { println() }\n", "go source ./cmd/app is not"},
		{"cmd/init/other.go", "package main\n", "go source ./cmd/init is not"},
		{"go.mod", "module example.org/p\n\ngo 1.26.1\n\ntoolchain go1.26.8\n", "go source ./cmd/app is not"},
		{"go.mod", "module example.org/p\n\ngo 1.26.0\n\ntoolchain go1.26.999\n", "go1.26.999"},
	} {
		p := newProject()
		delete(p, c.file)
		p[c.file] = c.text
		file := p.write(t)
		err := open(t, file).Check(ctx, k)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s changed: error %v, want one with %q", c.file, err, c.want)
		}
		var stale *StaleError
		if !strings.Contains(c.want, "999") && !errors.As(err, &stale) {
			t.Errorf("%s changed: error of type %T, want a StaleError", c.file, err)
		}
	}
	// What the lock pins and the spec does not name, and the other way round.
	extra := *k
	extra.Files = append(extra.Files, lock.File{Path: "gone"})
	if err := l.Check(ctx, &extra); err == nil || err.Error() != "file gone is in the lock, but the spec does not name it" {
		t.Errorf("extra file: %v", err)
	}
	extra.Files = nil
	if err := l.Check(ctx, &extra); err == nil || err.Error() != "file data.xz is not in the lock" {
		t.Errorf("missing file: %v", err)
	}
	extra = *k
	extra.Toolchains = nil
	if err := l.Check(ctx, &extra); err == nil || err.Error() != "toolchain go1.26.8 is not in the lock" {
		t.Errorf("missing toolchain: %v", err)
	}
}

// TestChangedMeanwhile: a file that changes between Check and the build is an error, not another image.
func TestChangedMeanwhile(t *testing.T) {
	for _, name := range []string{"lib/lib.go", "images/one/data.xz", "images/shared/rootfs/etc/conf"} {
		dir := t.TempDir()
		l := open(t, newProject().writeTo(t, dir))
		_, raw := pin(t, l, lock.NewStore(t.TempDir()))
		file := filepath.Join(dir, filepath.FromSlash(name))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[0] ^= 1
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := l.WriteArchive(context.Background(), &b, raw); err == nil || !strings.Contains(err.Error(), "changed since it was pinned") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestArchiveOntoAFullDisk: a write that fails is not said to be a changed source.
func TestArchiveOntoAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	l := open(t, newProject().writeTo(t, t.TempDir()))
	_, raw := pin(t, l, lock.NewStore(t.TempDir()))
	if err := l.WriteArchive(context.Background(), full, raw); err == nil || strings.Contains(err.Error(), "changed since") {
		t.Errorf("full disk: %v", err)
	}
}

func TestDirRefusals(t *testing.T) {
	for _, c := range []struct {
		name, path string
		make       func(dir string) error
		want       string
	}{
		{"absent", "none", func(string) error { return nil }, "no such file"},
		{"a file", "f", func(d string) error { return os.WriteFile(filepath.Join(d, "f"), nil, 0o644) }, `directory "f": is a`},
		{"a link", "l", func(d string) error { return os.Symlink(".", filepath.Join(d, "l")) }, `directory "l": is a L`},
		{"holds the spec", ".", func(string) error { return nil }, `directory ".": holds the spec itself`},
		{"above the spec", "..", func(string) error { return nil }, `directory "..": holds the spec itself`},
		{"a named pipe", "d", func(d string) error {
			return errors.Join(os.Mkdir(filepath.Join(d, "d"), 0o755), mkfifo(filepath.Join(d, "d", "pipe")))
		}, "pipe: is a named pipe, want files, directories and symbolic links"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject()
			p["images/one/image.yaml"] = strings.Replace(projectSpec, "../shared/rootfs", c.path, 1)
			file := p.write(t)
			if err := c.make(filepath.Dir(file)); err != nil {
				t.Fatal(err)
			}
			err := open(t, file).Pin(context.Background(), new(lock.Lock))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestExtractWhereNamesFold: to some file systems "A" and "a" are one name, so that the list of names does not tell that
// "a" is a link. What is written stays below the directory all the same.
func TestExtractWhereNamesFold(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, h := range []*tar.Header{{Typeflag: tar.TypeReg, Name: "a/evil", Mode: 0o644}, {Typeflag: tar.TypeDir, Name: "a/evil/"}, {Typeflag: tar.TypeSymlink, Name: "a/evil", Linkname: "x"}} {
		x := &extractor{root: root, headed: true, kinds: map[string]byte{"A": tar.TypeSymlink}, tr: tar.NewReader(strings.NewReader(""))}
		if err := x.one(h); err == nil {
			t.Errorf("type %q: no error", h.Typeflag)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
}

func FuzzExtract(f *testing.F) {
	head := tarFile(headName, headPrefix+".\n", tar.TypeReg)
	f.Add(makeTar(head, tarFile("image.lock", "y", tar.TypeReg), tarFile("image.yaml", "x", tar.TypeReg)))
	f.Add(makeTar(head, tarLink("a", "/tmp", tar.TypeSymlink), tarFile("a/evil", "x", tar.TypeReg)))
	f.Add(makeTar(head, tarFile("d/", "", tar.TypeDir), tarFile("d/x", "x", tar.TypeReg)))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		_, _ = Extract(context.Background(), bytes.NewReader(data), filepath.Join(parent, "out"))
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) > 1 {
			t.Errorf("written outside: %v, %v", entries, err)
		}
		fs.WalkDir(os.DirFS(parent), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
			}
			return nil
		})
	})
}
