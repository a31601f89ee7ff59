package monitor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A bundle from another history is seen whenever it comes: under a leaf that never had one, that lost it, or that is
// read again.
func TestForkComesLate(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	twin := copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	third := w.Sign(t, w.Key, sign.Options{Sequence: 3})
	honest := w.Publish(t, third)
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9}))
	forged := twin.Publish(t, third).Bundle
	w.Channel(t, w.Key, w.Predicate(t, 1, honest.Bundle)) // the log goes on: another tree than the bundle's
	path := filepath.Join(w.LogDir, honest.Path)
	put := func(data []byte) { // nil: nothing
		t.Helper()
		err := os.RemoveAll(path)
		if data != nil {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forked := func(r *monitor.Report) {
		t.Helper()
		if a := r.Alerts; len(a) > 0 && (*a[0].Index != 2 || !strings.HasSuffix(a[0].Text, "which is not a prefix of the log")) {
			t.Errorf("%+v", a)
		} else if len(a) > 0 {
			checkEvidence(t, w, a[0].Evidence)
		}
	}
	v := newWatch(t, w)
	v.o.Run = nil
	put(nil)
	v.round(t, monitor.Unexpected, monitor.NoBundle)
	put(forged)
	forked(v.round(t, release.LogFork, monitor.Unexpected))
	v.round(t) // once
	v.o.Full = true
	forked(v.round(t, release.LogFork))
	put(nil)
	v.round(t, monitor.NoBundle)
	v.o.Full = false
	put(forged)
	forked(v.round(t, release.LogFork))
	v.round(t)
	// Nor is what comes back in the place of a bundle that was lost taken as it is.
	put(nil)
	v.o.Full = true
	v.round(t, monitor.NoBundle)
	v.o.Full = false
	put([]byte("{"))
	v.round(t, release.BadBundle)
}

// What cannot be read is no verdict, and nothing is remembered of the round.
func TestUnreadableBundle(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	path := filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(must(release.ParseBundle(w.Bundle)).Entry.Body)))
	v := newWatch(t, w)
	fails := func() {
		t.Helper()
		m := must(monitor.Open(v.o))
		if r, err := m.Round(t.Context()); err == nil {
			t.Errorf("%+v", r)
		}
	}
	for _, before := range [][]release.Reason{nil, {monitor.NoBundle}} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if before != nil {
			v.round(t, before...)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		fails()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, w.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t); len(r.Releases) != 1 || len(v.ran) != 1 {
		t.Errorf("%+v", r)
	}
}

// A full tile is compared with the leaves under it, as the one that still grows is.
func TestDamagedFullTile(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendAll(t, w, 300)
	path := filepath.Join(w.LogDir, "tile", "0", "000")
	data := must(os.ReadFile(path))
	data[0] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := newWatch(t, w).round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, "hash 0 of tile 0 of level 0") {
		t.Errorf("%+v", r)
	}
}
