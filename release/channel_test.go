package release_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// join puts a release and a channel statement into one file.
func join(a, b []byte) []byte { return slices.Concat(a, b) }

// channelWorld has two releases, sequences 1 and 2, and a policy that wants a channel statement.
func channelWorld(t testing.TB) (w *rt.World, first, second []byte) {
	w = rt.New(t)
	w.Policy.Channel = release.ChannelPolicy{Name: "stable", MaxAge: 48 * time.Hour}
	return w, w.Bundle, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
}

func TestChannel(t *testing.T) {
	w, first, second := channelWorld(t)
	c := w.Channel(t, w.Key, w.Predicate(t, 1, first, second))
	for _, bundle := range [][]byte{first, second} {
		r, err := release.Verify(join(bundle, c), w.Policy, rt.Now)
		if err != nil {
			t.Fatal(err)
		}
		if r.Channel == nil || r.Channel.Key() != "minimal@stable" || len(r.Trees) != 2 || r.ChannelPayload == r.Payload {
			t.Errorf("result %+v", r)
		}
	}
	// Without the policy's word a statement at hand is weighed all the same.
	p := *w.Policy
	p.Channel = release.ChannelPolicy{}
	if _, err := release.Verify(join(first, c), &p, rt.Now); err != nil {
		t.Error(err)
	}
	if _, err := release.Verify(join(first, c), &p, rt.Now.AddDate(0, 0, 7)); reason(t, err) != release.Expired {
		t.Errorf("an expired statement that nobody asked for: %v", err)
	}
}

func TestChannelRefusals(t *testing.T) {
	w, first, second := channelWorld(t)
	d1, _ := rt.Payload(t, first)
	both := w.Channel(t, w.Key, w.Predicate(t, 1, first, second))
	newest := w.Channel(t, w.Key, w.Predicate(t, 2, second))
	minimum := w.Predicate(t, 3, second)
	minimum.MinimumSequence = 2
	floor := w.Channel(t, w.Key, minimum)
	revoked := w.Predicate(t, 4, second)
	revoked.MinimumSequence = 2
	revoked.Revoked = []release.Revocation{{Statement: d1, Reason: "leaks", Since: rt.Now}}
	gone := w.Channel(t, w.Key, revoked)
	other := rt.Key(t)
	elsewhere := w.Predicate(t, 1, first)
	elsewhere.Channel = "beta"
	beta := w.Channel(t, w.Key, elsewhere)
	foreign := w.Predicate(t, 1, first)
	foreign.Name = "maximal"
	maximal := w.Channel(t, w.Key, foreign)
	wrong := w.Predicate(t, 9, first)
	wrong.Channel, wrong.Current[0].Version = "wrong", "9.9"
	misnamed := w.Channel(t, w.Key, wrong)
	old := w.Predicate(t, 1, first)
	old.Channel = "old"
	stranger := w.Channel(t, other, old)
	third := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle
	unlogged, err := sign.Channel(release.NewChannel(w.Predicate(t, 8, first)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	payload := func(c []byte) release.Digest {
		b, err := release.ParseBundle(c)
		if err != nil {
			t.Fatal(err)
		}
		return release.PayloadDigest(b)
	}
	for _, c := range []struct {
		name            string
		bundle, channel []byte
		edit            func(p *release.Policy)
		now             time.Time
		want            release.Reason
	}{
		{"accepted", first, both, nil, rt.Now, ""},
		{"none at hand", first, nil, nil, rt.Now, release.BadChannel},
		{"not current, older", first, newest, nil, rt.Now, release.Rollback},
		{"not current, newer", third, newest, nil, rt.Now, release.BadChannel},
		{"below the minimum", first, floor, nil, rt.Now, release.Rollback},
		{"revoked", first, gone, nil, rt.Now, release.Revoked},
		{"revoked in an expired statement", first, gone, nil, rt.Now.AddDate(1, 0, 0), release.Revoked},
		{"revoked in an older statement", first, gone, func(p *release.Policy) {
			p.Memory.Channels = map[string]release.Mark{"minimal@stable": {Sequence: 5}}
		}, rt.Now, release.Revoked},
		{"revoked, remembered", first, both, func(p *release.Policy) { p.Memory.Revoked = map[release.Digest]string{d1: "leaks"} }, rt.Now, release.Revoked},
		{"older than remembered", first, both, func(p *release.Policy) {
			p.Memory.Channels = map[string]release.Mark{"minimal@stable": {Sequence: 2, Payload: payload(newest)}}
		}, rt.Now, release.Rollback},
		{"same as remembered", first, both, func(p *release.Policy) {
			p.Memory.Channels = map[string]release.Mark{"minimal@stable": {Sequence: 1, Payload: payload(both)}}
		}, rt.Now, ""},
		{"another of the same sequence", first, both, func(p *release.Policy) {
			p.Memory.Channels = map[string]release.Mark{"minimal@stable": {Sequence: 1, Payload: payload(newest)}}
		}, rt.Now, release.Rollback},
		{"young enough", first, both, nil, rt.Now.Add(48 * time.Hour), ""},
		{"too old for the policy", first, both, nil, rt.Now.Add(48*time.Hour + time.Second), release.Expired},
		{"past its own end", first, both, func(p *release.Policy) { p.Channel.MaxAge = 1e18 }, rt.Now.AddDate(0, 0, 7), release.Expired},
		{"clock a little behind", first, both, nil, rt.Now.Add(-5 * time.Minute), ""},
		{"from the future", first, both, nil, rt.Now.Add(-5*time.Minute - time.Second), release.NotYetValid},
		{"another channel", first, beta, nil, rt.Now, release.BadChannel},
		{"another name", first, maximal, nil, rt.Now, release.BadChannel},
		{"another version", first, misnamed, func(p *release.Policy) { p.Channel.Name = "wrong" }, rt.Now, release.BadChannel},
		{"not a signer", first, stranger, func(p *release.Policy) { p.Channel.Name = "old" }, rt.Now, release.BadIdentity},
		{"a channel signer of its own", first, stranger, func(p *release.Policy) {
			p.Channel.Name, p.Channel.Signers = "old", []release.Signer{{Key: other.Public()}}
		}, rt.Now, ""},
		{"not the channel signer", first, both, func(p *release.Policy) {
			p.Channel.Signers = []release.Signer{{Key: other.Public()}}
		}, rt.Now, release.BadIdentity},
		{"channel signer's time is over", first, stranger, func(p *release.Policy) {
			p.Channel.Name, p.Channel.Signers = "old", []release.Signer{{Key: other.Public(), NotAfter: rt.Now}}
		}, rt.Now, release.Expired},
		{"not logged", first, rt.Marshal(t, unlogged), nil, rt.Now, release.NotLogged},
		{"a release in its place", first, second, nil, rt.Now, release.BadStatement},
		{"in the release's place", both, both, nil, rt.Now, release.BadStatement},
		{"no bundle", first, []byte("{}"), nil, rt.Now, release.BadBundle},
		{"no JSON", first, []byte("x"), nil, rt.Now, release.BadBundle},
		{"three bundles", first, join(both, both), nil, rt.Now, release.BadBundle},
		{"forked log", first, both, func(p *release.Policy) { p.Log.Seen = forked(t, w, both) }, rt.Now, release.LogFork},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := *w.Policy
			if c.edit != nil {
				c.edit(&p)
			}
			r, err := release.Verify(join(c.bundle, c.channel), &p, c.now)
			if got := reason(t, err); got != c.want {
				t.Errorf("%v, want reason %q", err, c.want)
			}
			if (err != nil) && (r.Statement != nil || r.Channel != nil) {
				t.Error("refused, but the result has statements")
			}
		})
	}
}

