package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"tally/mkimage/lock"
	"tally/mkimage/source"
)

// TestCommittedLocksAreCurrent holds every example's lock against its spec and sources: a change of the
// guest's source without a new lock would leave the demo on a scratch lock.
func TestCommittedLocksAreCurrent(t *testing.T) {
	locks, err := filepath.Glob("../../examples/*/image*.lock")
	if err != nil || len(locks) == 0 {
		t.Fatalf("no committed lock (%v)", err)
	}
	for _, file := range locks {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		k, err := lock.Parse(raw, file)
		if err != nil {
			t.Error(err)
			continue
		}
		l, err := source.Open(filepath.Join(filepath.Dir(file), "image.yaml"), k.Variant, os.Environ())
		if err != nil {
			t.Error(err)
			continue
		}
		if err := l.Check(t.Context(), k); err != nil {
			t.Errorf("%s: %v: make it again with 'tally lock'", file, err)
		}
	}
}
