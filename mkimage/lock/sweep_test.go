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
		if err := (&Fetcher{Store: s, Now: time.Now}).All(context.Background(), new(Lock)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); (err == nil) != left {
			t.Errorf("%s: %v, want it there: %v", path, err, left)
		}
	}
}

// TestPartsAreSwept: a part that nobody continued for a month goes, with what is beside it, unless a process has it.
func TestPartsAreSwept(t *testing.T) {
	s := NewStore(t.TempDir())
	month, day := time.Now().Add(-31*24*time.Hour), time.Now().Add(-25*time.Hour)
	name := func(i byte, suffix string) string { return s.Path(Hash{i}) + suffix }
	cases := []struct {
		path    string
		written time.Time
		left    bool
	}{
		{name(1, ".part"), month, false},
		{name(1, ".from"), month, false},
		{name(2, ".part"), day, true},
		{name(2, ".from"), month, true}, // written when the download began
		{name(3, ".part-123"), month, false},
		{name(3, ".part-"), month, true},
		{name(3, ".part-12x"), month, true},
		{name(4, ""), month, true},
		{name(5, ".part"), month, true}, // held below
		{name(5, ".from"), month, true},
		{s.Path(Hash{}) + "0.part", month, true},
		{name(6, ".part"), time.Now().Add(time.Hour), true},
	}
	for _, c := range cases {
		if err := errors.Join(os.MkdirAll(filepath.Dir(c.path), 0o755), os.WriteFile(c.path, []byte("x"), 0o644), os.Chtimes(c.path, c.written, c.written)); err != nil {
			t.Fatal(err)
		}
	}
	held, err := s.openPart(Hash{5})
	if err != nil || held.private {
		t.Fatalf("%+v, %v", held, err)
	}
	defer held.Close()
	if err := (&Fetcher{Store: s, Now: time.Now}).All(context.Background(), new(Lock)); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if _, err := os.Lstat(c.path); (err == nil) != c.left {
			t.Errorf("%s: %v, want it there: %v", filepath.Base(c.path), err, c.left)
		}
	}
}
