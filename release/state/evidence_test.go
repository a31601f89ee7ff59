package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rt "tally/release/releasetest"
)

// A log can fork as often as it likes. Of what convicts it a hundred are kept, each as it was first, and that no more are is
// said; another log's are its own.
func TestEvidenceHasAnEnd(t *testing.T) {
	w, other, dir := rt.New(t), rt.New(t), filepath.Join(t.TempDir(), "st")
	s := open(t, dir, w)
	notes := func(i int, cosigned string) []string {
		return []string{fmt.Sprintf("log\n%d\nA\n\n- log x\n%s", i, cosigned), fmt.Sprintf("log\n%d\nB\n\n- log x\n%s", i, cosigned)}
	}
	first, err := s.KeepEvidence(notes(0, ""))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		path, err := s.KeepEvidence(notes(i, "- witness y\n"))
		if err != nil || (path == first) != (i == 0) {
			t.Fatalf("fork %d: %q, %v", i, path, err)
		}
	}
	if path, err := s.KeepEvidence(notes(100, "")); path != "" || err == nil || !strings.Contains(err.Error(), "has 100 forks of log log.tally.example already") {
		t.Errorf("one more: %q, %v", path, err)
	}
	for range 2 {
		if path, err := s.KeepEvidence(notes(0, "- witness z\n")); path != first || err != nil {
			t.Errorf("a known one: %q, %v", path, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "evidence", "of-another.txt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(first); err != nil || string(data) != strings.Join(notes(0, ""), "\n") {
		t.Errorf("the first: %q, %v", data, err)
	}
	path, err := open(t, dir, other).KeepEvidence(notes(0, ""))
	if data, rerr := os.ReadFile(path); err != nil || rerr != nil || path == first || len(data) == 0 {
		t.Errorf("another log's: %q, %v, %v", path, err, rerr)
	}
	if files, err := os.ReadDir(filepath.Join(dir, "evidence")); err != nil || len(files) != 102 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
