package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestVerityInterrupted stops a format that would take minutes: no output, no temporary file, empty
// stdout, and a hash file that was there before is still the old one.
func TestVerityInterrupted(t *testing.T) {
	dir := t.TempDir()
	data, hash := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
	f, err := os.Create(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil {
		t.Skipf("SKIPPED: no sparse file of 1 TiB here: %v", err)
	}
	f.Close()
	if err := os.WriteFile(hash, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tally", "verity", "format", data, hash},
		{"tally", "verity", "format", data, filepath.Join(dir, "new")},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var stdout, stderr bytes.Buffer
		code := Main(ctx, args, bytes.NewReader(nil), &stdout, &stderr)
		cancel()
		if code != exitFailed || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, &stdout, &stderr)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v (%v), want data and hash", entries, err)
	}
	if b, err := os.ReadFile(hash); err != nil || string(b) != "old" {
		t.Errorf("hash file %q (%v), want the old one", b, err)
	}
}

// TestVerityNamesLast: when the root-hash file cannot get its name, HASH and the error correction data have none either.
func TestVerityNamesLast(t *testing.T) {
	dir := t.TempDir()
	data, root := filepath.Join(dir, "data"), filepath.Join(dir, "root")
	if err := os.WriteFile(data, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := onWrite(func() { os.Mkdir(root, 0o755) }) // after the file was begun: then its rename fails
	var stdout bytes.Buffer
	code := Main(t.Context(), []string{"tally", "verity", "format", data, filepath.Join(dir, "hash"),
		"--fec-device", filepath.Join(dir, "fec"), "--root-hash-file", root}, bytes.NewReader(nil), &stdout, taken)
	if code != exitFailed || stdout.Len() > 0 {
		t.Errorf("exit code %d, stdout %q", code, &stdout)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v (%v), want data and root", entries, err)
	}
}

// onWrite is a stderr that does something when it is written to.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

// TestCopyFile: parts make the whole, and a context that has ended stops the copy before the next part.
func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "src")
	if err := os.WriteFile(name, []byte("head"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const size = copyPart + 5
	if _, err := src.WriteAt([]byte("tail"), size-4); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		want int64
		err  error
	}{{ended, 0, context.Canceled}, {t.Context(), size, nil}} {
		dst, err := os.CreateTemp(dir, "dst")
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		if err := copyFile(c.ctx, dst, src); err != c.err {
			t.Errorf("%v, want %v", err, c.err)
		}
		if got, err := fileSize(dst); err != nil || got != c.want {
			t.Errorf("%d bytes (%v), want %d", got, err, c.want)
		}
		if b := make([]byte, 4); c.err == nil {
			if _, err := dst.ReadAt(b, size-4); err != nil || string(b) != "tail" {
				t.Errorf("the end is %q (%v)", b, err)
			}
		}
	}
}
