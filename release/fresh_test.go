package release_test

import (
	"slices"
	"testing"
	"time"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// TestFreshness goes through what a channel statement says of a release, and what is said of that.
func TestFreshness(t *testing.T) {
	k, b, _ := unlogged(t) // minimal 0.1.0, sequence 1
	l := newBareLog(t, "log.example")
	d := release.PayloadDigest(b)
	current := func(d release.Digest, sequence uint64) []release.CurrentRelease {
		return []release.CurrentRelease{{Statement: d, Version: "0.1.0", Sequence: sequence}}
	}
	gone := []release.Revocation{{Statement: release.Digest{9}, Since: rt.Now}}
	mark := func(sequence uint64) func(*release.Policy) {
		return func(p *release.Policy) {
			p.Memory.Channels = map[string]release.Mark{"minimal@stable": {Sequence: sequence}}
		}
	}
	unasked := func(p *release.Policy) { p.Channel = release.ChannelPolicy{} }
	for name, tt := range map[string]struct {
		edit   func(q *release.ChannelPredicate)
		policy func(*release.Policy)
		now    time.Time
		want   release.Reason
		status release.Status // of the check "rollback"
	}{
		"current":                   {nil, nil, rt.Now, "", release.NotChecked},
		"remembered":                {nil, mark(6), rt.Now, "", release.OK},
		"newer remembered":          {nil, mark(8), rt.Now, release.Rollback, ""},
		"unasked, and not new":      {nil, unasked, rt.Now.Add(90 * time.Minute), "", release.NotChecked},
		"at its oldest":             {nil, nil, rt.Now.Add(time.Hour), "", release.NotChecked},
		"older":                     {nil, nil, rt.Now.Add(time.Hour + 1), release.Expired, ""},
		"at its end":                {nil, unasked, rt.Now.Add(2 * time.Hour), release.Expired, ""},
		"of another sequence":       {func(q *release.ChannelPredicate) { q.Current = current(d, 2) }, nil, rt.Now, release.BadChannel, ""},
		"of another version":        {func(q *release.ChannelPredicate) { q.Current[0].Version = "0.1.1" }, nil, rt.Now, release.BadChannel, ""},
		"another of its sequence":   {func(q *release.ChannelPredicate) { q.Current = current(release.Digest{1}, 1) }, nil, rt.Now, release.BadChannel, ""},
		"another of a higher one":   {func(q *release.ChannelPredicate) { q.Current = current(release.Digest{1}, 2) }, nil, rt.Now, release.Rollback, ""},
		"none is current":           {func(q *release.ChannelPredicate) { q.Current, q.Revoked = nil, gone }, nil, rt.Now, release.BadChannel, ""},
		"none, and at the minimum":  {func(q *release.ChannelPredicate) { q.Current, q.Revoked, q.MinimumSequence = nil, gone, 1 }, nil, rt.Now, release.BadChannel, ""},
		"none, and below a minimum": {func(q *release.ChannelPredicate) { q.Current, q.Revoked, q.MinimumSequence = nil, gone, 2 }, nil, rt.Now, release.Rollback, ""},
		"at the minimum":            {func(q *release.ChannelPredicate) { q.MinimumSequence = 1 }, nil, rt.Now, "", release.NotChecked},
		"revoked": {func(q *release.ChannelPredicate) {
			q.Current, q.Revoked = nil, []release.Revocation{{Statement: d, Since: rt.Now}}
		}, nil, rt.Now, release.Revoked, ""},
	} {
		q := release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: 7, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(2 * time.Hour), Current: current(d, 1)}
		if tt.edit != nil {
			tt.edit(&q)
		}
		c := must(sign.Channel(release.NewChannel(q), k))
		l.both(b, k.Public(), c, k.Public())
		p := &release.Policy{Signers: signers(k), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}, Channel: release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}}
		if tt.policy != nil {
			tt.policy(p)
		}
		r, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, c)), p, tt.now)
		if reason(t, err) != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		i := slices.IndexFunc(r.Checks, func(c release.Check) bool { return c.Name == "rollback" && c.Status != release.Failed })
		if (i < 0) != (tt.status == "") || i >= 0 && r.Checks[i].Status != tt.status {
			t.Errorf("%s: rollback is not %q in %+v", name, tt.status, r.Checks)
		}
		if said := slices.ContainsFunc(r.Checks, func(c release.Check) bool { return c.Name == "channel" && c.Status == release.OK }); said != (err == nil) {
			t.Errorf("%s: channel in %+v", name, r.Checks)
		}
	}
	p := &release.Policy{Signers: signers(k), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}}
	for high, want := range map[uint64]release.Reason{0: "", 1: "", 2: release.Rollback} {
		p.Memory.Releases = map[string]uint64{"minimal": high, "maximal": 9}
		r, err := release.Verify(rt.Marshal(t, l.add(b, k.Public())), p, rt.Now)
		if said := slices.ContainsFunc(r.Checks, func(c release.Check) bool { return c.Name == "rollback" && c.Status == release.NotChecked }); reason(t, err) != want || said != (want == "") {
			t.Errorf("sequence %d accepted before: %v, said %v", high, err, said)
		}
	}
}

