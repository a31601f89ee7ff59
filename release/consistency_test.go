package release_test

import (
	"errors"
	"net/http"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func view(t *testing.T, w *rt.World) *release.LogView {
	t.Helper()
	src, err := log.OpenSource(w.LogDir, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	v, err := log.ReadView(t.Context(), src, w.Log)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLogView(t *testing.T) {
	w := rt.New(t)
	first, early := w.Bundle, view(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	third := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle
	now := view(t, w)
	other := rt.New(t)
	tree := func(n int64, first byte, proved bool) release.SeenTree {
		return release.SeenTree{Tree: tlog.Tree{N: n, Hash: tlog.Hash{first}}, Note: "remembered", Proved: proved}
	}
	r, err := release.Verify(first, w.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	genuine := r.Trees[0]
	proved := genuine
	proved.Proved = true
	fails := *now
	fails.Prove = func(int64) (tlog.TreeProof, error) { return nil, errors.New("no tiles") }
	empty := *now
	empty.Prove = func(int64) (tlog.TreeProof, error) { return nil, nil }
	for _, c := range []struct {
		name   string
		bundle []byte
		view   *release.LogView
		seen   []release.SeenTree
		want   release.Reason
	}{
		{"grown", first, now, nil, ""},
		{"grown, remembered", third, now, []release.SeenTree{genuine}, ""},
		{"latest of its own size", third, now, nil, ""},
		{"another remembered", third, now, []release.SeenTree{tree(1, 9, false)}, release.LogFork},
		{"another remembered that was proved once", third, now, []release.SeenTree{tree(1, 9, true)}, release.LogFork},
		{"another, longer, in between", third, now, []release.SeenTree{genuine, tree(2, 9, false)}, release.LogFork},
		{"contained in one that was proved", third, now, []release.SeenTree{tree(0, 9, true), proved}, ""},
		{"more remembered than there is", first, now, []release.SeenTree{tree(4, 9, false)}, release.LogStale},
		{"older than the bundle", third, early, nil, release.LogStale},
		{"no proof", first, &fails, nil, release.NoProof},
		{"proof of nothing", first, &empty, nil, release.LogFork},
		{"another log's checkpoint", first, view(t, other), nil, release.BadLog},
		{"no checkpoint", first, &release.LogView{Prove: now.Prove}, nil, release.BadLog},
	} {
		p := *w.Policy
		p.Log.View, p.Log.Seen = c.view, c.seen
		r, err := release.Verify(c.bundle, &p, rt.Now)
		if reason(t, err) != c.want {
			t.Errorf("%s: %v, want reason %q", c.name, err, c.want)
		}
		if r.Proved != (c.want == "") {
			t.Errorf("%s: proved %v", c.name, r.Proved)
		}
		var e *release.Error
		if errors.As(err, &e) && (len(e.Evidence) == 2) != (c.want == release.LogFork) {
			t.Errorf("%s: evidence %q", c.name, e.Evidence)
		}
	}
}
