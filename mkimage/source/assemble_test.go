package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/tree"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }

func assemble(t *testing.T, p project) (mkimage.Inputs, error) {
	t.Helper()
	store := lock.NewStore(t.TempDir())
	l := open(t, p.write(t))
	k, raw := pin(t, l, store)
	return l.Assemble(context.Background(), k, raw, store, t.TempDir(), 2)
}

func TestAssemble(t *testing.T) {
	in, err := assemble(t, newProject())
	if err != nil {
		t.Fatal(err)
	}
	if string(in.Kernel) != "kernel" || string(in.Stub) != "stub" || !bytes.HasPrefix(in.Init, []byte("\x7fELF")) || in.Name != "p" || in.Epoch != 1767225600 {
		t.Errorf("kernel %q, stub %q, init of %d bytes, name %q, epoch %d", in.Kernel, in.Stub, len(in.Init), in.Name, in.Epoch)
	}
	if len(in.Firmware) != 1 || len(in.Firmware[0].Data) != 4<<20 || !bytes.Equal(in.Firmware[0].Data[:varsSize], volume(varsSize)) {
		t.Error("firmware: the blank variable store is not in it")
	}
	var got []string
	for _, e := range in.Root.Entries() {
		got = append(got, strings.TrimSpace(e.Kind.String()+" "+e.Path+" "+e.Link))
		if e.MTime > in.Epoch || e.Kind == tree.File && strings.HasPrefix(e.Path, "srv") && e.MTime != in.Epoch {
			t.Errorf("%s: time %d", e.Path, e.MTime)
		}
	}
	want := []string{"directory", "directory dev", "character device dev/null", "file etc/data", "directory opt/bin", "file opt/bin/a", "hard link opt/bin/b opt/bin/a",
		"directory proc", "directory run", "file sbin/init", "directory srv/bin", "file srv/bin/tool", "directory srv/empty", "directory srv/etc", "file srv/etc/conf",
		"symlink srv/link ../outside", "directory sys", "directory tmp"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for path, mode := range map[string]uint32{"etc/data": 0o755, "opt/bin/a": 0o750, "srv/bin/tool": 0o755, "srv/etc/conf": 0o644, "sbin/init": 0o755, "dev/null": 0o666, "tmp": 0o1777} {
		if e := in.Root.Get(path); e.Mode != mode {
			t.Errorf("%s: mode %04o, want %04o", path, e.Mode, mode)
		}
	}
	if e := in.Root.Get("opt/bin/a"); e.UID != 7 || e.GID != 8 {
		t.Errorf("opt/bin/a: owner %d:%d, want 7:8", e.UID, e.GID)
	}
	if data, err := contents(context.Background(), in.Root.Get("etc/data")); err != nil || string(data) != "hello" {
		t.Errorf("etc/data %q, %v", data, err)
	}
	if data, err := contents(context.Background(), in.Root.Get("opt/bin/a")); err != nil || string(data) != "A" {
		t.Errorf("opt/bin/a %q, %v", data, err)
	}
	kinds := map[string]int{}
	for _, i := range in.List {
		kinds[i.Kind]++
		if i.SHA256 == (mkimage.Digest{}) {
			t.Errorf("input %s %s has no hash", i.Kind, i.Name)
		}
	}
	if d := cmp.Diff(map[string]int{"package": 3, "file": 3, "dir": 1, "go": 2, "toolchain": 1}, kinds); d != "" {
		t.Error(d)
	}
}

// TestAssembleIsReproducible: two directories, umasks and orders give trees with equal digests.
func TestAssembleIsReproducible(t *testing.T) {
	first, err := assemble(t, newProject())
	if err != nil {
		t.Fatal(err)
	}
	var second mkimage.Inputs
	withUmask(0o077, func() { second, err = assemble(t, newProject()) })
	if err != nil {
		t.Fatal(err)
	}
	if first.Root.Digest(first.Epoch) != second.Root.Digest(second.Epoch) || !bytes.Equal(first.Init, second.Init) {
		t.Error("two assemblies differ")
	}
	a, b := read(t, first.Sources), read(t, second.Sources)
	if !bytes.Equal(a, b) {
		t.Error("two source archives differ")
	}
}

func read(t *testing.T, c tree.Content) []byte {
	t.Helper()
	r, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAssembleRefusals(t *testing.T) {
	tarOf := func(items ...tarItem) string { return string(makeTar(items...)) }
	for _, c := range []struct {
		name, file, text, want string
	}{
		{"tar climbs", "more.tar", tarOf(tarFile("../x", "x", tar.TypeReg)), `root source 2: tar "more.tar": path "../x": element ".."`},
		{"tar absolute", "more.tar", tarOf(tarFile("/x", "x", tar.TypeReg)), `element ""`},
		{"tar twice", "more.tar", tarOf(tarFile("x", "x", tar.TypeReg), tarFile("./x", "x", tar.TypeReg)), `path "x": twice`},
		{"tar device", "more.tar", tarOf(tarFile("x", "", tar.TypeBlock)), "device node: only the spec may name devices"},
		{"tar xattr", "more.tar", tarOf(tarPAX("x", "SCHILY.xattr.trusted.x", "y")), `path "x": extended attribute "trusted.x": want security.capability or user.*`},
		{"tar extended header", "more.tar", tarOf(tarPAX("x", "LIBARCHIVE.xattr.user.x", "y")), `path "x": extended header "LIBARCHIVE.xattr.user.x" is not supported`},
		{"tar link outside", "more.tar", tarOf(tarLink("x", "../y", tar.TypeLink)), `hard link to "../y": outside the archive`},
		{"tar truncated", "more.tar", tarOf(tarFile("x", strings.Repeat("x", 2000), tar.TypeReg))[:1024], "unexpected EOF"},
		{"tar on a file of another source", "image.yaml", strings.Replace(projectSpec, "target: opt}", "target: etc/data}", 1), ""},
		{"xz of nothing", "data.xz", "not xz", `file "data.xz": `},
		{"xz truncated", "data.xz", string(compressXZ(strings.Repeat("hello", 1000))[:60]), `file "data.xz": `},
		{"firmware of odd size", "fw.fd", string(volume(5 << 20)), "firmware fw: 5242880 bytes, want a firmware of 4 MiB"},
		{"firmware without a store", "fw.fd", strings.Repeat("\x00", 4<<20), "firmware fw: 4194304 bytes, want"},
		{"two sources, one path", "image.yaml", strings.Replace(projectSpec, "target: sbin/init", "target: etc/data", 1), `path "etc/data": file`},
		{"stub is not in its package", "image.yaml", strings.Replace(projectSpec, "usr/lib/x.stub", "usr/lib/y.stub", 1), `stub: package stub 1 has no file "usr/lib/y.stub"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject()
			p["images/one/"+c.file] = c.text
			in, err := assemble(t, p)
			if c.want == "" {
				if err == nil {
					err = in.Root.Complete() // what lies below a file is found by the writers
				}
				if err == nil {
					t.Error("no error")
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func tarPAX(name, key, value string) tarItem {
	it := tarFile(name, "", tar.TypeReg)
	it.h.PAXRecords = map[string]string{key: value}
	return it
}

func TestScripts(t *testing.T) {
	one := func(name string, ignore bool, found ...string) ([]string, []string, error) {
		a := &assembler{}
		known, err := a.scripts([]lock.Package{{Name: name}}, []*deb.Archive{{Scripts: found}}, ignore)
		return known, a.in.Omitted, err
	}
	if known, omitted, err := one("x", false, "postrm", "prerm"); err != nil || known != nil || omitted != nil {
		t.Errorf("scripts that never run at installation: %q, %q, %v", known, omitted, err)
	}
	if _, _, err := one("x", false, "postinst", "preinst"); err == nil || !strings.Contains(err.Error(), "package x (postinst, preinst): no script is run") {
		t.Errorf("unknown scripts: %v", err)
	}
	if known, omitted, err := one("mawk", true, "postinst"); err != nil || known != nil || len(omitted) != 1 || omitted[0] != "package mawk: postinst" {
		t.Errorf("ignored scripts: %q, %q, %v", known, omitted, err)
	}
	if known, omitted, err := one("mawk", false, "postinst"); err != nil || len(known) != 1 || omitted != nil {
		t.Errorf("known scripts: %q, %q, %v", known, omitted, err)
	}
}

// TestInputsFile: what was exported is imported elsewhere, the same twice, and no wrong byte gets through.
func TestInputsFile(t *testing.T) {
	ctx := context.Background()
	store := lock.NewStore(t.TempDir())
	l := open(t, newProject().write(t))
	k, raw := pin(t, l, store)
	export := func() []byte {
		var b bytes.Buffer
		left, err := l.Export(ctx, &b, k, raw, ExportOptions{Store: store, Tmp: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(left, []lock.Hash{k.Suites[0].InRelease.SHA256}) { // it exists nowhere
			t.Errorf("left out %q, want the InRelease of this test", left)
		}
		return b.Bytes()
	}
	data := export()
	if !bytes.Equal(data, export()) {
		t.Error("two exports differ")
	}
	fresh := lock.NewStore(t.TempDir())
	if n, err := Import(ctx, bytes.NewReader(data), k, fresh); err != nil || n != 3 {
		t.Fatalf("import: %d files, %v", n, err)
	}
	for _, p := range k.Packages {
		if _, err := fresh.Read(p.Object); err != nil {
			t.Error(err)
		}
	}
	// Cut before an entry, where a tar file may end; what is in the store already need not come again.
	cut := data[:bytes.LastIndex(data, []byte(inputsStore))]
	if n, err := Import(ctx, bytes.NewReader(cut), k, fresh); err != nil || n != 2 {
		t.Errorf("cut, with a full cache: %d files, %v", n, err)
	}
	for i := range 2 {
		if i > 0 {
			cut = makeTar(tarFile(inputsHead, inputsPrefix+"x\n", tar.TypeReg))
		}
		if _, err := Import(ctx, bytes.NewReader(cut), k, lock.NewStore(t.TempDir())); err == nil || !strings.Contains(err.Error(), "inputs file: ends without sha256/") {
			t.Errorf("cut %d: %v", i, err)
		}
	}
	for i := 0; i < bytes.Index(data, []byte(inputsTar)); i += 61 {
		changed := bytes.Clone(data)
		changed[i] ^= 0x10
		damaged := lock.NewStore(t.TempDir())
		_, _ = Import(ctx, bytes.NewReader(changed), k, damaged)
		for _, p := range k.Packages {
			if damaged.Has(p.SHA256, p.Size) {
				if _, err := damaged.Read(p.Object); err != nil {
					t.Fatalf("byte %d changed: wrong bytes in the store", i)
				}
			}
		}
	}
}

func TestImportRefusals(t *testing.T) {
	k, _ := pin(t, open(t, newProject().write(t)), lock.NewStore(t.TempDir()))
	head := tarFile(inputsHead, inputsPrefix+strings.Repeat("0", 64)+"\n", tar.TypeReg)
	for _, c := range []struct {
		name  string
		items []tarItem
		want  string
	}{
		{"another tar", []tarItem{tarFile("x", "", tar.TypeReg)}, `starts with "x"`},
		{"foreign object", []tarItem{head, tarFile("sha256/"+strings.Repeat("1", 64), "x", tar.TypeReg)}, "no input of this lock"},
		{"wrong bytes", []tarItem{head, tarFile("sha256/"+k.Packages[0].SHA256.String(), "x", tar.TypeReg)}, "want "},
		{"foreign name", []tarItem{head, tarFile("etc/passwd", "x", tar.TypeReg)}, "not the name of an input"},
		{"climbs", []tarItem{head, tarFile("goproxy/../../x/@v/v1.0.0.mod", "x", tar.TypeReg)}, "goproxy/../../x"},
		{"climbs in the version", []tarItem{head, tarFile("goproxy/a.example/@v/../../x.mod", "x", tar.TypeReg)}, "goproxy/a.example"},
		{"foreign module", []tarItem{head, tarFile("goproxy/a.example/x/@v/v1.0.0.zip", "x", tar.TypeReg)}, "no module of this lock"},
		{"no proxy file", []tarItem{head, tarFile("goproxy/a.example/x/list", "x", tar.TypeReg)}, "not a file of a module proxy"},
		{"link", []tarItem{head, tarLink("goproxy/x", "/etc", tar.TypeSymlink)}, "want files only"},
		{"order", []tarItem{head, tarFile("sources.tar", "", tar.TypeReg), tarFile("sha256/x", "", tar.TypeReg)}, "twice or not in order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Import(context.Background(), bytes.NewReader(makeTar(c.items...)), k, lock.NewStore(filepath.Join(dir, "store")))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "inputs file: ") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 1 {
				t.Errorf("written outside the store: %v", entries)
			}
		})
	}
}

// TestImportWantsModules: so with a module of the lock; the Go toolchain may be absent.
func TestImportWantsModules(t *testing.T) {
	k := &lock.Lock{Modules: []lock.Module{{Path: "a.example/X", Version: "v1.0.0", Sum: "h1:x"}}, Toolchains: []lock.Toolchain{{Version: "go1.26.8", Platform: "linux-amd64", Sum: "h1:x"}}}
	data := makeTar(tarFile(inputsHead, inputsPrefix+"x\n", tar.TypeReg))
	store := lock.NewStore(t.TempDir())
	if _, err := Import(t.Context(), bytes.NewReader(data), k, store); err == nil || !strings.Contains(err.Error(), "ends without goproxy/a.example/!x/@v/v1.0.0.zip") {
		t.Errorf("without a module: %v", err)
	}
	file := filepath.Join(store.GoProxy(), "a.example", "!x", "@v", "v1.0.0.zip")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), bytes.NewReader(data), k, store); err != nil {
		t.Errorf("with the module in the cache: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	head := tarFile(inputsHead, inputsPrefix+"x\n", tar.TypeReg)
	o := lock.Object{SHA256: [32]byte{1}, Size: 1}
	f.Add(makeTar(head, tarFile("sha256/"+o.SHA256.String(), "x", tar.TypeReg)))
	f.Add(makeTar(head, tarFile("goproxy/a.example/x/@v/v1.0.0.mod", "module x\n", tar.TypeReg)))
	k := &lock.Lock{Packages: []lock.Package{{Object: o}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		store := lock.NewStore(filepath.Join(dir, "store"))
		_, _ = Import(context.Background(), bytes.NewReader(data), k, store)
		if store.Has(o.SHA256, o.Size) {
			t.Error("an object that no bytes can have is in the store")
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 1 {
			t.Errorf("written outside the store: %v", entries)
		}
	})
}

func FuzzReadTar(f *testing.F) {
	f.Add(makeTar(tarFile("./bin/a", "A", tar.TypeReg), tarLink("bin/b", "./bin/a", tar.TypeLink), tarLink("c", "/x", tar.TypeSymlink)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readTar(context.Background(), bytes.NewReader(data), "x", "tar x")
		if err != nil {
			return
		}
		for _, e := range r.Entries() {
			if e.Path != "" && tree.CheckPath(e.Path) != nil || e.Kind == tree.CharDev || e.Kind == tree.BlockDev {
				t.Errorf("entry %q of kind %s got through", e.Path, e.Kind)
			}
		}
	})
}
