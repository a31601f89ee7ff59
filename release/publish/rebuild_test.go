package publish_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
)

// What rebuilders said is found by release and rebuilder, whoever signed how much.
func TestRebuilds(t *testing.T) {
	w, a, b := rt.New(t), rt.Key(t), rt.Key(t)
	payload, _ := rt.Payload(t, w.Bundle)
	first := w.Rebuild(t, a, w.Bundle, nil)
	if again := w.Rebuild(t, a, w.Bundle, nil); !bytes.Equal(first, again) {
		t.Error("the same statement is published twice")
	}
	second := w.Rebuild(t, a, w.Bundle, func(r *release.Rebuild) { r.Predicate.Tally.Version = "2" })
	third := w.Rebuild(t, b, w.Bundle, nil)
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{rt.Key(t).Public(), a.Public(), b.Public()})
	if want := string(first) + string(second) + string(bytes.TrimSpace(third)); err != nil || string(got) != want {
		t.Errorf("%v: %d bytes, want %d", err, len(got), len(want))
	}
	if got, err := publish.Rebuilds(t.Context(), src, release.Digest{1}, []release.PublicKey{a.Public()}); err != nil || len(got) != 0 {
		t.Errorf("of another release: %q, %v", got, err)
	}
	index := filepath.Join(w.LogDir, "rebuilds", payload.String()+"-"+a.Public().ID().String())
	// Killed between log and index: the next run finds the leaf and completes the index.
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if again := w.Rebuild(t, a, w.Bundle, nil); !bytes.Equal(first, again) {
		t.Error("the same statement is logged twice")
	}
	if got, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{a.Public()}); err != nil || string(got) != string(bytes.TrimSpace(first)) {
		t.Errorf("after a kill: %v, %d bytes, want %d", err, len(got), len(first)-1)
	}
	for _, bad := range []string{"x\n", strings.Repeat(payload.String()+"\n", 33), "0" + payload.String() + "\n"} {
		if err := os.WriteFile(index, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{a.Public()}); err == nil {
			t.Errorf("%.80q is read as an index", bad)
		}
	}
}
