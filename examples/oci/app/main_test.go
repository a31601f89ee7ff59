package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommittedLayout: app.oci is what this program writes, and image.yaml names its digest.
func TestCommittedLayout(t *testing.T) {
	dir := t.TempDir()
	digest := write(dir)
	spec, err := os.ReadFile("../image.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(spec), digest) {
		t.Errorf("image.yaml does not name %s", digest)
	}
	made, committed := files(t, dir), files(t, "../app.oci")
	for name, data := range made {
		if !bytes.Equal(data, committed[name]) {
			t.Errorf("%s: the committed file differs: run this program again", name)
		}
	}
	if len(made) != len(committed) {
		t.Errorf("%d files committed, %d made", len(committed), len(made))
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[strings.TrimPrefix(name, dir)], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
