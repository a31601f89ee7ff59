package monitor_test

import (
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
)

// Where the policy names no rebuilder whoever rebuilt may say so, and that somebody got other bytes is an alert. A
// revocation key of the policy is no stranger.
func TestUnnamedRebuilders(t *testing.T) {
	w, rebuilder, revoker := rt.New(t), rt.Key(t), rt.Key(t)
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	v := newWatch(t, w)
	w.Rebuild(t, rebuilder, w.Bundle, nil)
	v.round(t)
	w.Rebuild(t, rebuilder, w.Bundle, func(r *release.Rebuild) {
		r.Predicate.Result = release.Differs
		r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "MISSING", Want: &release.Digest{1}}}
	})
	v.round(t, release.Mismatch)
	v.round(t) // said once
	p := w.Predicate(t, 1)
	p.Channel = "revoked"
	p.Revoked = []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	w.Channel(t, revoker, p)
	v.round(t, release.Revoked)
	if len(v.ran) != 1 {
		t.Errorf("ran for %q, want the release alone", v.ran)
	}
}
