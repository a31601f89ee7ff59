package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLocate: the contents of a tar file's members stay where they are and are read from there.
func TestLocate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string]string{"a": "first", "b": strings.Repeat("second ", 1000), "c": ""}
	w := tar.NewWriter(f)
	for _, path := range []string{"a", "b", "c"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: int64(len(want[path]))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, want[path])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.Seek(0, io.SeekStart)
	r := tar.NewReader(f)
	for range want {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		e := Entry{Path: h.Name, Kind: File, Size: h.Size}
		if err := e.Locate(r, f, name); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := e.CopyTo(context.Background(), &got, make([]byte, 100)); err != nil || got.String() != want[h.Name] || e.Digest != sha256.Sum256(got.Bytes()) {
			t.Errorf("%s: %d bytes, %v", h.Name, got.Len(), err)
		}
	}
}

// TestSectionOfAShortFile: what is missing is found by who reads, and the file is named.
func TestSectionOfAShortFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := NewFile("x", 0o644, []byte("789abc"), "test")
	e.Data = Section{name, 7, 6}
	if err := e.CopyTo(context.Background(), io.Discard, make([]byte, 100)); !errors.Is(err, ErrSize) || !strings.Contains(err.Error(), "3 bytes, want 6 (in "+name+")") {
		t.Errorf("error %v", err)
	}
	e.Data = Section{name + ".none", 0, 6}
	if err := e.CopyTo(context.Background(), io.Discard, make([]byte, 100)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	broken := errors.New("broken")
	if err := e.Locate(errReader{broken}, bytes.NewReader(nil), name); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
