package monitor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A log whose leaves were judged, and then loses or changes what nobody reads twice.
func TestFull(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	two := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	w.Channel(t, w.Key, w.Predicate(t, 1, two.Bundle))
	v := newWatch(t, w)
	if r := v.round(t, monitor.Unexpected); r.Fresh != 3 || r.Again != 0 || len(v.ran) != 2 {
		t.Fatalf("%+v, ran %v", r, v.ran)
	}
	full := func(reasons ...release.Reason) *monitor.Report {
		t.Helper()
		v.o.Full = true
		defer func() { v.o.Full = false }()
		r := v.round(t, reasons...)
		if len(r.Alerts) > 0 && r.Alerts[0].Reason == monitor.Damaged {
			return r
		}
		if r.Again != 3 || r.Fresh != 0 || len(r.Releases)+len(r.Channels)+len(r.Rebuilds) != 0 || len(v.ran) != 2 {
			t.Errorf("%+v, ran %v", r, v.ran)
		}
		return r
	}
	full()
	first, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(first.Entry.Body)))
	put := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// A bundle that is gone is found by a full round, said by every round from then on, and no news when it is back:
	// not even of a version that was released again meanwhile.
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	v.round(t)
	if r := full(monitor.NoBundle); r.Bare != 1 || *r.Alerts[0].Index != 0 {
		t.Errorf("%+v", r)
	}
	v.round(t, monitor.NoBundle)
	full(monitor.NoBundle)
	put(lost, w.Bundle)
	if r := v.round(t); r.Bare != 0 || len(r.Releases) != 0 || len(v.ran) != 2 {
		t.Errorf("%+v, ran %v", r, v.ran)
	}
	full()

	// Another bundle under its name.
	put(lost, two.Bundle)
	v.round(t)
	full(release.BadInclusion)
	put(lost, []byte("{"))
	full(release.BadBundle)
	full(release.BadBundle) // said as long as it is so
	put(lost, w.Bundle)

	// Entries and tiles that are other ones now; the root does not follow from them.
	for _, name := range []string{"tile/entries/000.p/3", "tile/0/000.p/3"} {
		path := filepath.Join(w.LogDir, filepath.FromSlash(name))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(whole)
		damaged[8] ^= 1
		put(path, damaged)
		if name == "tile/entries/000.p/3" {
			v.round(t)
		}
		full(monitor.Damaged)
		put(path, whole)
		full()
	}

	// A signer whose time is over by now signed in it as far as anybody can tell.
	p := *w.Policy
	p.Signers = []release.Signer{{Key: w.Key.Public(), NotAfter: rt.Now.Add(time.Hour)}}
	v.o.Policy, v.o.Now = &p, func() time.Time { return rt.Now.Add(2 * time.Hour) }
	full()
}

// A full round comes by itself when it is time, whoever started the monitor again meanwhile.
func TestFullEvery(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	at := rt.Now
	v.o.Now, v.o.FullEvery = func() time.Time { return at }, 24*time.Hour
	for _, c := range []struct {
		after time.Duration
		again int64
	}{{0, 0}, {0, 0}, {23 * time.Hour, 0}, {time.Hour, 1}, {time.Hour, 0}, {24 * time.Hour, 1}} {
		at = at.Add(c.after)
		if r := v.round(t); r.Again != c.again {
			t.Errorf("at %s: %d leaves again, want %d", at, r.Again, c.again)
		}
	}
	v.o.FullEvery = 0
	at = at.AddDate(1, 0, 0)
	if r := v.round(t); r.Again != 0 {
		t.Errorf("not wanted: %d leaves again", r.Again)
	}
	// The first round ever counts, whatever was wanted then.
	v.o.Dir = filepath.Join(t.TempDir(), "state")
	for _, c := range []struct{ every, after time.Duration }{{0, 0}, {24 * time.Hour, time.Hour}} {
		v.o.FullEvery, at = c.every, at.Add(c.after)
		if r := v.round(t); r.Again != 0 {
			t.Errorf("after %s: %d leaves again", c.after, r.Again)
		}
	}
	v.o.FullEvery = 0
	// One monitor that runs on: Full is for its first round.
	v.o.Full = true
	m, err := monitor.Open(v.o)
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []int64{1, 0} {
		if r, err := m.Round(t.Context()); err != nil || r.Again != again {
			t.Errorf("%+v, %v, want %d again", r, err, again)
		}
	}
}

// An audit without bundles gives the log's own tree, and none of a damaged log.
func TestAudit(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendAll(t, w, 600)
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := monitor.Audit(t.Context(), src, w.Log); err != nil || tree.N != 601 {
		t.Errorf("%v, %v", tree, err)
	}
	for _, name := range []string{"tile/entries/001", "tile/0/001", "tile/1/000.p/2", "checkpoint"} {
		path := filepath.Join(w.LogDir, filepath.FromSlash(name))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(whole)
		damaged[33] ^= 1
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if tree, err := monitor.Audit(t.Context(), src, w.Log); err == nil {
			t.Errorf("%s: %v", name, tree)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := monitor.Audit(t.Context(), src, rt.New(t).Log); err == nil {
		t.Error("another log's key")
	}
}
