package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOwnersOfNoFiles: what lies beside an image is a file or is not read; a pipe is not waited for.
func TestOwnersOfNoFiles(t *testing.T) {
	for _, pipe := range []string{"image.yaml", "image.lock", "sources.tar"} {
		dir := t.TempDir()
		for _, name := range []string{"image.yaml", "image.lock"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		name := filepath.Join(dir, pipe)
		if err := errors.Join(os.RemoveAll(name), syscall.Mkfifo(name, 0o600)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := readOwners(dir, nil)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.HasSuffix(err.Error(), pipe+": p---------: want a regular file") {
				t.Errorf("%s: %v", pipe, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: is waited for", pipe)
		}
	}
}

// TestOwnersOfTooMuch: a file of holes has no room in memory.
func TestOwnersOfTooMuch(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "image.yaml")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 200<<30)); err != nil {
		t.Fatal(err)
	}
	if _, err := readOwners(dir, nil); err == nil || !strings.HasSuffix(err.Error(), "image.yaml: longer than 67108864 bytes") {
		t.Errorf("%v", err)
	}
}
