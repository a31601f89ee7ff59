package release_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A believer stands in for the keyless verifier: it takes a certificate's word for whoever it says it is.
type believer map[string]*release.Certified // by certificate

func (v believer) VerifyCertificate(b *release.Bundle, _ []byte) (*release.Certified, error) {
	if c, ok := v[string(b.Certificate)]; ok {
		return c, nil
	}
	return nil, errors.New("unknown to the believer")
}

// certify signs a payload with the key of a certificate that the believer takes for c's.
func (v believer) certify(t testing.TB, payload []byte, c *release.Certified) *release.Bundle {
	t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &k.PublicKey, k))
	b := &release.Bundle{Envelope: release.Envelope{Payload: payload}, Certificate: cert, Timestamps: [][]byte{{1}}}
	d := sha256.Sum256(b.Envelope.PAE())
	b.Envelope.Signature = must(ecdsa.SignASN1(rand.Reader, k, d[:]))
	v[string(cert)] = c
	return b
}

// log adds b to the log under its certificate's key.
func (l *bareLog) certified(t testing.TB, b *release.Bundle) []byte {
	t.Helper()
	return rt.Marshal(t, l.add(b, must(b.CertificateKey())))
}

func workflow(repository, ref, commit string, signed time.Time) *release.Certified {
	return &release.Certified{Issuer: "https://i.example", Repository: repository, Ref: ref, Commit: commit, Subject: repository + "/w.yml@" + ref, Signed: signed}
}

func TestCertified(t *testing.T) {
	v, l := believer{}, newBareLog(t, "log.example")
	payload := example(t, "statement")
	const repository, commit = "https://example.org/minimal", "0123456789abcdef0123456789abcdef01234567"
	by := func(c *release.Certified) []byte { return l.certified(t, v.certify(t, payload, c)) }
	good := workflow(repository, "refs/tags/v1", commit, rt.Now)
	rule := release.Identity{Issuer: good.Issuer, Repository: repository, Workflow: "w.yml", Tag: "v*", Commit: "*"}
	until := func(at time.Time) release.Identity { r := rule; r.NotAfter = at; return r }
	from := func(at time.Time) release.Identity { r := rule; r.NotBefore = at; return r }
	account := release.Identity{Issuer: good.Issuer, Subject: "a@b.example"}
	bundle := by(good)
	if body := string(must(release.ParseBundle(bundle)).Entry.Body); !strings.Contains(body, `"verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"MI`) {
		t.Errorf("leaf %s", body)
	}
	forged := must(release.ParseBundle(bundle))
	forged.Envelope.Payload = append(slices.Clone(payload), ' ')
	stranger := must(release.ParseBundle(bundle))
	edwards, edKey := must2(ed25519.GenerateKey(rand.Reader))
	stranger.Certificate = must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, edwards, edKey))
	broken := must(release.ParseBundle(bundle))
	broken.Certificate = []byte("x")
	unknown := v.certify(t, payload, good)
	delete(v, string(unknown.Certificate))
	for name, tt := range map[string]struct {
		bundle []byte
		rules  []release.Identity
		edit   func(*release.Policy)
		want   release.Reason
		text   string
	}{
		"good":                     {bundle, []release.Identity{rule}, nil, "", ""},
		"no rule":                  {bundle, nil, nil, release.BadIdentity, "names no identities"},
		"no verifier":              {bundle, []release.Identity{rule}, func(p *release.Policy) { p.Identities.Verifier = nil }, release.BadIdentity, "verifies keys only"},
		"a verifier's no":          {l.certified(t, unknown), []release.Identity{rule}, nil, release.BadIdentity, "unknown to the believer"},
		"another rule":             {bundle, []release.Identity{account}, nil, release.BadIdentity, "certificate: subject"},
		"other rules":              {bundle, []release.Identity{account, {Issuer: "https://j.example", Subject: "*"}}, nil, release.BadIdentity, "none of the policy's 2"},
		"one of two":               {bundle, []release.Identity{account, rule}, nil, "", ""},
		"its time is over":         {bundle, []release.Identity{until(rt.Now.Add(-1))}, nil, release.Expired, ""},
		"over, and another's":      {bundle, []release.Identity{until(rt.Now.Add(-1)), account}, nil, release.Expired, ""},
		"its time is to come":      {bundle, []release.Identity{from(rt.Now.Add(1))}, nil, release.NotYetValid, ""},
		"signed in its time":       {bundle, []release.Identity{until(rt.Now.Add(time.Second))}, nil, release.Expired, "the signer"}, // which is over now
		"the longer of two":        {bundle, []release.Identity{until(rt.Now.Add(time.Second)), until(rt.Now.Add(time.Hour))}, nil, "", ""},
		"the longer comes first":   {bundle, []release.Identity{until(rt.Now.Add(time.Hour)), until(rt.Now.Add(time.Second))}, nil, "", ""},
		"without an end of two":    {bundle, []release.Identity{until(rt.Now.Add(time.Second)), rule}, nil, "", ""},
		"without an end first":     {bundle, []release.Identity{rule, until(rt.Now.Add(time.Second))}, nil, "", ""},
		"another payload":          {rt.Marshal(t, forged), []release.Identity{rule}, nil, release.BadSignature, "certificate's key"},
		"a key of another kind":    {rt.Marshal(t, stranger), []release.Identity{rule}, nil, release.BadIdentity, "want ECDSA on P-256"},
		"no certificate":           {rt.Marshal(t, broken), []release.Identity{rule}, nil, release.BadIdentity, "certificate: "},
		"of the future":            {by(workflow(repository, "refs/tags/v1", commit, rt.Now.Add(6*time.Minute+time.Second))), []release.Identity{rule}, nil, release.NotYetValid, "which is to come"},
		"of a clock a bit ahead":   {by(workflow(repository, "refs/tags/v1", commit, rt.Now.Add(6*time.Minute))), []release.Identity{rule}, nil, "", ""},
		"of another commit":        {by(workflow(repository, "refs/tags/v1", strings.Repeat("a", 40), rt.Now)), []release.Identity{rule}, nil, release.BadIdentity, "the statement's commit"},
		"of another repository":    {by(workflow("https://example.org/maximal", "refs/tags/v1", commit, rt.Now)), []release.Identity{{Issuer: good.Issuer, Repository: "https://example.org/*", Workflow: "*", Tag: "*", Commit: "*"}}, nil, release.BadIdentity, "the statement's repository"},
		"of an account":            {by(&release.Certified{Issuer: good.Issuer, Subject: "a@b.example", Signed: rt.Now}), []release.Identity{account}, nil, "", ""},
		"revoked, as who it is":    {bundle, []release.Identity{rule}, func(p *release.Policy) { p.Memory.Revoked = map[release.Digest]string{signerOf(rule): "x"} }, release.Revoked, ""},
		"another that was revoked": {bundle, []release.Identity{rule}, func(p *release.Policy) { p.Memory.Revoked = map[release.Digest]string{signerOf(account): "x"} }, "", ""},
	} {
		p := &release.Policy{Signers: signers(rt.Key(t)), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}, Identities: release.IdentityPolicy{List: tt.rules, TrustedRoot: []byte("{}"), Verifier: v}}
		if tt.edit != nil {
			tt.edit(p)
		}
		r, err := release.Verify(tt.bundle, p, rt.Now.Add(time.Minute))
		if got := reason(t, err); got != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q with %q", name, err, tt.want, tt.text)
		}
		if err == nil && (r.Identity == nil || r.Signer.IsZero()) {
			t.Errorf("%s: signed by nobody", name)
		}
	}
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

