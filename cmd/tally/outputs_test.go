package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOneOutputTwice: two outputs at one place are refused, and neither is written.
func TestOneOutputTwice(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := writeAll(output{a, []byte("1")}, output{"./a", []byte("2")}); exitCode(err) != exitUsage {
		t.Errorf("exit code of %v", err)
	}
	if _, err := os.Lstat(a); err == nil {
		t.Error("one of them was written")
	}
	if err := writeAll(output{a, []byte("1")}, output{}, output{b, []byte("2")}, output{}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", b); err != nil {
		t.Fatal(err)
	}
	if err := writeAll(output{a, []byte("1")}, output{b, []byte("2")}); exitCode(err) != exitUsage {
		t.Errorf("through a link: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}
