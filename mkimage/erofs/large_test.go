package erofs

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"

	"tally/internal/testtool"
	"tally/mkimage/tree"
)

// manyNames is a directory of 100,000 names: 1,000 files, the others hard links.
func manyNames(t testing.TB) *tree.Tree {
	t.Helper()
	tr := tree.New()
	for i := range 100_000 {
		e := tree.NewFile(fmt.Sprintf("many/%d", i), 0o644, []byte{byte(i)}, "test")
		if i >= 1000 {
			e = tree.Entry{Path: e.Path, Kind: tree.HardLink, Link: fmt.Sprintf("many/%d", i%1000), Source: "test"}
		}
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func onDisk(t testing.TB, tr *tree.Tree) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &sparse{f: f}
	n, err := Write(context.Background(), s, tr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	return p
}

func fsck(t testing.TB, image string) {
	t.Helper()
	msg, err := exec.Command(testtool.Need(t, "fsck.erofs"), image).CombinedOutput()
	if err != nil || bytes.Contains(msg, []byte("<E>")) {
		t.Errorf("fsck.erofs: %v\n%.2000s", err, msg)
	}
}

// sparse writes to a file and leaves holes for what is zero.
type sparse struct {
	f   *os.File
	off int64
}

func (s *sparse) Write(p []byte) (int, error) {
	const run = 64 << 10
	var zeros [run]byte
	for b := p; len(b) > 0; b = b[min(run, len(b)):] {
		part := b[:min(run, len(b))]
		if !bytes.Equal(part, zeros[:len(part)]) {
			if _, err := s.f.WriteAt(part, s.off); err != nil {
				return 0, err
			}
		}
		s.off += int64(len(part))
	}
	return len(p), nil
}

// Every name of a large directory must be found where a binary search looks for it.
func TestManyNames(t *testing.T) {
	image := onDisk(t, manyNames(t))
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.ReadDir(img, "many")
	if err != nil || len(names) != 100_000 {
		t.Fatalf("%d names, %v", len(names), err)
	}
	for _, i := range []int{0, 1, 9, 10, 99, 100, 999, 1000, 54321, 99_998, 99_999} {
		b, err := fs.ReadFile(img, fmt.Sprintf("many/%d", i))
		if err != nil || len(b) != 1 || b[0] != byte(i%1000) {
			t.Errorf("%d: %v, %v", i, b, err)
		}
	}
	if _, err := fs.Stat(img, "many/100000"); err == nil {
		t.Error("a name that is not there was found")
	}
	fsck(t, image)
}

// zerosThenEnd is a file of zeros that ends in a few other bytes.
type zerosThenEnd struct{ size int64 }

const end = "the end"

func (z zerosThenEnd) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(io.LimitReader(zero{}, z.size-int64(len(end))), strings.NewReader(end))), nil
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The size of the large file, beyond what 32 bits can hold, and its SHA-256 as sha256sum prints it:
// (head -c 4294967296 /dev/zero; printf 'the end') | sha256sum
const (
	largeSize = 1<<32 + int64(len(end))
	largeSum  = "325aa8e820be09bf0e3049cabe35d97bc3aab25d6c387042665a068b900a7409"
)

// TestLargeFile writes a file of more than 4 GiB, with another behind it, and reads both ends.
func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	tr := tree.New()
	large := tree.Entry{Path: "large", Kind: tree.File, Mode: 0o644, Size: largeSize, Data: zerosThenEnd{largeSize}, Source: "test"}
	if _, err := hex.Decode(large.Digest[:], []byte(largeSum)); err != nil {
		t.Fatal(err)
	}
	behind := tree.NewFile("last", 0o644, make([]byte, 5000), "test")
	for _, e := range []tree.Entry{large, behind} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	image := onDisk(t, tr)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fs.Stat(img, "large")
	if err != nil || info.Size() != largeSize {
		t.Fatalf("size %v, %v, want %d", info, err, largeSize)
	}
	ranges := info.(interface{ DataRange() []goerofs.DataRange }).DataRange()
	if len(ranges) != 1 || ranges[0].Size != largeSize {
		t.Fatalf("the data lies at %v, want one range of %d", ranges, largeSize)
	}
	b := make([]byte, len(end)+3)
	if _, err := f.ReadAt(b, ranges[0].Offset+largeSize-int64(len(b))); err != nil || string(b) != "\x00\x00\x00"+end {
		t.Errorf("last bytes %q, %v", b, err)
	}
	if info, err := fs.Stat(img, "last"); err != nil || info.Size() != 5000 {
		t.Errorf("the file behind: %v, %v", info, err)
	}
	fsck(t, image)
}
