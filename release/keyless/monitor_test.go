package keyless_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tally/release"
	kt "tally/release/keyless/keylesstest"
	"tally/release/log"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A monitor holds each leaf against identities as a client does. A policy that names identities and no key does not
// let anybody sign by a key.
func TestMonitor(t *testing.T) {
	w := newWorld(t)
	src, err := log.OpenSource(w.rt.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	round := func(p release.Policy, want ...release.Reason) {
		t.Helper()
		m, err := monitor.Open(monitor.Options{Source: src, Dir: filepath.Join(t.TempDir(), "state"), Policy: &p, Now: func() time.Time { return rt.Now }})
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Round(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []release.Reason
		for _, a := range r.Alerts {
			if a.Reason != monitor.Unexpected { // one version many times, which is not what this test is about
				got = append(got, a.Reason)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("alerts %v, want %v: %+v", got, want, r.Alerts)
		}
	}
	keyed := *w.rt.Policy // the first leaf is signed by a key
	keyed.Signers = []release.Signer{{Key: w.rt.Key.Public()}}
	w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 2})
	round(keyed)
	round(*w.rt.Policy, release.BadIdentity)
	keyed.Identities = release.IdentityPolicy{}
	round(keyed, release.BadIdentity)
	keyed.Signers = nil
	round(keyed, release.BadIdentity) // any key may sign; a certificate without identities says nothing
	w.publish(t, kt.Workflow("refs/heads/main"), sign.Options{Sequence: 3})
	round(*w.rt.Policy, release.BadIdentity, release.BadIdentity)

	// Rebuilders and revokers by certificates are held against their own rules.
	keyed = *w.rt.Policy
	keyed.Signers = []release.Signer{{Key: w.rt.Key.Public()}}
	w.rebuild(t, kt.Account("a@one.example"), w.rt.Bundle, nil)
	q := w.rt.Predicate(t, 1)
	q.Channel, q.Revoked = publish.RevokedChannel, []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	data, k := w.seal(t, kt.Account("security@acme.example"), release.NewChannel(q))
	w.rt.PublishChannel(t, data, k)
	keyed.Rebuilders = release.RebuilderPolicy{Identities: w.identities(account("a@one.example"))}
	keyed.RevokerIdentities = w.identities(account("security@acme.example"))
	round(keyed, release.BadIdentity, release.Revoked) // the first is the release from a branch
	keyed.Rebuilders.Identities = w.identities(account("b@two.example"))
	keyed.RevokerIdentities = w.identities(account("other@acme.example"))
	round(keyed, release.BadIdentity, release.BadIdentity, release.BadIdentity)
}
