package monitor_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// again is a watch of a policy that starts from nothing.
func (v *watch) again(t *testing.T, p release.Policy) {
	v.o.Policy, v.o.Dir, v.o.Run = &p, filepath.Join(t.TempDir(), "again"), nil
}

// Channels may have signers of their own, who then are the only ones, and of channels alone.
func TestChannelSigners(t *testing.T) {
	t.Parallel()
	w, other := rt.New(t), rt.Key(t)
	v := newWatch(t, w)
	w.Channel(t, other, w.Predicate(t, 1, w.Bundle))
	p := *w.Policy
	p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour, Signers: []release.Signer{{Key: other.Public()}}}
	v.again(t, p)
	if r := v.round(t); len(r.Releases) != 1 || len(r.Channels) != 1 {
		t.Errorf("%+v", r)
	}
	p.Signers = []release.Signer{{Key: other.Public()}} // and whoever signs channels signs no releases
	p.Channel.Signers = []release.Signer{{Key: w.Key.Public()}}
	v.again(t, p)
	if r := v.round(t, release.BadIdentity, release.BadIdentity); len(r.Releases)+len(r.Channels) != 0 {
		t.Errorf("%+v", r)
	}
	p.Channel.Signers = nil // the signers of releases
	v.again(t, p)
	if r := v.round(t, release.BadIdentity); len(r.Releases) != 0 || len(r.Channels) != 1 {
		t.Errorf("%+v", r)
	}
}

// A channel statement names a signer: of this channel, by its signers, in the log.
func TestNamedSigners(t *testing.T) {
	t.Parallel()
	w, fresh, stranger := rt.New(t), rt.Key(t), rt.Key(t)
	v := newWatch(t, w)
	if _, err := w.TryPublish(t.Context(), t, w.Sign(t, fresh, sign.Options{Sequence: 2}), fresh.Public()); err != nil {
		t.Fatal(err)
	}
	p := *w.Policy
	p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	look := func(releases int, reasons ...release.Reason) {
		t.Helper()
		v.again(t, p)
		if r := v.round(t, reasons...); len(r.Releases) != releases {
			t.Errorf("%d releases, want %d", len(r.Releases), releases)
		}
	}
	look(1, release.BadIdentity)
	name := func(by *sign.Key, sequence uint64, channel string) {
		q := w.Predicate(t, sequence, w.Bundle)
		q.Channel, q.Signers = channel, []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public()})}
		w.Channel(t, by, q)
	}
	name(w.Key, 1, "beta")
	look(1, release.BadIdentity)
	name(stranger, 1, "stable")
	look(1, release.BadIdentity, release.BadIdentity) // of the release, and of the statement
	unpublish(t, w)
	name(w.Key, 2, "stable")
	look(2, monitor.Unexpected, release.BadIdentity)
	p.Channel = release.ChannelPolicy{}
	look(1, release.BadIdentity, release.BadIdentity)
	p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour, Signers: []release.Signer{{Key: stranger.Public()}}}
	look(1, release.BadIdentity, release.BadIdentity, release.BadIdentity) // the release, and both statements by w.Key
}

// What a revoked key signs is said: a release, and whom a channel statement names.
func TestRevokedSigners(t *testing.T) {
	t.Parallel()
	w, fresh, revoker := rt.New(t), rt.Key(t), rt.Key(t)
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	w.Policy.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	v := newWatch(t, w)
	v.o.Run = nil
	q := w.Predicate(t, 1, w.Bundle)
	q.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public()})}
	w.Channel(t, w.Key, q)
	v.round(t)
	q = w.Predicate(t, 1)
	q.Channel, q.Revoked = "revoked", []release.Revocation{{Statement: w.Key.Public().ID(), Kind: release.RevokedKey, Since: rt.Now}}
	w.Channel(t, revoker, q)
	v.round(t, release.Revoked)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	if r := v.round(t, release.Revoked, monitor.Unexpected); *r.Alerts[0].Index != 3 {
		t.Errorf("%+v", r.Alerts)
	}
	if _, err := w.TryPublish(t.Context(), t, w.Sign(t, fresh, sign.Options{Sequence: 3}), fresh.Public()); err != nil {
		t.Fatal(err)
	}
	v.round(t, release.BadIdentity)
}

// A signer signs what it likes; and its own time is weighed, not another's.
func TestForeignPayload(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	w.Policy.Signers = append(w.Policy.Signers, release.Signer{Key: rt.Key(t).Public(), NotAfter: rt.Now})
	v := newWatch(t, w)
	v.o.Run = nil
	v.round(t)
	b := &release.Bundle{Envelope: release.Envelope{Payload: []byte(`{"predicateType":"x"}`)}, Hint: w.Key.Public().Hint()}
	b.Envelope.Signature = must(w.Key.SignPAE(b.Envelope.PAE()))
	body := release.LeafBody(&b.Envelope, w.Key.Public())
	l := w.Open(t)
	b.Entry = must(l.Append(t.Context(), body))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(body))), rt.Marshal(t, b), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t, release.BadStatement); r.Bare != 0 || len(r.Releases) != 0 {
		t.Errorf("%+v", r)
	}
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	v.round(t, monitor.Unexpected)
	// Of a payload that is no statement no channel names the signer.
	p := *w.Policy
	p.Signers = []release.Signer{{Key: rt.Key(t).Public()}}
	p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	v.again(t, p)
	v.round(t, release.BadIdentity, release.BadIdentity, release.BadIdentity)
}

// Witnesses say when a leaf was in the log at the latest: a signer's time is weighed by their word, whenever the monitor came.
func TestCosignedInTime(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := must(release.NewWitnessKey("w.example", pub))
	quorum := must(release.ParseWitnessPolicy([]byte("witness w "+key.String()+"\nquorum w\n"), "p")).Quorum
	b := must(release.ParseBundle(w.Bundle))
	plain := b.Entry.Checkpoint
	path := filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(b.Entry.Body)))
	for at, want := range map[time.Time][]release.Reason{rt.Now.Add(-time.Second): nil, rt.Now: {release.Expired}, rt.Now.Add(-2 * time.Hour): {release.NotYetValid}} {
		b.Entry.Checkpoint = plain + must(key.Cosign([]byte(plain[:strings.Index(plain, "\n\n")+1]), private, at))
		for file, data := range map[string][]byte{path: rt.Marshal(t, b), filepath.Join(w.LogDir, log.CheckpointFile): []byte(b.Entry.Checkpoint)} {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		v := newWatch(t, w)
		p := *w.Policy
		p.Log.Unwitnessed, p.Log.Quorum = false, quorum
		p.Signers = []release.Signer{{Key: w.Key.Public(), NotBefore: rt.Now.Add(-time.Hour), NotAfter: rt.Now}}
		v.again(t, p)
		v.o.Now = func() time.Time { return rt.Now.Add(24 * time.Hour) }
		v.round(t, want...)
	}
}

// What was there when the monitor came is not judged by a clock; the first leaf after it is.
func TestFirstAfterTheMonitor(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	p := *w.Policy
	p.Signers = []release.Signer{{Key: w.Key.Public(), NotAfter: rt.Now}}
	v.again(t, p)
	m := must(monitor.Open(v.o))
	if r := must(m.Round(t.Context())); len(r.Alerts) != 0 {
		t.Errorf("%+v", r.Alerts)
	}
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	if r := must(m.Round(t.Context())); len(r.Alerts) != 2 || r.Alerts[0].Reason != release.Expired || *r.Alerts[0].Index != 1 {
		t.Errorf("%+v", r.Alerts)
	}
}
