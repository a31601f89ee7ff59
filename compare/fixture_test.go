package compare_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tally/compare"
	"tally/mkimage"
	"tally/mkimage/tree"
)

const epoch = 1767225600

// peFile is a PE32+ EFI application with the given sections, by name and data.
func peFile(header int, sections ...string) []byte {
	const coff, optLen = 0x80, 112 + 16*8
	le := binary.LittleEndian
	b := make([]byte, header)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], coff)
	copy(b[coff:], "PE\x00\x00")
	le.PutUint16(b[coff+4:], 0x8664)
	le.PutUint16(b[coff+6:], uint16(len(sections)/2))
	le.PutUint32(b[coff+8:], 1776109085)
	le.PutUint16(b[coff+20:], optLen)
	le.PutUint16(b[coff+22:], 0x22e)
	opt := b[coff+24:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[16:], 4096)
	le.PutUint32(opt[32:], 4096)
	le.PutUint32(opt[36:], 512)
	le.PutUint32(opt[60:], uint32(header))
	le.PutUint16(opt[68:], 10)
	le.PutUint16(opt[70:], 0x160)
	le.PutUint32(opt[108:], 16)
	up := func(n, unit int) int { return (n + unit - 1) / unit * unit }
	addr := 4096
	for i := 0; i < len(sections); i += 2 {
		h, data := b[coff+24+optLen+i/2*40:], sections[i+1]
		copy(h[:8], sections[i])
		le.PutUint32(h[8:], uint32(len(data)))
		le.PutUint32(h[12:], uint32(addr))
		le.PutUint32(h[16:], uint32(up(len(data), 512)))
		le.PutUint32(h[20:], uint32(len(b)))
		le.PutUint32(h[36:], 0x40000040)
		b = append(b, data...)
		b = append(b, make([]byte, up(len(b), 512)-len(b))...)
		addr += up(len(data), 4096)
	}
	le.PutUint32(b[coff+24+56:], uint32(addr))
	return b
}

// kernel is a PE file with the header of a bzImage that names a version.
func kernel(version string) []byte {
	b := peFile(2048, ".text", strings.Repeat("kernel "+version+" ", 900))
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300)
	copy(b[0x500:], version+" (build@example) #1 SMP\x00")
	return b
}

func stub(version string) []byte {
	return peFile(1536, ".text", strings.Repeat("\xc3", 5000),
		".sbat", "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\nsystemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n",
		".sdmagic", "#### LoaderInfo: systemd-stub "+version+" ####", ".reloc", "reloc")
}

// content returns n bytes without a pattern, the same for the same seed.
func content(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// inputs is a small image; the same on every call.
func inputs(t testing.TB) mkimage.Inputs {
	t.Helper()
	root, modules := tree.New(), tree.New()
	add := func(to *tree.Tree, path string, mode uint32, data []byte) {
		t.Helper()
		e := tree.NewFile(path, mode, data, "test")
		e.MTime = epoch - 1000
		if err := to.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(root, "etc/motd", 0o644, []byte("welcome\nto the image\n"))
	add(root, "etc/app.conf", 0o644, []byte("listen = 80\nworkers = 4\n"))
	add(root, "usr/bin/app", 0o755, content(20000, 1))
	add(root, "usr/bin/big", 0o755, content(300000, 2))
	add(root, "usr/lib/libx.so.1", 0o644, content(9000, 3))
	if err := root.Add(tree.Entry{Path: "usr/bin/app2", Kind: tree.HardLink, Link: "usr/bin/app"}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"dev", "proc", "sys", "tmp"} {
		if err := root.Add(tree.Entry{Path: dir, Kind: tree.Dir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	add(modules, "usr/lib/modules/6.12.1-test/modules.builtin", 0o644, nil)
	return mkimage.Inputs{
		Name: "fixture", Version: "1", Epoch: epoch, Cmdline: "console=ttyS0", Root: root, KernelTree: modules, Kernel: kernel("6.12.1-test"),
		Init: content(5000, 4), Stub: stub("257.9"), Spec: []byte("name: fixture\n"), Lock: []byte("{}\n"), Sources: tree.Bytes("sources"),
		Firmware: []mkimage.FirmwareInput{{Name: "ovmf", Vars: "as-is", Data: content(8192, 5)}},
		List:     []mkimage.Input{{Kind: "package", Name: "libx1", Version: "1.0-1", Verified: "index"}, {Kind: "toolchain", Name: "go1.26.7", Version: "linux-amd64", Verified: "hash"}},
	}
}

// build makes an output directory from the fixture, changed by change.
func build(t testing.TB, change func(*mkimage.Inputs)) string {
	t.Helper()
	in := inputs(t)
	if change != nil {
		change(&in)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := mkimage.Build(t.Context(), in, out, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return out
}

// shared is the image of the unchanged fixture, built once.
var shared struct {
	once sync.Once
	dir  string
}

// base returns the output directory of the unchanged fixture. Tests must not change it.
func base(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "tally-compare-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir = filepath.Join(dir, "out")
		if _, err := mkimage.Build(t.Context(), inputs(t), shared.dir, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	})
	return shared.dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.dir != "" {
		os.RemoveAll(filepath.Dir(shared.dir))
	}
	os.Exit(code)
}

// edit changes one entry of a tree.
func edit(t testing.TB, tr *tree.Tree, path string, f func(*tree.Entry)) {
	t.Helper()
	e := *tr.Get(path)
	f(&e)
	if err := tr.Replace(e); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces the contents of a file.
func rewrite(t testing.TB, tr *tree.Tree, path string, data []byte) {
	t.Helper()
	edit(t, tr, path, func(e *tree.Entry) {
		n := tree.NewFile(e.Path, e.Mode, data, e.Source)
		n.MTime = e.MTime
		*e = n
	})
}

func paths(t testing.TB, a, b string, opt compare.Options) *compare.Report {
	t.Helper()
	r, err := compare.Paths(t.Context(), a, b, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// causes are the causes of a report as text, for messages.
func causes(r *compare.Report) string {
	var b strings.Builder
	for _, c := range r.Causes {
		fmt.Fprintf(&b, "  %s (%d, %s)\n", c.Cause, c.Count, c.Example)
	}
	return b.String()
}

func hasCause(r *compare.Report, want string) bool {
	for _, c := range r.Causes {
		if strings.Contains(c.Cause, want) {
			return true
		}
	}
	return false
}

// flip changes one bit of a file, in place.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	b[0] ^= 1
	if _, werr := f.WriteAt(b, off); errors.Join(err, werr) != nil {
		t.Fatal(err, werr)
	}
}

// indexOf is the offset of some bytes in a file.
func indexOf(t testing.TB, path string, what []byte) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, what)
	if i < 0 {
		t.Fatalf("%s does not hold %.20q", path, what)
	}
	return int64(i)
}

// copyDir copies a directory of files.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		os.Chmod(path, 0o755)
		return err
	})
	return to
}
