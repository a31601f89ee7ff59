package erofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// goldenV1 is the SHA-256 of the fixture's image in layout v1. When it changes, published images can no
// longer be rebuilt: that is layout v2, and v1 must stay buildable.
const goldenV1 = "2b5754b6947a508ea109c7e30822ab76cffb9e839a3346981fc84b2a1269fb29"

func build(t testing.TB, tr *tree.Tree, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(context.Background(), &b, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) || n%BlockSize != 0 {
		t.Fatalf("Write returned %d, wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func fixtureImage(t testing.TB, reverse bool) []byte {
	t.Helper()
	tr, err := treetest.Fixture(reverse)
	if err != nil {
		t.Fatal(err)
	}
	return build(t, tr, Options{Epoch: treetest.Epoch, Label: "fixture"})
}

func TestGolden(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		sum := sha256.Sum256(fixtureImage(t, reverse))
		if got := hex.EncodeToString(sum[:]); got != goldenV1 {
			t.Errorf("reverse %v: layout v1 has changed: image %s, want %s", reverse, got, goldenV1)
		}
	}
}

func TestPlanKnowsSize(t *testing.T) {
	tr, _ := treetest.Fixture(false)
	m, err := Plan(tr, Options{Epoch: treetest.Epoch, Label: "fixture"})
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(len(fixtureImage(t, false))); m.Size() != got {
		t.Errorf("Size is %d, image has %d bytes", m.Size(), got)
	}
	// An image may be written more than once.
	var a, b bytes.Buffer
	for _, w := range []io.Writer{&a, &b} {
		if _, err := m.WriteTo(context.Background(), w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("second WriteTo differs from the first")
	}
}

// The UUID names what the image shows: a time after the epoch shows as the epoch, any other change moves it.
func TestUUID(t *testing.T) {
	uuid := func(change func(*tree.Entry)) [16]byte {
		tr := tree.New()
		e := tree.NewFile("f", 0o644, []byte("x"), "test")
		e.MTime = 2000
		change(&e)
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
		m, err := Plan(tr, Options{Epoch: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return m.UUID()
	}
	base := uuid(func(*tree.Entry) {})
	if base[6]>>4 != 8 || base[8]>>6 != 2 {
		t.Errorf("UUID %x is not version 8, variant 10", base)
	}
	if uuid(func(e *tree.Entry) { e.MTime = 3000 }) != base {
		t.Error("a time beyond the epoch moved the UUID")
	}
	if uuid(func(e *tree.Entry) { e.MTime = 999 }) == base {
		t.Error("a time before the epoch did not move the UUID")
	}
	if uuid(func(e *tree.Entry) { e.UID = 1 }) == base {
		t.Error("an owner did not move the UUID")
	}
}

type failing struct{}

func (failing) Open() (io.ReadCloser, error) { return nil, errors.New("gone") }

func TestRefuses(t *testing.T) {
	entry := func(change func(*tree.Entry)) *tree.Tree {
		tr := tree.New()
		e := tree.NewFile("etc/f", 0o644, []byte("12345"), "package x")
		change(&e)
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	tests := []struct {
		name string
		tree *tree.Tree
		opts Options
		is   error
		want string
	}{
		{"longer than declared", entry(func(e *tree.Entry) { e.Size = 4 }), Options{}, tree.ErrSize, `"etc/f" from package x`},
		{"shorter than declared", entry(func(e *tree.Entry) { e.Size = 6000 }), Options{}, tree.ErrSize, "5 bytes, want 6000"},
		{"empty by declaration only", entry(func(e *tree.Entry) { e.Size = 0 }), Options{}, tree.ErrSize, "want 0"},
		{"other bytes", entry(func(e *tree.Entry) { e.Digest[0] ^= 1 }), Options{}, tree.ErrDigest, "etc/f"},
		{"no digest", entry(func(e *tree.Entry) { e.Digest = [32]byte{} }), Options{}, tree.ErrDigest, "etc/f"},
		{"unreadable", entry(func(e *tree.Entry) { e.Data = failing{} }), Options{}, nil, "gone"},
		{"unknown xattr", entry(func(e *tree.Entry) { e.Xattrs = map[string][]byte{"btrfs.x": nil} }), Options{}, nil, `"btrfs.x"`},
		{"prefix only", entry(func(e *tree.Entry) { e.Xattrs = map[string][]byte{"user.": nil} }), Options{}, nil, `"user."`},
		{"too many xattrs", entry(func(e *tree.Entry) { e.Xattrs = map[string][]byte{"user.x": make([]byte, 4100)} }), Options{}, nil, "at most 4032"},
		{"label", tree.New(), Options{Label: strings.Repeat("l", 17)}, nil, "at most 16 bytes"},
		{"epoch", tree.New(), Options{Epoch: -1}, nil, "epoch -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Write(context.Background(), io.Discard, tt.tree, tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %q and %v", err, tt.want, tt.is)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tr, _ := treetest.Fixture(false)
	if _, err := Write(ctx, io.Discard, tr, Options{Epoch: treetest.Epoch}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestWriteError(t *testing.T) {
	tr, _ := treetest.Fixture(false)
	if err := tr.Add(tree.NewFile("large", 0o644, treetest.Pattern(3<<20), "test")); err != nil {
		t.Fatal(err)
	}
	for _, room := range []int{0, 1 << 20, 2 << 20, 3 << 20} {
		if _, err := Write(context.Background(), &full{left: room}, tr, Options{}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("room %d: got %v, want disk full", room, err)
		}
	}
}
