package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStoreIsSwept: a build removes what another, killed a day ago, left half-written in the cache, and nothing else.
func TestStoreIsSwept(t *testing.T) {
	s, old := NewStore(t.TempDir()), time.Now().Add(-25*time.Hour)
	for path, left := range map[string]bool{
		filepath.Join(s.Unpacked(), ".ab.tar.tmp-12"): false,
		filepath.Join(s.Steps(), ".ab.tar.tmp-12"):    false,
		s.Path(Hash{1}) + ".part":                     true, // to be continued
		filepath.Join(s.Unpacked(), "ab.tar"):         true,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
		if err := (&Fetcher{Store: s}).All(context.Background(), new(Lock)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); (err == nil) != left {
			t.Errorf("%s: %v, want it there: %v", path, err, left)
		}
	}
}
