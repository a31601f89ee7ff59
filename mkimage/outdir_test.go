package mkimage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCreateResult: other programs call files manifest.json, too, and what is theirs is not replaced.
func TestCreateResult(t *testing.T) {
	for text, ours := range map[string]bool{
		`{"schema":"tally.manifest/v1","layout":0}`: true, // an older layout's is a result
		`{"manifest_version":3,"name":"extension"}`: false,
		`{"schema":"tally.manifest/v2"}`:            false,
		`["tally.manifest/v1"]`:                     false,
		``:                                          false,
		`{"schema":"tally.manifest/v1"`:             false,
	} {
		parent := t.TempDir()
		out := filepath.Join(parent, "out")
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, ManifestFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := CreateResult(out)
		if ours != (err == nil) || !ours && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			d.Abort()
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Errorf("%s: left %v (%v), want out alone", text, entries, err)
		}
	}
}

// TestCreateResultLink: a link or a pipe of that name is nothing that a build wrote.
func TestCreateResultLink(t *testing.T) {
	parent := t.TempDir()
	real, out := filepath.Join(parent, "real"), filepath.Join(parent, "out")
	for _, err := range []error{os.Mkdir(out, 0o755), os.WriteFile(real, []byte(`{"schema":"tally.manifest/v1"}`), 0o644),
		os.Symlink(real, filepath.Join(out, ManifestFile))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := CreateResult(out); !errors.Is(err, ErrForeign) {
		t.Errorf("a link: %v", err)
	}
	if d, err := CreateResult(filepath.Join(parent, "new")); err != nil {
		t.Error(err)
	} else {
		d.Abort()
	}
}
