package keyless_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/keyless"
	kt "tally/release/keyless/keylesstest"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/sign/oidc"
)

// seal signs a statement as whom the claims name.
func (w *world) seal(t *testing.T, c kt.Claims, s interface{ Marshal() ([]byte, error) }) ([]byte, release.PublicKey) {
	t.Helper()
	b, who, err := oidc.Seal(t.Context(), payload(t, s), w.options(t, c))
	if err != nil {
		t.Fatal(err)
	}
	k, err := release.CertifiedKey(b.Certificate, who)
	if err != nil {
		t.Fatal(err)
	}
	return rt.Marshal(t, b), k
}

// rebuild is what whom the claims name logs about a release.
func (w *world) rebuild(t *testing.T, c kt.Claims, bundle []byte, change func(*release.Rebuild)) []byte {
	t.Helper()
	data, k := w.seal(t, c, rt.RebuildOf(t, bundle, change))
	l := w.rt.Open(t)
	p, err := publish.Rebuild(t.Context(), l, data, k)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return p.Bundle
}

func account(mail string) release.Identity {
	return release.Identity{Issuer: "https://accounts.example", Subject: mail}
}

func (w *world) identities(list ...release.Identity) release.IdentityPolicy {
	return release.IdentityPolicy{List: list, TrustedRoot: w.Root, Verifier: keyless.Verifier{}}
}

// Rebuilders may sign by certificates: each identity is one party, and none that may sign releases.
func TestRebuilders(t *testing.T) {
	w := newWorld(t)
	one := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 1})
	k := rt.Key(t)
	byA, byB := w.rebuild(t, kt.Account("a@one.example"), one, nil), w.rebuild(t, kt.Account("b@two.example"), one, nil)
	byKey := w.rt.Rebuild(t, k, one, nil)
	other := kt.Workflow("refs/tags/v2")
	other.JobWorkflowRef = strings.Replace(other.JobWorkflowRef, "release.yml", "rebuild.yml", 1)
	other.WorkflowRef = other.JobWorkflowRef
	byOther, otherRule := w.rebuild(t, other, one, nil), w.id
	otherRule.Workflow = ".github/workflows/rebuild.yml"
	again := w.rebuild(t, kt.Account("a@one.example"), one, func(r *release.Rebuild) { r.Predicate.Tally.Version = "2" })
	mismatch := w.rebuild(t, kt.Account("b@two.example"), one, func(r *release.Rebuild) {
		r.Predicate.Result = release.Differs
		r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "MISSING", Want: &release.Digest{1}}}
	})
	over, soon, ended := account("b@two.example"), account("b@two.example"), account("b@two.example")
	over.NotAfter, soon.NotBefore, ended.NotAfter = rt.Now.Add(-time.Hour), rt.Now.Add(time.Hour), rt.Now.Add(time.Minute)
	workflow := w.id
	workflow.Tag = "v2"
	rp := func(need int, ids ...release.Identity) release.RebuilderPolicy {
		return release.RebuilderPolicy{Need: need, Keys: []release.Signer{{Key: k.Public()}}, Identities: w.identities(ids...)}
	}
	a, b := account("a@one.example"), account("b@two.example")
	for name, tt := range map[string]struct {
		policy release.RebuilderPolicy
		parts  [][]byte
		now    time.Time
		want   release.Reason
		text   string
	}{
		"two":                         {rp(2, a, b), [][]byte{byA, byB}, rt.Now, "", ""},
		"one and a key":               {rp(2, a), [][]byte{byA, byKey}, rt.Now, "", ""},
		"one twice":                   {rp(2, a, b), [][]byte{byA, again}, rt.Now, release.TooFewRebuilders, "1 of 3 named"},
		"a stranger":                  {rp(2, a), [][]byte{byA, byB}, rt.Now, release.TooFewRebuilders, "1 of 2 named"},
		"no identities":               {rp(1), [][]byte{byA}, rt.Now, release.TooFewRebuilders, "0 of 1 named"},
		"mismatch":                    {rp(1, a, b), [][]byte{byA, mismatch}, rt.Now, release.Mismatch, ""},
		"mismatch by a stranger":      {rp(1, a), [][]byte{byA, mismatch}, rt.Now, "", ""},
		"signed after its time":       {rp(1, over), [][]byte{byB}, rt.Now, release.TooFewRebuilders, "0 of 2"},
		"signed before its time":      {rp(1, soon), [][]byte{byB}, rt.Now.Add(2 * time.Hour), release.TooFewRebuilders, "0 of 2"},
		"over since":                  {rp(1, ended), [][]byte{byB}, rt.Now.Add(time.Hour), release.TooFewRebuilders, "0 of 2"},
		"many in one rule":            {rp(1, account("*@one.example")), [][]byte{byA}, rt.Now, release.PolicyEmpty, "names many"},
		"one signer in two rules":     {rp(2, a, func() release.Identity { i := a; i.NotAfter = rt.Now.AddDate(1, 0, 0); return i }()), nil, rt.Now, release.PolicyEmpty, "the same signer twice"},
		"the release's own, by name":  {rp(1, workflow), nil, rt.Now, release.PolicyEmpty, "one of its own"},
		"need more than are named":    {rp(4, a, b), nil, rt.Now, release.PolicyEmpty, "needs 4 of 3"},
		"no trusted root":             {release.RebuilderPolicy{Need: 1, Identities: release.IdentityPolicy{List: []release.Identity{a}}}, nil, rt.Now, release.PolicyEmpty, "trusted root"},
		"its release's, as a pattern": {rp(1, otherRule), [][]byte{byOther}, rt.Now, release.TooFewRebuilders, "0 of 2"},
		"another workflow":            {rp(1, otherRule), [][]byte{byOther}, rt.Now, "", ""},
	} {
		p := *w.rt.Policy
		p.Rebuilders = tt.policy
		if name == "its release's, as a pattern" { // which no comparison of rules finds
			i := w.id
			i.Workflow = ".github/workflows/*"
			p.Identities.List = []release.Identity{i}
		}
		r, err := release.Verify(slices.Concat(append([][]byte{one}, tt.parts...)...), &p, tt.now)
		if reason(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) || err == nil && len(r.Rebuilders) != tt.policy.Need {
			t.Errorf("%s: %v, want %q with %q", name, err, tt.want, tt.text)
		}
		said := slices.ContainsFunc(r.Checks, func(c release.Check) bool { return strings.Contains(c.Got, "it may sign releases itself") })
		if said != (name == "its release's, as a pattern") {
			t.Errorf("%s: says that a rebuilder may sign releases: %v", name, said)
		}
	}
}

// A revocation identity revokes beside the channel's signers, as a revocation key does.
func TestRevocationIdentity(t *testing.T) {
	w := newWorld(t)
	one := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 1})
	two := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 2})
	digest, _ := rt.Payload(t, one)
	q := w.rt.Predicate(t, 1)
	q.Channel, q.Revoked = publish.RevokedChannel, []release.Revocation{{Statement: digest, Since: rt.Now}}
	data, k := w.seal(t, kt.Account("security@acme.example"), release.NewChannel(q))
	revocation := w.rt.PublishChannel(t, data, k)
	id := account("security@acme.example")
	over := id
	over.NotAfter = rt.Now
	ended := id
	ended.NotAfter = rt.Now.Add(time.Minute)
	for name, tt := range map[string]struct {
		release []byte
		ids     []release.Identity
		now     time.Time
		want    release.Reason
	}{
		"revoked":                   {one, []release.Identity{id}, rt.Now, release.Revoked},
		"another release":           {two, []release.Identity{id}, rt.Now, ""},
		"nobody is named":           {two, nil, rt.Now, release.BadIdentity},
		"a stranger":                {two, []release.Identity{account("a@acme.example")}, rt.Now, release.BadIdentity},
		"signed after its time":     {two, []release.Identity{over}, rt.Now, release.Expired},
		"for ever, when it is over": {one, []release.Identity{ended}, rt.Now.Add(time.Hour), release.Revoked},
		"who signs releases":        {two, []release.Identity{w.id}, rt.Now, release.PolicyEmpty},
		"a pattern of many":         {two, []release.Identity{account("*@acme.example")}, rt.Now, release.PolicyEmpty},
	} {
		p := *w.rt.Policy
		p.RevokerIdentities = w.identities(tt.ids...)
		r, err := release.Verify(append(slices.Clone(tt.release), revocation...), &p, tt.now)
		if reason(err) != tt.want || err == nil && len(r.Revocations) != 1 {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