// forked remembers another tree of the size that the bundle's has.
func forked(t *testing.T, w *rt.World, bundle []byte) []release.SeenTree {
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := w.Log.OpenCheckpoint([]byte(b.Entry.Checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	tree.Hash[0] ^= 1
	return []release.SeenTree{{Tree: tree, Note: "the other note"}}
}

// Without a channel statement the sequence is the high-water mark.
func TestSequenceIsRemembered(t *testing.T) {
	w, first, second := channelWorld(t)
	w.Policy.Channel = release.ChannelPolicy{}
	w.Policy.Memory.Releases = map[string]uint64{"minimal": 2}
	if _, err := release.Verify(second, w.Policy, rt.Now); err != nil {
		t.Error(err)
	}
	if _, err := release.Verify(first, w.Policy, rt.Now); reason(t, err) != release.Rollback {
		t.Errorf("an older release: %v", err)
	}
	c := w.Channel(t, w.Key, w.Predicate(t, 1, first, second))
	if _, err := release.Verify(join(first, c), w.Policy, rt.Now); err != nil {
		t.Errorf("an older release that is still current: %v", err)
	}
}

func TestChannelForm(t *testing.T) {
	d := release.Digest{1}
	good := func() release.ChannelPredicate {
		return release.ChannelPredicate{
			Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
			Current: []release.CurrentRelease{{Statement: release.Digest{2}, Version: "2", Sequence: 2}, {Statement: d, Version: "1", Sequence: 1}},
			Revoked: []release.Revocation{{Statement: release.Digest{3}, Since: rt.Now}},
		}
	}
	data, err := release.NewChannel(good()).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c, err := release.ParseChannel(data)
	if err != nil {
		t.Fatal(err)
	}
	if c.Predicate.Current[0].Statement != d || len(c.Subject) != 3 || !release.IsChannel(data) || release.IsChannel([]byte("{}")) {
		t.Errorf("channel %+v", c)
	}
	if latest, ok := c.Predicate.Latest(); !ok || latest.Version != "2" {
		t.Errorf("latest %+v, %v", latest, ok)
	}
	for name, edit := range map[string]func(*release.ChannelPredicate){
		"name":          func(p *release.ChannelPredicate) { p.Name = "../x" },
		"channel":       func(p *release.ChannelPredicate) { p.Channel = ".x" },
		"sequence":      func(p *release.ChannelPredicate) { p.Sequence = 0 },
		"nothing":       func(p *release.ChannelPredicate) { p.Current, p.Revoked = nil, nil },
		"issued":        func(p *release.ChannelPredicate) { p.IssuedAt = time.Time{} },
		"zone":          func(p *release.ChannelPredicate) { p.IssuedAt = p.IssuedAt.In(time.FixedZone("x", 60)) },
		"ends before":   func(p *release.ChannelPredicate) { p.ValidUntil = p.IssuedAt },
		"twice":         func(p *release.ChannelPredicate) { p.Current[0].Statement = d },
		"both":          func(p *release.ChannelPredicate) { p.Revoked[0].Statement = d },
		"revoked twice": func(p *release.ChannelPredicate) { p.Revoked = append(p.Revoked, p.Revoked[0]) },
		"below minimum": func(p *release.ChannelPredicate) { p.MinimumSequence = 2 },
		"no version":    func(p *release.ChannelPredicate) { p.Current[0].Version = "" },
		"reason":        func(p *release.ChannelPredicate) { p.Revoked[0].Reason = "a\nb" },
		"since":         func(p *release.ChannelPredicate) { p.Revoked[0].Since = time.Time{} },
	} {
		p := good()
		edit(&p)
		if _, err := release.NewChannel(p).Marshal(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, bad := range map[string]string{
		"spacing": strings.Replace(string(data), ":", ": ", 1), "newline": string(data) + "\n", "null": strings.Replace(string(data), `"minimumSequence":0`, `"minimumSequence":null`, 1),
		"unknown key": strings.Replace(string(data), `"channel"`, `"chanel"`, 1), "type": strings.Replace(string(data), "release-channel/v1", "release/v1", 1),
		"subjects": strings.Replace(string(data), `"subject":[{"name":"01`, `"subject":[{"name":"00`, 1), "oversize": string(data) + strings.Repeat(" ", release.MaxChannel),
		"unsorted": strings.Replace(strings.Replace(string(data), `"statement":"01`, `"statement":"0x`, 1), `"statement":"02`, `"statement":"01`, 1),
	} {
		if bad == string(data) {
			t.Errorf("%s: nothing changed", name)
		}
		if _, err := release.ParseChannel([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestChannelSchema(t *testing.T) {
	parse := func(b []byte) error { _, err := release.ParseChannel(b); return err }
	checkExample(t, "channel", parse, []mutation{
		{`channel/v1`, `channel/v2`, false},
		{`"name":"minimal"`, `"name":"../minimal"`, false},
		{`"channel":"stable"`, `"channel":""`, false},
		{`"sequence":7`, `"sequence":0`, false},
		{`"sequence":7,`, ``, false},
		{`"sequence":7`, `"sequence":7,"more":1`, false},
		{`"minimumSequence":2`, `"minimumSequence":4`, true},
		{`"validUntil":"2026`, `"validUntil":"2025`, true},
		{`"validUntil":"2026-02-01T01:00:00Z"`, `"validUntil":"2026-02-01T01:00:00+01:00"`, false},
		{`"version":"0.1.0"`, `"version":""`, false},
		{`"kind":"key"`, `"kind":"release"`, false},
		{`"reason":"it leaks",`, ``, false},
		{`"statement":"bb`, `"statement":"BB`, false},
		{`"statement":"bb`, `"statement":"ba`, true}, // not its subject
		{`"key":"MFkw`, `"key":"MFk-`, false},
		{`"key":"MFkw`, `"key":"AFkw`, true},
		{`"notBefore":"2026`, `"notBefore":"2028`, true},
	})
	checkKeys(t, "channel.schema.json", reflect.TypeFor[release.Channel]())
	text, err := os.ReadFile("statement.example.json")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("channel.example.json")
	if err != nil || !strings.Contains(string(example), fmt.Sprintf(`"statement": "%x"`, sha256.Sum256(b.Bytes()))) {
		t.Errorf("the example's current release is not the example of a statement, %v", err)
	}
}

func TestSplit(t *testing.T) {
	for text, want := range map[string]int{"{}": 1, "{}\n": 1, "{}\n{}": 2, " {} \n\n{}\n ": 2, "": 0, "\n": 0, "{}{}{}": 3, strings.Repeat("{}", 64): 64, strings.Repeat("{}", 65): 0, "{": 0, "{}x": 0} {
		parts, err := release.Split([]byte(text))
		if len(parts) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d parts, %v, want %d", text, len(parts), err, want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte("{}\n{}\n"))
	f.Add([]byte("{\"a\":[1]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parts, err := release.Split(data)
		if err == nil && len(bytes.TrimSpace(bytes.Join(parts, nil))) == 0 {
			t.Error("nothing was split into something")
		}
	})
}

// A channel statement is accepted in the one form or not at all.
func FuzzParseChannel(f *testing.F) {
	data, err := release.NewChannel(release.ChannelPredicate{
		Name: "minimal", Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Current: []release.CurrentRelease{{Statement: release.Digest{1}, Version: "1", Sequence: 1}}, Revoked: []release.Revocation{{Statement: release.Digest{2}, Since: rt.Now}},
	}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := release.ParseChannel(data)
		if err != nil {
			return
		}
		again, err := c.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted in another form than its own: %v\n%s", err, again)
		}
	})
}
