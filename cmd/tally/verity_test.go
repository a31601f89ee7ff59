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
