package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// TestHashPath holds the archive hash against Nix's own.
func TestHashPath(t *testing.T) {
	testtool.Need(t, "nix-hash")
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a": 0o644, "run": 0o755, "sub/eight..8": 0o600, "sub/empty": 0o644, "Z": 0o444} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Repeat("x", len(name)%9)), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/../a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "run"), filepath.Join(dir, "link")} {
		got, err := hashPath(path)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("nix", "--extra-experimental-features", "nix-command", "hash", "path", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s: %s, nix says %s", filepath.Base(path), got, want)
		}
	}
	if _, err := hashPath(filepath.Join(dir, "absent")); err == nil {
		t.Error("a path that is not there has a hash")
	}
}
