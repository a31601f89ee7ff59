package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage/tree"
)

// TestWriteVolume: the helper writes a volume that holds the file, and refuses another file.
func TestWriteVolume(t *testing.T) {
	dir := t.TempDir()
	name, list, out := filepath.Join(dir, "weights"), filepath.Join(dir, "list"), filepath.Join(dir, "out")
	data := bytes.Repeat([]byte("weights "), 1<<18)
	file := treeFile{Path: name, Size: int64(len(data)), Digest: sha256.Sum256(data)}
	text, err := json.Marshal(file)
	if err := errors.Join(err, os.WriteFile(name, data, 0o600), os.WriteFile(list, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := writeVolume(t.Context(), list, out); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Contains(got, data) {
		t.Errorf("%d bytes without the file, %v", len(got), err)
	}
	if err := os.WriteFile(name, bytes.ToUpper(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeVolume(t.Context(), list, out); !errors.Is(err, tree.ErrDigest) {
		t.Errorf("another file: %v", err)
	}
}

// TestHashStream: the floor reads all of a file once, and says when it cannot.
func TestHashStream(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data")
	data := []byte(strings.Repeat("x", 1<<20+5))
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if n, err := hashStream(name, h); err != nil || n != int64(len(data)) || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := hashStream(name+".none", h); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
