package xz

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// otherFilters are good files with filters that nothing here needs.
var otherFilters = []string{"delta", "arm64", "bcj"}

// TestVectors reads the test files of XZ Utils (testdata/vectors/README.md).
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*.xz")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpack(data)
		filter := false
		for _, f := range otherFilters {
			filter = filter || strings.Contains(name, f)
		}
		switch {
		case !strings.HasPrefix(name, "good-"):
			if err == nil {
				t.Errorf("%s: read as %q", name, got)
			}
		case filter:
			if err == nil || !strings.Contains(err.Error(), "filter") {
				t.Errorf("%s: %v, want a word about filters", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			want, err := exec.Command(testtool.Need(t, "xz"), "--decompress", "--stdout", file).Output()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes; xz has %d, %v", name, len(got), len(want), err)
			}
		}
	}
}
