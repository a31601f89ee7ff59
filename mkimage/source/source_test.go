package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ulikunitz/xz"

	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
)

// A project is a directory tree of a test: names to contents; a name ending in "/" is a directory, a
// content starting with "->" a symbolic link, "#!" an executable.
type project map[string]string

const projectSpec = `name: p
version: "1"
epoch: 1767225600
root:
  - dir: {path: ../shared/rootfs, target: srv}
  - file: {path: data.xz, decompress: xz, target: etc/data, executable: true}
  - tar: {path: more.tar, target: opt}
  - go: {module: ../.., package: ./cmd/app, target: sbin/init}
devices: [{path: dev/null, type: char, major: 1, minor: 3, mode: 0666}]
init: {go: {module: ../.., package: ./cmd/init}}
kernel: {debian: {suites: [trixie], package: linux-image-x}}
modules: []
stub: {debian: {suites: [trixie], package: stub, path: usr/lib/x.stub}}
firmware:
  - {name: fw, file: {path: fw.fd}, vars: blank}
`

func newProject() project {
	return project{
		"go.mod":                         "module example.org/p\n\ngo 1.26.0\n\ntoolchain go1.26.8\n",
		"cmd/app/main.go":                "package main\n\nimport \"example.org/p/lib\"\n\nfunc main() { lib.F() }\n",
		"cmd/init/main.go":               "package main\n\nfunc main() {}\n",
		"lib/lib.go":                     "package lib\n\n// F does nothing.\nfunc F() {}\n",
		"unrelated/x.go":                 "package unrelated\n",
		"images/shared/rootfs/etc/conf":  "conf",
		"images/shared/rootfs/bin/tool":  "#!tool",
		"images/shared/rootfs/link":      "->../outside",
		"images/shared/rootfs/empty/":    "",
		"images/one/image.yaml":          projectSpec,
		"images/one/data.xz":             string(compressXZ("hello")),
		"images/one/more.tar":            string(makeTar(tarFile("./", "", tar.TypeDir), tarFile("./bin", "", tar.TypeDir), tarFile("./bin/a", "A", tar.TypeReg), tarLink("bin/b", "./bin/a", tar.TypeLink))),
		"images/one/fw.fd":               string(volume(4 << 20)),
		"images/one/not-named-by-spec.c": "x",
	}
}

func volume(size int) []byte {
	b := bytes.Repeat([]byte{0xff}, size)
	copy(b[40:], "_FVH")
	return b
}

// write puts the project below a new directory and returns the path of its spec.
func (p project) write(t *testing.T) string {
	t.Helper()
	return p.writeTo(t, t.TempDir())
}

func (p project) writeTo(t *testing.T, dir string) string {
	t.Helper()
	for name, text := range p {
		file := filepath.Join(dir, filepath.FromSlash(name))
		parent := filepath.Dir(file)
		if strings.HasSuffix(name, "/") {
			parent = file
		}
		if err := os.MkdirAll(parent, 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
		case strings.HasPrefix(text, "->"):
			err = os.Symlink(text[2:], file)
		case strings.HasPrefix(text, "#!"):
			err = os.WriteFile(file, []byte(text), 0o777)
		default:
			err = os.WriteFile(file, []byte(text), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "images", "one", "image.yaml")
}

func compressXZ(text string) []byte {
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

type tarItem struct {
	h    tar.Header
	data string
}

func tarFile(name, data string, kind byte) tarItem {
	return tarItem{tar.Header{Name: name, Typeflag: kind, Mode: 0o750, Uid: 7, Gid: 8, Size: int64(len(data))}, data}
}

func tarLink(name, target string, kind byte) tarItem {
	return tarItem{tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}, ""}
}

func makeTar(items ...tarItem) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, it := range items {
		if err := w.WriteHeader(&it.h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(it.data)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// makeDeb returns a binary package with these files.
func makeDeb(name string, items ...tarItem) []byte { return makeDebWithScript(name, "", items...) }

// makeDebWithScript adds an empty maintainer script to it.
func makeDebWithScript(name, script string, items ...tarItem) []byte {
	control := []tarItem{tarFile("./control", "Package: "+name+"\nVersion: 1\nArchitecture: amd64\n", tar.TypeReg)}
	if script != "" {
		control = append(control, tarFile("./"+script, "", tar.TypeReg))
	}
	zip := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
		return b.Bytes()
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.gz", zip(makeTar(control...))},
		{"data.tar.gz", zip(makeTar(items...))},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func open(t *testing.T, spec string) *Local {
	t.Helper()
	l, err := Open(spec, "", os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	l.commands = commands
	return l
}

// commands are shared, because each hashes a whole toolchain once.
var commands = map[string]*gosrc.Command{}

// pin makes a lock of the spec's local inputs, with the packages of a test's own in store.
func pin(t *testing.T, l *Local, store *lock.Store) (*lock.Lock, []byte) {
	t.Helper()
	k := &lock.Lock{Arch: "amd64", Suites: []lock.Suite{{Name: "trixie", Archive: "debian", Snapshot: "20260905T100000Z", Signers: []string{}, Indexes: []lock.Index{}}}, Packages: []lock.Package{}}
	if err := l.Pin(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	add := func(user, name string, items ...tarItem) {
		o, err := store.Put(makeDeb(name, items...))
		if err != nil {
			t.Fatal(err)
		}
		k.Packages = append(k.Packages, lock.Package{Name: name, Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/" + name + ".deb", Object: o, For: []string{user}})
	}
	add("kernel", "linux-image-x", tarFile("./boot/vmlinuz-1", "kernel", tar.TypeReg), tarFile("./usr/lib/modules/1/modules.builtin", "", tar.TypeReg))
	add("stub", "stub", tarFile("./usr/lib/x.stub", "stub", tar.TypeReg))
	add("vars", "ovmf", tarFile("./"+lock.VarsFile, string(volume(varsSize)), tar.TypeReg))
	raw, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if k, err = lock.Parse(raw, "image.lock"); err != nil {
		t.Fatal(err)
	}
	return k, raw
}

func archive(t *testing.T, l *Local, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.WriteArchive(context.Background(), &b, raw); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// names lists a tar file: mode, name and link of each entry.
func names(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d %q, time %s", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%04o %s %s", h.Mode, h.Name, h.Linkname)))
	}
}

func withUmask(mask int, f func()) {
	old := syscall.Umask(mask)
	defer syscall.Umask(old)
	f()
}
