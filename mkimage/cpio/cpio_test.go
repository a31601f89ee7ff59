package cpio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// goldenV1 is the SHA-256 of the fixture's archive in layout v1; see mkimage/erofs for what a change means.
const goldenV1 = "60ac721728bfe056253c778d1cbb62b5245c0b9cb506366dfb7810e4266c9155"

// fixture is the shared fixture without xattrs, which newc cannot hold.
func fixture(t testing.TB, reverse bool) *tree.Tree {
	t.Helper()
	tr, err := treetest.Fixture(reverse)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range tr.Entries() {
		if len(e.Xattrs) > 0 {
			bare := *e
			bare.Xattrs = nil
			if err := tr.Replace(bare); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tr
}

func build(t testing.TB, tr *tree.Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(context.Background(), &b, tr, treetest.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) || n%blockSize != 0 {
		t.Fatalf("Write returned %d, wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		sum := sha256.Sum256(build(t, fixture(t, reverse)))
		if got := hex.EncodeToString(sum[:]); got != goldenV1 {
			t.Errorf("reverse %v: layout v1 has changed: archive %s, want %s", reverse, got, goldenV1)
		}
	}
}

// A whole archive by hand, from the format's description.
func TestBytes(t *testing.T) {
	tr := tree.New()
	e := tree.NewFile("init", 0o755, []byte("hello"), "test")
	e.MTime = treetest.Epoch + 1
	if err := tr.Add(e); err != nil {
		t.Fatal(err)
	}
	want := "070701" + "00000001" + "000081ED" + "00000000" + "00000000" + "00000001" + "6955B900" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000005" + "00000000" + "init\x00" + "\x00" + "hello\x00\x00\x00" +
		"070701" + "00000000" + "00000000" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "0000000B" + "00000000" + "TRAILER!!!\x00" + "\x00\x00\x00"
	want += strings.Repeat("\x00", 512-len(want))
	// The header has 110 bytes, so that the 5 of "init" are followed by one of padding.
	if diff := cmp.Diff(want, string(build(t, tr))); diff != "" {
		t.Error(diff)
	}
}

type record struct {
	name string
	f    [13]uint32 // ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
	data string
}

// parse reads an archive as the kernel does: header, name and data each padded to 4.
func parse(t *testing.T, b []byte) []record {
	t.Helper()
	var all []record
	for off := 0; ; {
		if string(b[off:off+6]) != "070701" {
			t.Fatalf("offset %d: no magic", off)
		}
		var r record
		for i := range r.f {
			v, err := strconv.ParseUint(string(b[off+6+8*i:off+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			r.f[i] = uint32(v)
		}
		off += 110
		r.name = string(b[off : off+int(r.f[11])-1])
		off = (off + int(r.f[11]) + 3) &^ 3
		if r.name == trailer {
			if strings.Trim(string(b[off:]), "\x00") != "" {
				t.Error("bytes after the trailer")
			}
			return all
		}
		r.data = string(b[off : off+int(r.f[6])])
		off = (off + int(r.f[6]) + 3) &^ 3
		all = append(all, r)
	}
}

func TestParseBack(t *testing.T) {
	tr := fixture(t, false)
	records := parse(t, build(t, tr))
	if len(records) != tr.Len()-1 {
		t.Fatalf("%d records, want %d", len(records), tr.Len()-1)
	}
	first := map[uint32]string{}
	for i, e := range tr.Entries()[1:] {
		r := records[i]
		file := e
		if e.Kind == tree.HardLink {
			file = tr.Get(e.Link)
		}
		want := record{name: e.Path, data: file.Link}
		if data, ok := file.Data.(tree.Bytes); ok {
			want.data = string(data)
		}
		if other, linked := first[r.f[0]]; linked {
			if e.Kind != tree.HardLink && file.Path != "bin/ping" {
				t.Errorf("%s has the inode number of %s", r.name, other)
			}
			want.data = "" // later names of a file carry no contents
		}
		first[r.f[0]] = r.name
		nlink := r.f[4]
		if file.Path == "bin/ping" && nlink != 3 || file.Kind == tree.File && file.Path != "bin/ping" && nlink != 1 || file.Path == "dev" && nlink != 2 {
			t.Errorf("%s: link count %d", r.name, nlink)
		}
		want.f = [13]uint32{r.f[0], modeType(file.Kind) | file.Mode, file.UID, file.GID, nlink, uint32(max(0, min(file.MTime, treetest.Epoch))),
			uint32(len(want.data)), 0, 0, file.Major, file.Minor, uint32(len(e.Path) + 1), 0}
		if r != want {
			t.Errorf("record %d: %.300v, want %.300v", i, r, want)
		}
	}
}

// GNU cpio must list and extract the archive.
func TestCpioExtracts(t *testing.T) {
	program := testtool.Need(t, "cpio")
	tr := fixture(t, false)
	for _, p := range []string{"dev/null", "dev/big"} { // an ordinary user cannot make devices
		e := *tr.Get(p)
		e.Kind, e.Major, e.Minor = tree.FIFO, 0, 0
		if err := tr.Replace(e); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "--extract", "--make-directories", "--preserve-modification-time", "--no-preserve-owner", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(build(t, tr))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	inos := map[string]uint64{}
	for _, e := range tr.Entries()[1:] {
		info, err := os.Lstat(filepath.Join(dir, e.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		inos[e.Path] = info.Sys().(*syscall.Stat_t).Ino
		got, want := "", e.Link
		switch {
		case info.Mode().IsRegular():
			b, _ := os.ReadFile(filepath.Join(dir, e.Path))
			got = string(b)
			if e.Kind == tree.HardLink {
				e = tr.Get(e.Link)
			}
			want = ""
			if data, ok := e.Data.(tree.Bytes); ok {
				want = string(data)
			}
		case info.Mode().Type() == fs.ModeSymlink:
			got, _ = os.Readlink(filepath.Join(dir, e.Path))
		}
		if got != want {
			t.Errorf("%s: %d bytes, want %d", e.Path, len(got), len(want))
		}
	}
	if inos["bin/ping"] != inos["bin/pong"] || inos["bin/ping"] != inos["!early"] {
		t.Error("hard links were not extracted as links")
	}
}

func TestRefuses(t *testing.T) {
	entry := func(path string, change func(*tree.Entry)) *tree.Tree {
		tr := tree.New()
		e := tree.NewFile(path, 0o644, []byte("12345"), "package x")
		change(&e)
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	tests := []struct {
		name  string
		tree  *tree.Tree
		epoch int64
		want  string
	}{
		{"size", entry("f", func(e *tree.Entry) { e.Size = 6 }), 0, tree.ErrSize.Error()},
		{"digest", entry("f", func(e *tree.Entry) { e.Digest[31]++ }), 0, tree.ErrDigest.Error()},
		{"xattr", entry("f", func(e *tree.Entry) { e.Xattrs = map[string][]byte{"user.x": nil} }), 0, "cannot hold"},
		{"trailer", entry(trailer, func(*tree.Entry) {}), 0, "ends an archive"},
		{"4 GiB", entry("f", func(e *tree.Entry) { e.Size = 1 << 32 }), 0, "less than 4 GiB"},
		{"epoch", tree.New(), 1 << 32, "epoch 4294967296"},
		{"negative epoch", tree.New(), -1, "epoch -1"},
		{"dangling hard link", func() *tree.Tree {
			tr := tree.New()
			if err := tr.Add(tree.Entry{Path: "a", Kind: tree.HardLink, Link: "b"}); err != nil {
				t.Fatal(err)
			}
			return tr
		}(), 0, "no file of this image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Write(context.Background(), io.Discard, tt.tree, tt.epoch); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, io.Discard, fixture(t, false), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	broken := fmt.Errorf("disk full")
	if _, err := Write(context.Background(), failing{broken}, fixture(t, false), 0); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }
