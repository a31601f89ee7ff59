package release_test

import (
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func signers(keys ...*sign.Key) (out []release.Signer) {
	for _, k := range keys {
		out = append(out, release.Signer{Key: k.Public()})
	}
	return out
}

// differs makes a statement into one about other bytes.
func differs(r *release.Rebuild) {
	r.Predicate.Result = release.Differs
	r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "DIFFER", Want: &release.Digest{1}, Got: &release.Digest{2}}}
}

func TestRebuilders(t *testing.T) {
	w := rt.New(t)
	a, b, c, stranger := rt.Key(t), rt.Key(t), rt.Key(t), rt.Key(t)
	other := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2, SourceCommit: strings.Repeat("1", 40)})).Bundle
	noValues := func(r *release.Rebuild) {
		r.Subject = slices.Clone(r.Subject)
		i := slices.IndexFunc(r.Subject, func(s release.Subject) bool { return s.Name == release.ReferenceValues })
		r.Subject[i].Digest.SHA256[0] ^= 1
	}
	byA, byB, byC := w.Rebuild(t, a, w.Bundle, nil), w.Rebuild(t, b, w.Bundle, nil), w.Rebuild(t, c, w.Bundle, differs)
	self := w.Rebuild(t, w.Key, w.Bundle, nil)
	byStranger := w.Rebuild(t, stranger, w.Bundle, nil)
	unlogged, err := sign.Rebuild(rt.RebuildOf(t, w.Bundle, nil), b)
	if err != nil {
		t.Fatal(err)
	}
	late := signers(b)
	late[0].NotAfter = rt.Now
	two := release.RebuilderPolicy{Need: 2, Keys: signers(a, b, c)}
	for name, tt := range map[string]struct {
		policy release.RebuilderPolicy
		parts  [][]byte
		want   release.Reason
		count  int
	}{
		"nobody asked for":                {release.RebuilderPolicy{}, [][]byte{byA}, "", 0},
		"two of three":                    {two, [][]byte{byA, byB}, "", 2},
		"the order does not matter":       {two, [][]byte{byB, byA}, "", 2},
		"none":                            {two, nil, release.TooFewRebuilders, 0},
		"one of three":                    {two, [][]byte{byA}, release.TooFewRebuilders, 1},
		"one twice":                       {two, [][]byte{byA, byA}, release.TooFewRebuilders, 1},
		"one in two words":                {two, [][]byte{byA, w.Rebuild(t, a, w.Bundle, func(r *release.Rebuild) { r.Predicate.Tally.Version = "2" })}, release.TooFewRebuilders, 1},
		"a stranger":                      {two, [][]byte{byA, byStranger}, release.TooFewRebuilders, 1},
		"the maintainer":                  {two, [][]byte{byA, self}, release.TooFewRebuilders, 1},
		"the same bytes, signed anew":     {release.RebuilderPolicy{Need: 1, Keys: signers(b)}, [][]byte{w.Rebuild(t, b, other, nil)}, "", 1},
		"other reference values":          {two, [][]byte{byA, w.Rebuild(t, b, w.Bundle, noValues)}, release.TooFewRebuilders, 1},
		"not logged":                      {two, [][]byte{byA, rt.Marshal(t, unlogged)}, release.NotLogged, 0},
		"a rebuilder whose time is up":    {release.RebuilderPolicy{Need: 1, Keys: late}, [][]byte{byB}, release.TooFewRebuilders, 0},
		"a mismatch":                      {two, [][]byte{byA, byB, byC}, release.Mismatch, 2},
		"a mismatch that nobody needs":    {release.RebuilderPolicy{Keys: signers(c)}, [][]byte{byC}, release.Mismatch, 0},
		"a mismatch by a stranger":        {release.RebuilderPolicy{Keys: signers(a)}, [][]byte{byC}, "", 0},
		"none needed":                     {release.RebuilderPolicy{Keys: signers(a)}, [][]byte{byA}, "", 1},
		"a mismatch of another":           {two, [][]byte{byA, byB, w.Rebuild(t, c, other, func(r *release.Rebuild) { differs(r); noValues(r) })}, "", 2},
		"a mismatch under other subjects": {two, [][]byte{byA, byB, w.Rebuild(t, c, w.Bundle, func(r *release.Rebuild) { differs(r); noValues(r) })}, release.Mismatch, 2},
		"its signature":                   {two, [][]byte{byA, []byte(strings.Replace(string(byB), `"sig":"MEU`, `"sig":"MEQ`, 1))}, release.BadSignature, 0},
	} {
		if name == "its signature" && !strings.Contains(string(byB), `"sig":"MEU`) {
			continue // an ASN.1 length of the other parity: half of the keys
		}
		p := *w.Policy
		p.Rebuilders = tt.policy
		r, err := release.Verify(slices.Concat(append([][]byte{w.Bundle}, tt.parts...)...), &p, rt.Now)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || reason(t, err) != tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err == nil && len(r.Rebuilders) != tt.count {
			t.Errorf("%s: %d counted, want %d", name, len(r.Rebuilders), tt.count)
		}
		if said := slices.ContainsFunc(r.Checks, func(c release.Check) bool { return c.Name == "rebuilders" && c.Status == release.NotChecked }); err == nil && said != (tt.policy.Need == 0) {
			t.Errorf("%s: says that nothing was checked: %v", name, said)
		}
	}
}

func TestRebuilderPolicy(t *testing.T) {
	w := rt.New(t)
	a := rt.Key(t)
	for want, change := range map[string]func(*release.Policy){
		"needs 2 of 1":             func(p *release.Policy) { p.Rebuilders = release.RebuilderPolicy{Need: 2, Keys: signers(a)} },
		"needs -1 of 1":            func(p *release.Policy) { p.Rebuilders = release.RebuilderPolicy{Need: -1, Keys: signers(a)} },
		"the same key twice":       func(p *release.Policy) { p.Rebuilders = release.RebuilderPolicy{Need: 2, Keys: signers(a, a)} },
		"signs releases, channels": func(p *release.Policy) { p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(w.Key)} },
		"but no rebuilder":         func(p *release.Policy) { p.Rebuilders.Logs = []release.LogPolicy{p.Log} },
		"log 1 of the rebuilders: wants a key and a word on witnesses": func(p *release.Policy) {
			p.Rebuilders = release.RebuilderPolicy{Keys: signers(a), Logs: []release.LogPolicy{{Key: w.Log}}}
		},
		"for the releases' log alone": func(p *release.Policy) {
			p.Rebuilders = release.RebuilderPolicy{Keys: signers(a), Logs: []release.LogPolicy{{Key: w.Log, Unwitnessed: true, MaxAge: 1}}}
		},
		"signs releases or channels too":      func(p *release.Policy) { p.Revokers = signers(w.Key) },
		"signs releases, channels or revocat": func(p *release.Policy) { p.Revokers = signers(a); p.Rebuilders.Keys = signers(a) },
	} {
		p := *w.Policy
		change(&p)
		if _, err := release.Verify(w.Bundle, &p, rt.Now); err == nil || reason(t, err) != release.PolicyEmpty || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A rebuilder may have a log of its own; the policy says which.
func TestRebuilderLog(t *testing.T) {
	w, k := rt.New(t), rt.Key(t)
	elsewhere := func(origin string) *rt.World {
		theirs := *w
		theirs.LogDir = filepath.Join(t.TempDir(), "theirs")
		theirs.LogKey = theirs.LogDir + ".key"
		var err error
		theirs.Log, err = log.Create(t.Context(), theirs.LogDir, log.CreateOptions{Origin: origin, KeyFile: theirs.LogKey, Rand: rand.Reader, Now: rt.Now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return &theirs
	}
	one, two := elsewhere("one.example"), elsewhere("two.example")
	p := *w.Policy
	p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(k)}
	inOne := slices.Concat(w.Bundle, one.Rebuild(t, k, w.Bundle, nil))
	if _, err := release.Verify(inOne, &p, rt.Now); err == nil || reason(t, err) != release.BadLog {
		t.Errorf("a log that the policy does not name: %v", err)
	}
	p.Rebuilders.Logs = []release.LogPolicy{{Key: one.Log, Unwitnessed: true}, {Key: two.Log, Unwitnessed: true}}
	for name, c := range map[string]struct {
		file  []byte
		trees int // of the releases' log, which alone are remembered
	}{
		"the first":    {inOne, 1},
		"the second":   {slices.Concat(w.Bundle, two.Rebuild(t, k, w.Bundle, nil)), 1},
		"the releases": {slices.Concat(w.Bundle, w.Rebuild(t, k, w.Bundle, nil)), 2},
	} {
		if r, err := release.Verify(c.file, &p, rt.Now); err != nil || len(r.Trees) != c.trees {
			t.Errorf("%s log: %v; %d trees of the releases' log, want %d", name, err, len(r.Trees), c.trees)
		}
	}
}

// What a named rebuilder signed and logged that is no rebuild statement in form is no vote, and no panic.
func TestMalformedRebuild(t *testing.T) {
	w, k := rt.New(t), rt.Key(t)
	p := *w.Policy
	p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(k)}
	good := mustPayload(t, w.Rebuild(t, k, w.Bundle, nil))
	l := w.Open(t)
	defer l.Close()
	for want, change := range map[string][2]string{
		"result":      {`"result":"reproduced"`, `"result":"maybe"`},
		"unknown key": {`"result":"reproduced"`, `"result":"reproduced","x":1`},
		"sequence":    {`"sequence":1`, `"sequence":0`},
		"commit":      {strings.Repeat("ab", 20), strings.Repeat("xy", 20)},
	} {
		payload := strings.Replace(good, change[0], change[1], 1)
		if payload == good {
			t.Fatalf("%s: changed nothing in %s", want, good)
		}
		b := signRaw(t, k, payload)
		var err error
		if b.Entry, err = l.Append(t.Context(), release.LeafBody(&b.Envelope, k.Public())); err != nil {
			t.Fatal(err)
		}
		if _, err := release.Verify(slices.Concat(w.Bundle, rt.Marshal(t, b)), &p, rt.Now); err == nil || reason(t, err) != release.BadStatement || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want reason %q", want, err, release.BadStatement)
		}
	}
}

