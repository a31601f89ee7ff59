package release_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tally/release"
	rt "tally/release/releasetest"
)

func TestChannelLimits(t *testing.T) {
	type C = release.Channel
	read := func(t testing.TB) *C { return must(release.ParseChannel(example(t, "channel"))) }
	again := func(edit func(*release.ChannelPredicate)) func(*C) {
		return func(c *C) { p := c.Predicate; edit(&p); *c = *release.NewChannel(p) }
	}
	later := func(c *C) time.Time { return c.Predicate.ValidUntil.Add(time.Millisecond) }
	long := strings.Repeat("x", 128)
	text := strings.Repeat("x", 1024)
	checkForms(t, read, (*C).Marshal, []form[C]{
		{"nothing", again(func(*release.ChannelPredicate) {}), ""},
		{"type", func(c *C) { c.Type = "x" }, `type "x"`}, {"predicate type", func(c *C) { c.PredicateType = "x" }, `predicate "x"`},
		{"long names", func(c *C) { c.Predicate.Name, c.Predicate.Channel = long, long }, ""},
		{"long name", func(c *C) { c.Predicate.Name = long + "x" }, "beginning with a letter"}, {"long channel", func(c *C) { c.Predicate.Channel = long + "x" }, "beginning with a letter"},
		{"name of another script", func(c *C) { c.Predicate.Name = "minima\u04cf" }, "beginning with a letter"}, {"two names in one", func(c *C) { c.Predicate.Name = "a@b" }, "beginning with a letter"},
		{"part of a second", func(c *C) { c.Predicate.ValidUntil = later(c) }, "whole seconds"},
		{"revoked alone", again(func(p *release.ChannelPredicate) { p.Current = nil }), ""}, {"current alone", again(func(p *release.ChannelPredicate) { p.Revoked = nil }), ""},
		{"at the minimum", again(func(p *release.ChannelPredicate) { p.MinimumSequence = 3 }), ""}, {"below the minimum", again(func(p *release.ChannelPredicate) { p.MinimumSequence = 4 }), "below the minimum of 4"},
		{"no sequence, no minimum", again(func(p *release.ChannelPredicate) { p.MinimumSequence, p.Current[0].Sequence = 0, 0 }), "below the minimum of 1"},
		{"version", again(func(p *release.ChannelPredicate) { p.Current[0].Version = text }), ""}, {"long version", again(func(p *release.ChannelPredicate) { p.Current[0].Version = text + "x" }), "version"},
		{"version of lines", again(func(p *release.ChannelPredicate) { p.Current[0].Version = "1\n" }), "version"},
		{"reason", again(func(p *release.ChannelPredicate) { p.Revoked[0].Reason = text }), ""}, {"long reason", again(func(p *release.ChannelPredicate) { p.Revoked[0].Reason = text + "x" }), "reason"},
		{"kind", again(func(p *release.ChannelPredicate) { p.Revoked[0].Kind = "Key" }), "kind"}, {"a key of no kind", again(func(p *release.ChannelPredicate) { p.Revoked[1].Kind = "" }), ""},
		{"since", again(func(p *release.ChannelPredicate) { p.Revoked[0].Since = rt.Now.Add(1) }), "since"},
		{"current in disorder", again(func(p *release.ChannelPredicate) { p.Current = append(p.Current, p.Current[0]) }), "each once"},
		{"revoked twice", again(func(p *release.ChannelPredicate) { p.Revoked = append(p.Revoked, p.Revoked[0]) }), "each once"},
		{"both", again(func(p *release.ChannelPredicate) { p.Revoked[0].Statement = p.Current[0].Statement }), "both current and revoked"},
		{"a subject less", func(c *C) { c.Subject = c.Subject[1:] }, "subjects are not"},
		{"large", again(func(p *release.ChannelPredicate) {
			for i := range 1000 {
				p.Revoked = append(p.Revoked, release.Revocation{Statement: release.Digest{0, byte(i >> 8), byte(i)}, Reason: text, Since: rt.Now})
			}
		}), "want at most"},
	})
	for in, bad := range map[[2]string]string{
		{`"current":[`, `"current":[{"statement":"ff00000000000000000000000000000000000000000000000000000000000000","version":"1","sequence":2},`}:                 "want sorted",
		{`"revoked":[`, `"revoked":[{"statement":"cd00000000000000000000000000000000000000000000000000000000000000","reason":"","since":"2026-01-01T01:00:00Z"},`}: "want sorted",
	} {
		text := strings.Replace(string(example(t, "channel")), in[0], in[1], 1)
		d := in[1][strings.Index(in[1], `:"`)+2:][:64]
		subject := fmt.Sprintf(`,{"name":"%s","digest":{"sha256":"%[1]s"}}],"predicateType"`, d)
		text = strings.Replace(text, `],"predicateType"`, subject, 1)
		if _, err := release.ParseChannel([]byte(text)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v, want %q", in[1], err, bad)
		}
	}
}

// A channel statement of the largest size, and one byte more.
func TestLargestChannel(t *testing.T) {
	p := must(release.ParseChannel(example(t, "channel"))).Predicate
	full := strings.Repeat("x", 1024)
	for i := range 700 {
		p.Revoked = append(p.Revoked, release.Revocation{Statement: release.Digest{0, byte(i >> 8), byte(i)}, Reason: full, Since: rt.Now})
	}
	size := len(must(release.NewChannel(p).Marshal()))
	for left := release.MaxChannel - size; left > 0; left = release.MaxChannel - size {
		d := release.Digest{1, byte(left >> 16), byte(left >> 8), byte(left)}
		p.Revoked = append(p.Revoked, release.Revocation{Statement: d, Since: rt.Now})
		at := len(p.Revoked) - 1
		size = len(must(release.NewChannel(p).Marshal()))
		p.Revoked[at].Reason = full[:min(1024, release.MaxChannel-size)]
		if rest := release.MaxChannel - size - 1024; rest > 0 && rest < 400 { // room for what a last one takes
			p.Revoked[at].Reason = full[:600]
		}
		size += len(p.Revoked[at].Reason)
	}
	data := must(release.NewChannel(p).Marshal())
	if _, err := release.ParseChannel(data); err != nil || len(data) != release.MaxChannel {
		t.Fatalf("%d bytes: %v", len(data), err)
	}
	for i := range p.Revoked {
		if len(p.Revoked[i].Reason) < 1024 {
			p.Revoked[i].Reason += "x"
			break
		}
	}
	if _, err := release.NewChannel(p).Marshal(); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := release.ParseChannel(append(data, ' ')); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("one byte more, read: %v", err)
	}
}

func TestChannelLists(t *testing.T) {
	p := must(release.ParseChannel(example(t, "channel"))).Predicate
	named := must(p.NamedSigners())
	p.Revoked = append(p.Revoked, release.Revocation{Statement: named[0].Key.ID(), Kind: release.RevokedKey, Since: rt.Now})
	if c := release.NewChannel(p); len(c.Subject) != 4 {
		t.Errorf("a signer that is revoked is a subject once: %+v", c.Subject)
	}
	for want, list := range map[uint64][]uint64{0: nil, 5: {3, 5, 4}, 7: {7, 1}} {
		p.Current = nil
		for i, n := range list {
			p.Current = append(p.Current, release.CurrentRelease{Statement: release.Digest{byte(i)}, Sequence: n})
		}
		if got, ok := p.Latest(); got.Sequence != want || ok != (want > 0) {
			t.Errorf("latest of %v: %+v, %v", list, got, ok)
		}
	}
}