func signerOf(i release.Identity) release.Digest {
	k, ok := i.Signer()
	if !ok {
		panic("names many")
	}
	return k.ID()
}

// A channel's signers may be all of a house, and one of them revokes alone: what it signs names no signers.
func TestRevocationIdentityNamesNobody(t *testing.T) {
	v, l, fresh := believer{}, newBareLog(t, "log.example"), rt.Key(t)
	b := must(sign.Sign(exampleStatement(t), fresh))
	d, s := rt.Payload(t, rt.Marshal(t, b))
	channel := must(release.NewChannel(release.ChannelPredicate{
		Name: s.Predicate.Release.Name, Channel: "stable", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour), Signers: []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public()})},
		Current: []release.CurrentRelease{{Statement: d, Version: s.Predicate.Release.Version, Sequence: s.Predicate.Release.Sequence}},
	}).Marshal())
	ids := func(subject string) release.IdentityPolicy {
		return release.IdentityPolicy{List: []release.Identity{{Issuer: "https://i.example", Subject: subject}}, TrustedRoot: []byte("{}"), Verifier: v}
	}
	p := &release.Policy{Identities: ids("*@a.example"), RevokerIdentities: ids("revoke@a.example"), Log: release.LogPolicy{Key: l.key, Unwitnessed: true},
		Channel: release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}}
	for subject, want := range map[string]release.Reason{"release@a.example": "", "revoke@a.example": release.BadIdentity, "release@b.example": release.BadIdentity} {
		c := v.certify(t, channel, &release.Certified{Issuer: "https://i.example", Subject: subject, Signed: rt.Now})
		l.both(b, fresh.Public(), c, must(c.CertificateKey()))
		if _, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, c)), p, rt.Now); reason(t, err) != want {
			t.Errorf("named by %s: %v, want %q", subject, err, want)
		}
	}
}

