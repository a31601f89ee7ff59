package release_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A channel statement names a new key; the policy knows only the old one.
func TestNamedSigner(t *testing.T) {
	w, _, _ := channelWorld(t)
	fresh, other, revoker := rt.Key(t), rt.Key(t), rt.Key(t)
	pub, err := w.TryPublish(t.Context(), t, w.Sign(t, fresh, sign.Options{Sequence: 3}), fresh.Public())
	if err != nil {
		t.Fatal(err)
	}
	third := pub.Bundle
	sequence := uint64(0)
	channel := func(by *sign.Key, change func(*release.ChannelPredicate)) []byte {
		sequence++
		p := w.Predicate(t, sequence, third)
		p.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public()}), release.NameSigner(release.Signer{Key: other.Public()})}
		if change != nil {
			change(&p)
		}
		return w.Channel(t, by, p)
	}
	until := func(at time.Time) func(*release.ChannelPredicate) {
		return func(p *release.ChannelPredicate) {
			p.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public(), NotAfter: at})}
		}
	}
	good := channel(w.Key, nil)
	for name, tt := range map[string]struct {
		channel []byte
		policy  func(*release.Policy)
		want    release.Reason
	}{
		"named":                       {good, nil, ""},
		"in its time":                 {channel(w.Key, until(rt.Now.Add(time.Hour))), nil, ""},
		"after its time":              {channel(w.Key, until(rt.Now)), nil, release.Expired},
		"not named":                   {channel(w.Key, func(p *release.ChannelPredicate) { p.Signers = nil }), nil, release.BadIdentity},
		"no statement":                {nil, nil, release.BadIdentity},
		"named by itself":             {channel(fresh, nil), nil, release.BadIdentity},
		"in another channel":          {channel(w.Key, func(p *release.ChannelPredicate) { p.Channel = "beta" }), nil, release.BadChannel},
		"in a statement that is over": {good, func(p *release.Policy) { p.Channel.MaxAge = time.Nanosecond }, release.Expired},
		"the policy wants no channel": {good, func(p *release.Policy) { p.Channel = release.ChannelPolicy{} }, release.BadIdentity},
		"remembered as revoked":       {good, func(p *release.Policy) { p.Memory.Revoked = map[release.Digest]string{fresh.Public().ID(): "x"} }, release.Revoked},
		"a rebuilder for itself":      {slices.Concat(good, w.Rebuild(t, fresh, third, nil)), func(p *release.Policy) { p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(fresh)} }, release.TooFewRebuilders},
		"by a revocation key":         {channel(revoker, nil), func(p *release.Policy) { p.Revokers = signers(revoker) }, release.BadIdentity},
		"revoked in the same word": {channel(w.Key, func(p *release.ChannelPredicate) {
			p.Revoked = []release.Revocation{{Statement: fresh.Public().ID(), Kind: release.RevokedKey, Since: rt.Now}}
		}), nil, release.Revoked},
	} {
		p := *w.Policy
		if tt.policy != nil {
			tt.policy(&p)
		}
		r, err := release.Verify(join(third, tt.channel), &p, rt.Now.Add(time.Minute))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || reason(t, err) != tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		// Who is not named is refused before anything else of the file is looked at.
		said := slices.ContainsFunc(r.Checks, func(c release.Check) bool { return c.Name == "named signer" })
		if strange := tt.want == release.BadIdentity; said == strange || strange && (len(r.Checks) != 1 || !strings.Contains(err.Error(), "signing key")) {
			t.Errorf("%s: named %v: %v, %+v", name, said, err, r.Checks)
		}
	}
}

func TestNamedSignerForm(t *testing.T) {
	k := release.NameSigner(release.Signer{Key: rt.Key(t).Public()})
	half := rt.Now.Add(time.Millisecond)
	for want, list := range map[string][]release.NamedSigner{
		"each once": {k, k}, "canonical base64": {{Key: "x"}}, "want at most 64": make([]release.NamedSigner, 65), "whole seconds": {{Key: k.Key, NotAfter: &half}},
		"time ends before": {{Key: k.Key, NotAfter: &rt.Now, NotBefore: &rt.Now}},
	} {
		p := release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
			Current: []release.CurrentRelease{{Statement: release.Digest{1}, Version: "1", Sequence: 1}}, Signers: list}
		if _, err := release.NewChannel(p).Marshal(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
