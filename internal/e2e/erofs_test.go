package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage/disk"
	"tally/mkimage/erofs"
	"tally/mkimage/tree"
	"tally/verity"
)

// TestKernelReadsErofs has Linux list a file system that this project wrote: every kind of entry, all size
// classes, xattrs, hard links and a directory of 100,000 names, under dm-verity. The listing, made by an
// init that walks the tree, must be the one that follows from the tree.
func TestKernelReadsErofs(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	walker := filepath.Join(l.dir, "walker")
	command(t, l.repo, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", walker, "./internal/e2e/testdata/walker")
	tr, err := everything()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Complete(); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	lines := list(h, tr, "t")
	want := fmt.Sprintf("walker: %d lines, digest %x, error <nil>", lines, h.Sum(nil))
	for _, e := range []tree.Entry{tree.NewFile("sbin/init", 0o755, read(t, walker), "test"), {Path: "dev", Kind: tree.Dir, Mode: 0o755}, {Path: "proc", Kind: tree.Dir, Mode: 0o555}, {Path: "sys", Kind: tree.Dir, Mode: 0o555}} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	raw, cmdline := verityDisk(t, tr)
	cmd := exec.Command(l.tally, "run", "--boot", "direct", "--accel", "tcg", "--disk", raw, "--until", "walker: ", editedOut(t, l.out, cmdline))
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), want) {
		t.Errorf("%v, want %q\n%s", err, want, said)
	}
}

// everything is a tree with whatever a file system must be able to hold, below t.
func everything() (*tree.Tree, error) {
	const epoch = 1767225600
	tr := tree.New()
	add := func(e tree.Entry) error { e.Path, e.Source = "t/"+e.Path, "test"; return tr.Add(e) }
	pattern := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*7 + i/256*13 + i/4096)
		}
		return b
	}
	caps := tree.NewFile("bin/ping", 0o4755, pattern(3000), "")
	caps.UID, caps.GID, caps.MTime = 70000, 1<<31+5, epoch-1
	caps.Xattrs = map[string][]byte{
		"security.capability":              {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"user.note":                        []byte("hello"),
		"user.empty":                       nil,
		"user." + strings.Repeat("n", 200): pattern(1000),
		"trusted.overlay.opaque":           []byte("y"),
		"system.posix_acl_access":          {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255},
	}
	es := []tree.Entry{caps,
		{Path: "!early", Kind: tree.HardLink, Link: "t/bin/ping"}, // before "." and before its target
		{Path: "null", Kind: tree.CharDev, Mode: 0o666, Major: 1, Minor: 3, MTime: epoch},
		{Path: "block", Kind: tree.BlockDev, Mode: 0o660, GID: 6, Major: 259, Minor: 0x12345},
		{Path: "fifo", Kind: tree.FIFO, Mode: 0o640},
		{Path: "short", Kind: tree.Symlink, Mode: 0o777, Link: "bin/ping"},
		{Path: "long", Kind: tree.Symlink, Mode: 0o777, Link: strings.Repeat("/0123456789abcdef", 180)},
		{Path: "tmp", Kind: tree.Dir, Mode: 0o1777, MTime: epoch - 7},
		{Path: "a-b", Kind: tree.Dir, Mode: 0o2750, GID: 5}, // sorts between "a" and "a/x"
		tree.NewFile("a/x", 0o444, []byte("x"), ""),
		tree.NewFile("a-b/é \n\\", 0o444, []byte("odd name"), ""),
		tree.NewFile("deep/"+strings.Repeat("d/", 60)+strings.Repeat("f", 255), 0o444, []byte("deep"), ""),
		tree.NewFile("many/000000", 0o644, []byte("one file of many names"), ""),
	}
	for _, n := range []int{0, 1, 1984, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 1 << 20} {
		e := tree.NewFile(fmt.Sprintf("size/%07d", n), 0o644, pattern(n), "")
		e.MTime = int64(n) * 1000
		es = append(es, e)
	}
	for i := 1; i < 100_000; i++ {
		es = append(es, tree.Entry{Path: fmt.Sprintf("many/%06d", i), Kind: tree.HardLink, Link: "t/many/000000"})
	}
	for _, e := range es {
		if err := add(e); err != nil {
			return nil, err
		}
	}
	return tr, nil
}

