package monitor_test

import (
	"crypto/sha256"
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

// Garbage in a bundle's place until the leaf is judged, and the bundle itself there later: a full round tells what it says, once.
func TestBundleComesLate(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	s := w.Statement(t, sign.Options{Sequence: 2})
	s.Predicate.Release.Version = "0.2.0"
	revoked := w.Predicate(t, 1, w.Publish(t, rt.Marshal(t, must(sign.Sign(s, w.Key)))).Bundle)
	first := must(release.ParseBundle(w.Bundle))
	revoked.Revoked = []release.Revocation{{Statement: sha256.Sum256(first.Envelope.Payload), Reason: "bad", Since: rt.Now}}
	w.Channel(t, w.Key, revoked)
	var paths []string
	for i := range 2 {
		entries := must(os.ReadFile(filepath.Join(w.LogDir, "tile/entries/000.p/3")))
		for range i + 1 {
			entries = entries[2+int(entries[0])<<8+int(entries[1]):]
		}
		paths = append(paths, filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(entries[2:2+int(entries[0])<<8+int(entries[1])]))))
	}
	var whole [][]byte
	for _, p := range paths {
		whole = append(whole, must(os.ReadFile(p)))
		if err := os.WriteFile(p, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.round(t, release.BadBundle, release.BadBundle)
	for i, p := range paths {
		if err := os.WriteFile(p, whole[i], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.o.Full = true
	if r := v.round(t, release.Revoked); len(r.Releases) != 1 || len(r.Channels) != 1 || len(v.ran) != 2 {
		t.Errorf("%+v, ran %v", r, v.ran)
	}
	if r := v.round(t); len(r.Releases)+len(r.Channels) != 0 || len(v.ran) != 2 {
		t.Errorf("told twice: %+v, ran %v", r, v.ran)
	}
}
