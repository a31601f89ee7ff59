package oci

import (
	"testing"

	"tally/mkimage/tree"
)

// TestImpliedDirectoriesAreBounded: a million entries may lie in a deep directory each, which nothing describes.
func TestImpliedDirectoriesAreBounded(t *testing.T) {
	f := &flat{root: &node{kids: map[string]*node{}}, left: 3}
	for _, c := range []struct {
		path string
		good bool
	}{{"a/b/x", true}, {"a/b/y", true}, {"a/c/x", true}, {"a/d/x", false}} {
		if err := f.put(1, &tree.Entry{Path: c.path, Kind: tree.File}); (err == nil) != c.good {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}