// list is the walker's listing of the directory at dir, from the tree.
func list(h hash.Hash, tr *tree.Tree, dir string) (lines int) {
	children, links := map[string][]string{}, map[string]int{}
	for _, e := range tr.Entries() {
		if e.Path != "" {
			children[tree.Parent(e.Path)] = append(children[tree.Parent(e.Path)], e.Path)
		}
		switch {
		case e.Kind == tree.HardLink:
			links[e.Link]++
		case e.Kind == tree.Dir:
			links[e.Path] += 2
			links[tree.Parent(e.Path)]++
		default:
			links[e.Path]++
		}
	}
	var walk func(dir string)
	walk = func(dir string) {
		sum := sha256.New()
		for _, p := range children[dir] {
			fmt.Fprintf(sum, "%q\n", filepath.Base(p))
		}
		fmt.Fprintf(h, "%q %d names %x\n", "/"+dir, len(children[dir]), sum.Sum(nil))
		lines++
		for i, p := range children[dir] {
			if len(children[dir]) > 10_000 && i%97 != 0 {
				continue
			}
			e := tr.Get(p)
			if e.Kind == tree.HardLink {
				e = tr.Get(e.Link)
			}
			fmt.Fprintf(h, "%q %s\n", "/"+p, describe(e, links[e.Path]))
			lines++
			if e.Kind == tree.Dir {
				walk(p)
			}
		}
	}
	walk(dir)
	return lines
}

func describe(e *tree.Entry, links int) string {
	types := map[tree.Kind]uint32{tree.FIFO: 0o010000, tree.CharDev: 0o020000, tree.Dir: 0o040000, tree.BlockDev: 0o060000, tree.File: 0o100000, tree.Symlink: 0o120000}
	size, content, device := e.Size, e.Link, uint32(0)
	switch e.Kind {
	case tree.File:
		content = hex.EncodeToString(e.Digest[:])
	case tree.Symlink:
		size = int64(len(e.Link))
	case tree.CharDev, tree.BlockDev:
		device = e.Minor&0xff | e.Major<<8 | (e.Minor>>8)<<20
	}
	var xattrs []string
	for name, value := range e.Xattrs {
		xattrs = append(xattrs, name+"="+string(value))
	}
	slices.Sort(xattrs)
	return fmt.Sprintf("%o %d:%d links %d time %d.0 device %d size %d content %q xattrs %q",
		types[e.Kind]|e.Mode, e.UID, e.GID, links, e.MTime, device, size, content, xattrs)
}

// verityDisk writes a disk with tr as its root, and returns its path and the command line for it. What is
// to stand behind the hash tree, in the same partition, comes along.
func verityDisk(t *testing.T, tr *tree.Tree, behind ...byte) (raw, cmdline string) {
	t.Helper()
	m, err := erofs.Plan(tr, erofs.Options{Epoch: 1767225600})
	if err != nil {
		t.Fatal(err)
	}
	p := verity.Params{DataBlocks: uint64(m.Size() / verity.BlockSize), Salt: []byte("salt")}
	hashSize, err := verity.HashFileSize(p)
	if err != nil {
		t.Fatal(err)
	}
	l, err := disk.Plan(disk.Spec{Name: "walk", RootSize: m.Size(), HashSize: hashSize + int64(len(behind)), ESPPayload: 1})
	if err != nil {
		t.Fatal(err)
	}
	raw = filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := verity.NewWriter(io.NewOffsetWriter(f, l.Hash.Offset), p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteTo(t.Context(), io.MultiWriter(io.NewOffsetWriter(f, l.Root.Offset), w)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(behind, l.Hash.Offset+hashSize); err != nil {
		t.Fatal(err)
	}
	root, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(t.Context(), f, [32]byte(root.Bytes()), []disk.File{{Path: "x", Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	return raw, fmt.Sprintf("roothash=%s tally.verity=1,sha256,4096,4096,%d,1,%x tally.scrub=1 panic=-1 console=ttyS0", root, p.DataBlocks, p.Salt)
}