// A revocation identity is one out of its time, too: what it signed then is refused, and is no channel's statement.
func TestRevocationIdentityTime(t *testing.T) {
	v, l := believer{}, newBareLog(t, "log.example")
	k, b, _ := unlogged(t)
	payload := must(release.NewChannel(release.ChannelPredicate{Name: "minimal", Channel: "revoked", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Revoked: []release.Revocation{{Statement: release.Digest{9}, Since: rt.Now}}}).Marshal())
	c := v.certify(t, payload, &release.Certified{Issuer: "https://i.example", Subject: "revoke@a.example", Signed: rt.Now})
	l.both(b, k.Public(), c, must(c.CertificateKey()))
	for name, tt := range map[string]struct {
		subject  string
		from, to time.Time
		want     release.Reason
	}{
		"always": {"revoke@a.example", time.Time{}, time.Time{}, ""}, "in its time": {"revoke@a.example", rt.Now, rt.Now.Add(time.Hour), ""},
		"too late": {"revoke@a.example", time.Time{}, rt.Now, release.Expired}, "too early": {"revoke@a.example", rt.Now.Add(1), time.Time{}, release.NotYetValid},
		"another": {"other@a.example", time.Time{}, time.Time{}, release.BadIdentity},
	} {
		rule := release.Identity{Issuer: "https://i.example", Subject: tt.subject, NotBefore: tt.from, NotAfter: tt.to}
		p := &release.Policy{Signers: signers(k), Revokers: signers(rt.Key(t)), Log: release.LogPolicy{Key: l.key, Unwitnessed: true},
			RevokerIdentities: release.IdentityPolicy{List: []release.Identity{rule}, TrustedRoot: []byte("{}"), Verifier: v}}
		r, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, c)), p, rt.Now)
		if reason(t, err) != tt.want || (len(r.Revocations) == 1) != (err == nil) {
			t.Errorf("%s: %v, %d revocations, want %q", name, err, len(r.Revocations), tt.want)
		}
	}
}

// Who rebuilds by a certificate counts in its time, and apart from those who may sign releases. What does not count is
// said and stands in nobody's way, but for a signature that does not hold.
func TestRebuilderIdentity(t *testing.T) {
	v, l := believer{}, newBareLog(t, "log.example")
	k, b, _ := unlogged(t)
	payload := must(rt.RebuildOf(t, rt.Marshal(t, b), nil).Marshal())
	c := v.certify(t, payload, &release.Certified{Issuer: "https://i.example", Subject: "r@a.example", Signed: rt.Now})
	l.both(b, k.Public(), c, must(c.CertificateKey()))
	forged := must(release.ParseBundle(rt.Marshal(t, c)))
	forged.Envelope.Payload = append(slices.Clone(payload), ' ')
	stranger := rt.Key(t)
	byKey := must(sign.Seal(stranger, payload))
	for name, tt := range map[string]struct {
		subject  string // of the rule
		until    time.Time
		releases string // who else may sign those
		bundle   *release.Bundle
		said     string
		want     release.Reason
	}{
		"counts": {"r@a.example", time.Time{}, "x@a.example", c, "reproduced by", ""}, "in its time": {"r@a.example", rt.Now.Add(1), "x@a.example", c, "reproduced by", ""},
		"too late": {"r@a.example", rt.Now, "x@a.example", c, "by a certificate does not count: signed at", ""},
		"another":  {"s@a.example", time.Time{}, "x@a.example", c, "by a certificate does not count: certificate: subject", ""},
		"a signer": {"r@a.example", time.Time{}, "*@a.example", c, "it may sign releases itself", ""},
		"forged":   {"r@a.example", time.Time{}, "x@a.example", forged, "", release.BadSignature},
		"by a key": {"r@a.example", time.Time{}, "x@a.example", byKey, "a statement by key \"" + stranger.Public().Hint(), ""},
	} {
		ids := func(i release.Identity) release.IdentityPolicy {
			return release.IdentityPolicy{List: []release.Identity{i}, TrustedRoot: []byte("{}"), Verifier: v}
		}
		p := &release.Policy{Signers: signers(k), Log: release.LogPolicy{Key: l.key, Unwitnessed: true}, Identities: ids(release.Identity{Issuer: "https://i.example", Subject: tt.releases}),
			Rebuilders: release.RebuilderPolicy{Identities: ids(release.Identity{Issuer: "https://i.example", Subject: tt.subject, NotAfter: tt.until})}}
		r, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, tt.bundle)), p, rt.Now)
		if reason(t, err) != tt.want || (len(r.Rebuilders) == 1) != (tt.said == "reproduced by") ||
			!slices.ContainsFunc(r.Checks, func(c release.Check) bool { return strings.Contains(c.Got, tt.said) }) {
			t.Errorf("%s: %v, %d rebuilders: %+v", name, err, len(r.Rebuilders), r.Checks)
		}
		if p.Rebuilders.Need = 1; tt.want == "" {
			if _, err := release.Verify(join(rt.Marshal(t, b), rt.Marshal(t, tt.bundle)), p, rt.Now); (err == nil) != (tt.said == "reproduced by") || err != nil && reason(t, err) != release.TooFewRebuilders {
				t.Errorf("%s, and one is needed: %v", name, err)
			}
		}
	}
}