// A key of its own revokes: releases, what rebuilders said, and keys.
func TestRevocationKey(t *testing.T) {
	w, revoker, rebuilder := rt.New(t), rt.Key(t), rt.Key(t)
	payload, _ := rt.Payload(t, w.Bundle)
	said := w.Rebuild(t, rebuilder, w.Bundle, nil)
	b, err := release.ParseBundle(said)
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(channel string, d release.Digest, kind string) []byte {
		p := w.Predicate(t, 1)
		p.Channel = channel
		p.Revoked = []release.Revocation{{Statement: d, Kind: kind, Reason: "stolen", Since: rt.Now}}
		return w.Channel(t, revoker, p)
	}
	p := *w.Policy
	p.Revokers = signers(revoker)
	p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(rebuilder)}
	verify := func(parts ...[]byte) (*release.Result, error) {
		return release.Verify(slices.Concat(append([][]byte{w.Bundle, said}, parts...)...), &p, rt.Now.AddDate(1, 0, 0))
	}
	if _, err := verify(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		digest release.Digest
		kind   string
		want   release.Reason
	}{
		"the release":          {payload, "", release.Revoked},
		"its signer":           {w.Key.Public().ID(), "key", release.Revoked},
		"what a rebuilder did": {release.PayloadDigest(b), "", release.TooFewRebuilders},
		"the rebuilder":        {rebuilder.Public().ID(), "key", release.TooFewRebuilders},
		"something else":       {release.Digest{1}, "", ""},
	} {
		part := revoke(strings.ReplaceAll(name, " ", "-"), tt.digest, tt.kind)
		r, err := verify(part)
		if tt.want == "" && (err != nil || len(r.Revocations) != 1) || tt.want != "" && (err == nil || reason(t, err) != tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