// A revocation counts once it is verified, and one that is not spoils the file: whoever made it can leave it out.
func TestBadRevocation(t *testing.T) {
	k, b, _ := unlogged(t)
	l, revoker := newBareLog(t, "log.example"), rt.Key(t)
	c := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "revoked", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Revoked: []release.Revocation{{Statement: release.Digest{9}, Since: rt.Now}}}), revoker))
	l.both(b, k.Public(), c, revoker.Public())
	p := &release.Policy{Signers: signers(k), Revokers: signers(revoker), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}}
	for name, tt := range map[string]struct {
		edit func(c *release.Bundle)
		want release.Reason
	}{
		"good": {func(*release.Bundle) {}, ""}, "not logged": {func(c *release.Bundle) { c.Entry = nil }, release.NotLogged},
		"of another entry":   {func(c *release.Bundle) { c.Entry = b.Entry }, release.BadInclusion},
		"changed":            {func(c *release.Bundle) { c.Envelope.Payload = append(slices.Clone(c.Envelope.Payload), ' ') }, release.BadSignature},
		"by a channel's key": {func(c *release.Bundle) { c.Hint = k.Public().Hint() }, release.BadSignature},
		"a release":          {func(c *release.Bundle) { *c = *b; c.Hint = revoker.Public().Hint() }, release.BadIdentity},
	} {
		edited := *c
		tt.edit(&edited)
		r, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, &edited)), p, rt.Now)
		if reason(t, err) != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if (len(r.Revoking) == 1) != (tt.want == "") || (len(r.Revocations) == 1) != (tt.want == "") {
			t.Errorf("%s: %d to remember, %d at hand", name, len(r.Revoking), len(r.Revocations))
		}
	}
}

// A channel's key can be revoked, too. Then its statement holds for nothing, and what it revokes binds nobody.
func TestRevokedChannelKey(t *testing.T) {
	k, b, _ := unlogged(t)
	l, keeper, revoker := newBareLog(t, "log.example"), rt.Key(t), rt.Key(t)
	c := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Current: []release.CurrentRelease{{Statement: release.PayloadDigest(b), Version: "0.1.0", Sequence: 1}}, Revoked: []release.Revocation{{Statement: release.Digest{9}, Since: rt.Now}}}), keeper))
	l.both(b, k.Public(), c, keeper.Public())
	file := join(rt.Marshal(t, b), rt.Marshal(t, c))
	revoked := func(d release.Digest, kind string) []byte {
		r := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "revoked", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
			Revoked: []release.Revocation{{Statement: d, Kind: kind, Since: rt.Now}}}), revoker))
		return rt.Marshal(t, l.add(r, revoker.Public()))
	}
	remembered := func(d release.Digest) func(*release.Policy) {
		return func(p *release.Policy) { p.Memory.Revoked = map[release.Digest]string{d: "x"} }
	}
	for name, tt := range map[string]struct {
		more   []byte
		policy func(*release.Policy)
		want   release.Reason
		listed int // statements whose revocations are remembered
	}{
		"neither":                  {nil, nil, "", 1},
		"something else":           {revoked(release.Digest{8}, ""), nil, "", 2},
		"its key":                  {revoked(keeper.Public().ID(), release.RevokedKey), nil, release.Revoked, 1},
		"itself":                   {revoked(release.PayloadDigest(c), ""), nil, release.Revoked, 1},
		"its key, remembered":      {nil, remembered(keeper.Public().ID()), release.Revoked, 0},
		"itself, remembered":       {nil, remembered(release.PayloadDigest(c)), release.Revoked, 0},
		"another key, remembered":  {nil, remembered(revoker.Public().ID()), "", 1},
		"and a revocation's key":   {revoked(release.Digest{8}, ""), remembered(revoker.Public().ID()), "", 2}, // which only the policy takes back
		"the release, by its word": {nil, remembered(release.PayloadDigest(b)), release.Revoked, 0},
	} {
		p := &release.Policy{Signers: signers(k), Revokers: signers(revoker), Log: release.LogPolicy{Key: l.key, Unwitnessed: true},
			Channel: release.ChannelPolicy{Name: "stable", MaxAge: time.Hour, Signers: signers(keeper)}}
		if tt.policy != nil {
			tt.policy(p)
		}
		r, err := release.Verify(join(file, tt.more), p, rt.Now)
		if reason(t, err) != tt.want || len(r.Revoking) != tt.listed {
			t.Errorf("%s: %v, want %q; %d to remember, want %d", name, err, tt.want, len(r.Revoking), tt.listed)
		}
	}
}
