package monitor_test

import (
	"os"
	"path/filepath"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/state"
)

// remembers is what clients who share the monitor's directory are held to.
func remembers(t *testing.T, v *watch, w *rt.World) release.Memory {
	t.Helper()
	s, err := state.Open(v.o.Dir, w.Log)
	if err != nil {
		t.Fatal(err)
	}
	var p release.Policy
	s.Fill(&p)
	return p.Memory
}

// A monitor without a policy takes anybody's statements, but what they say binds nobody who shares its directory: a
// stranger with access to the log could end a channel for ever.
func TestStrangersBindNobody(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	p := w.Predicate(t, 1<<60)
	p.Revoked = []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	w.Channel(t, rt.Key(t), p)
	v := newWatch(t, w)
	v.o.Run = nil
	named := v.o.Policy
	v.o.Policy = &release.Policy{Log: w.Policy.Log}
	if r := v.round(t, release.Revoked); len(r.Channels) != 1 {
		t.Errorf("%+v", r)
	}
	if m := remembers(t, v, w); len(m.Channels)+len(m.Revoked) != 0 {
		t.Errorf("a stranger's word is remembered: %+v", m)
	}
	v.o.Policy, v.o.Dir = named, filepath.Join(t.TempDir(), "named")
	v.round(t, release.BadIdentity)
	if m := remembers(t, v, w); len(m.Channels)+len(m.Revoked) != 0 {
		t.Errorf("a stranger's word is remembered under a policy: %+v", m)
	}
}

// unpublish takes the channel's latest statement out of the directory, as a publisher would who holds nothing against it.
func unpublish(t *testing.T, w *rt.World) {
	t.Helper()
	if err := os.Remove(filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))); err != nil {
		t.Fatal(err)
	}
}

// Of what a revocation key signs only the revocations count: it has no say in which statement of a channel is the newest.
func TestRevokersMoveNoChannel(t *testing.T) {
	t.Parallel()
	w, revoker := rt.New(t), rt.Key(t)
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	v := newWatch(t, w)
	v.o.Run = nil
	d, _ := rt.Payload(t, w.Bundle)
	p := w.Predicate(t, 99)
	p.Revoked = []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	w.Channel(t, revoker, p)
	v.round(t, release.Revoked)
	if m := remembers(t, v, w); len(m.Channels) != 0 || len(m.Revoked) != 1 {
		t.Errorf("of a revocation there is remembered %+v", m)
	}
	unpublish(t, w)
	w.Channel(t, w.Key, w.Predicate(t, 2, w.Bundle))
	v.round(t)
	if m := remembers(t, v, w); m.Channels["minimal@stable"].Sequence != 2 {
		t.Errorf("of the channel there is remembered %+v", m)
	}
	// The revocation key takes the channel's key back. What that says from then on is said aloud, and binds nobody.
	unpublish(t, w)
	p = w.Predicate(t, 1)
	p.Channel, p.Revoked = "revoked", []release.Revocation{{Statement: w.Key.Public().ID(), Kind: release.RevokedKey, Since: rt.Now}}
	w.Channel(t, revoker, p)
	v.round(t, release.Revoked)
	p = w.Predicate(t, 1<<60)
	p.Revoked = []release.Revocation{{Statement: d, Since: rt.Now}}
	w.Channel(t, w.Key, p)
	v.round(t, release.Revoked)
	if m := remembers(t, v, w); m.Channels["minimal@stable"].Sequence != 2 || len(m.Revoked) != 2 {
		t.Errorf("of a revoked key's statement there is remembered %+v", m)
	}
}

// Whoever stole a channel's key can neither silence the revocation keys, nor, once it is revoked, the channel's others.
func TestRevokedKeySilencesNobody(t *testing.T) {
	t.Parallel()
	w, revoker, other := rt.New(t), rt.Key(t), rt.Key(t)
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	w.Policy.Signers = append(w.Policy.Signers, release.Signer{Key: other.Public()})
	v := newWatch(t, w)
	v.o.Run = nil
	sequence := uint64(0)
	revoke := func(by *sign.Key, channel string, ids ...release.Digest) {
		sequence++
		p := w.Predicate(t, sequence)
		p.Channel = channel
		for _, id := range ids {
			p.Revoked = append(p.Revoked, release.Revocation{Statement: id, Kind: release.RevokedKey, Since: rt.Now})
		}
		w.Channel(t, by, p)
		v.round(t, release.Revoked)
	}
	stolen := w.Key.Public().ID()
	revoke(w.Key, "a", revoker.Public().ID())
	revoke(revoker, "revoked", stolen)
	if m := remembers(t, v, w); len(m.Revoked) != 2 || m.Channels["minimal@a"].Sequence != 1 {
		t.Errorf("the revocation key was silenced: %+v", m)
	}
	revoke(w.Key, "b", other.Public().ID())
	w.Channel(t, other, w.Predicate(t, 9, w.Bundle))
	v.round(t)
	if m := remembers(t, v, w); len(m.Revoked) != 2 || m.Channels["minimal@stable"].Sequence != 9 {
		t.Errorf("a key was silenced by one that is revoked: %+v", m)
	}
}
