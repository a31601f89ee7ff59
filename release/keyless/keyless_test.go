package keyless_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"tally/release"
	"tally/release/keyless"
	kt "tally/release/keyless/keylesstest"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/sign/oidc"
)

// a world with a log and a policy that trusts the workflow at tags v*.
type world struct {
	*kt.World
	rt *rt.World
	id release.Identity
}

func newWorld(t testing.TB) *world {
	t.Helper()
	k, err := kt.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	w := &world{k, rt.New(t), release.Identity{
		Issuer: kt.Issuer, Repository: "https://github.com/acme/enclave", Workflow: ".github/workflows/release.yml", Tag: "v*", Commit: "*",
	}}
	w.rt.Policy.Signers = nil
	w.rt.Policy.Identities = release.IdentityPolicy{List: []release.Identity{w.id}, TrustedRoot: k.Root, Verifier: keyless.Verifier{}}
	return w
}

func (w *world) options(t testing.TB, c kt.Claims) oidc.Options {
	t.Helper()
	token, err := w.Token(c)
	if err != nil {
		t.Fatal(err)
	}
	return oidc.Options{Token: token, FulcioURL: w.URL, TSAURL: w.URL + "/tsa", TrustedRoot: w.RootWithoutLogs}
}

func payload(t testing.TB, s interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	data, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// publish signs and logs a release.
func (w *world) publish(t testing.TB, c kt.Claims, opt sign.Options) []byte {
	t.Helper()
	b, certified, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, opt)), w.options(t, c))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := release.CertifiedKey(b.Certificate, certified)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.rt.TryPublish(t.Context(), t, rt.Marshal(t, b), signer)
	if err != nil {
		t.Fatal(err)
	}
	return p.Bundle
}

func reason(err error) release.Reason {
	var e *release.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestWorkflow(t *testing.T) {
	w := newWorld(t)
	data := w.publish(t, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 1, SourceRepository: "https://github.com/acme/enclave.git", SourceCommit: kt.Commit})
	r, err := release.Verify(data, w.rt.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Identity
	if c == nil || c.Issuer != kt.Issuer || c.Repository != "https://github.com/acme/enclave" || c.Ref != "refs/tags/v1.2.0" || c.Commit != kt.Commit ||
		c.Subject != "https://github.com/acme/enclave/.github/workflows/release.yml@refs/tags/v1.2.0" || !c.Signed.Equal(rt.Now) || !c.Logged {
		t.Errorf("identity %+v", c)
	}
	// Without certificate logs in the trusted root that is said, not passed over.
	w.rt.Policy.Identities.TrustedRoot = w.RootWithoutLogs
	if r, err = release.Verify(data, w.rt.Policy, rt.Now); err != nil {
		t.Fatal(err)
	}
	said := false
	for _, c := range r.Checks {
		said = said || c.Name == "certificate log" && c.Status == release.NotChecked
	}
	if !said || r.Identity.Logged {
		t.Errorf("checks %+v", r.Checks)
	}
}

// The second signature has another key, another certificate, and is the same release of the same signer, even at
// another tag.
func TestOneReleaseTwice(t *testing.T) {
	w := newWorld(t)
	one := w.publish(t, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 2})
	two := w.publish(t, kt.Workflow("refs/tags/v1.2.1"), sign.Options{Sequence: 2})
	if !bytes.Equal(one, two) {
		t.Error("published twice")
	}
	c := kt.Workflow("refs/tags/v1.2.0")
	c.JobWorkflowRef = strings.Replace(c.JobWorkflowRef, "release.yml", "other.yml", 1)
	if other := w.publish(t, c, sign.Options{Sequence: 2}); bytes.Equal(one, other) {
		t.Error("another workflow is the same signer")
	}
}

func TestAccount(t *testing.T) {
	w := newWorld(t)
	data := w.publish(t, kt.Account("release@acme.example"), sign.Options{Sequence: 1})
	list := &w.rt.Policy.Identities.List
	for subject, want := range map[string]bool{
		"release@acme.example": true, "*@acme.example": true, "release@acme.exampl": false, "elease@acme.example": false, "release@acme?example": false, ".*": false,
	} {
		*list = []release.Identity{{Issuer: "https://accounts.example", Subject: subject}}
		if _, err := release.Verify(data, w.rt.Policy, rt.Now); (err == nil) != want || !want && reason(err) != release.BadIdentity {
			t.Errorf("subject %q: %v", subject, err)
		}
	}
	*list = []release.Identity{w.id, {Issuer: "https://accounts.example", Subject: "a@b.example"}}
	if _, err := release.Verify(data, w.rt.Policy, rt.Now); reason(err) != release.BadIdentity || !strings.Contains(err.Error(), "none of the policy's 2") {
		t.Error(err)
	}
}

// Each field on its own can be the wrong one.
func TestEveryFieldCounts(t *testing.T) {
	w := newWorld(t)
	good := w.publish(t, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 1})
	for want, edit := range map[string]func(*release.Identity){
		"issuer ":     func(i *release.Identity) { i.Issuer = "https://token.actions.githubusercontent.org" },
		"repository ": func(i *release.Identity) { i.Repository = "https://github.com/acme/enclav" },
		"workflow ":   func(i *release.Identity) { i.Workflow = ".github/workflows/*.yaml" },
		"tag ":        func(i *release.Identity) { i.Tag = "1.2.0" },
		"commit ":     func(i *release.Identity) { i.Commit = strings.Repeat("0", 40) },
	} {
		id := w.id
		edit(&id)
		w.rt.Policy.Identities.List = []release.Identity{id}
		if _, err := release.Verify(good, w.rt.Policy, rt.Now); reason(err) != release.BadIdentity || !strings.Contains(err.Error(), "certificate: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	w.rt.Policy.Identities.List = []release.Identity{w.id}
	for name, edit := range map[string]func(*kt.Claims){
		"branch":           func(c *kt.Claims) { *c = kt.Workflow("refs/heads/v1") },
		"branch as a tag":  func(c *kt.Claims) { *c = kt.Workflow("refs/heads/refs/tags/v1") },
		"tag with a slash": func(c *kt.Claims) { *c = kt.Workflow("refs/tags/v1/2") },
		"fork": func(c *kt.Claims) {
			c.Repository, c.JobWorkflowRef = "mallory/enclave", strings.Replace(c.JobWorkflowRef, "acme", "mallory", 1)
			c.WorkflowRef = c.JobWorkflowRef
		},
		"another workflow": func(c *kt.Claims) {
			c.JobWorkflowRef = strings.Replace(c.JobWorkflowRef, "release.yml", "test.yml", 1)
			c.WorkflowRef = c.JobWorkflowRef
		},
		"called by another workflow": func(c *kt.Claims) { c.WorkflowRef = strings.Replace(c.WorkflowRef, "release.yml", "test.yml", 1) },
		"workflow of another repo":   func(c *kt.Claims) { c.Repository = "mallory/enclave" },
		"issuer":                     func(c *kt.Claims) { c.Issuer = "https://token.example" },
	} {
		c := kt.Workflow("refs/tags/v1.2.0")
		edit(&c)
		if _, err := release.Verify(w.publish(t, c, sign.Options{Sequence: 3}), w.rt.Policy, rt.Now); reason(err) != release.BadIdentity {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the statement says of its source is what the build service told the CA.
func TestStatementAgainstCertificate(t *testing.T) {
	w := newWorld(t)
	for name, opt := range map[string]sign.Options{
		"commit":     {Sequence: 1, SourceCommit: strings.Repeat("ab", 20)},
		"repository": {Sequence: 1, SourceRepository: "https://github.com/acme/other"},
	} {
		if _, err := release.Verify(w.publish(t, kt.Workflow("refs/tags/v1"), opt), w.rt.Policy, rt.Now); reason(err) != release.BadIdentity || !strings.Contains(err.Error(), "the statement's "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	good := w.publish(t, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 1})
	other, err := kt.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	check := func(name string, bundle []byte, want release.Reason, text string, edit func(*release.Policy)) {
		t.Helper()
		p := *w.rt.Policy
		if edit != nil {
			edit(&p)
		}
		r, err := release.Verify(bundle, &p, rt.Now)
		if reason(err) != want || !strings.Contains(err.Error(), text) || r.Statement != nil {
			t.Errorf("%s: %v, want %s with %q", name, err, want, text)
		}
	}
	check("another CA", good, release.BadIdentity, "timestamp", func(p *release.Policy) { p.Identities.TrustedRoot = other.Root })
	check("no verifier", good, release.BadIdentity, "verifies keys only", func(p *release.Policy) { p.Identities.Verifier = nil })
	check("no identities", good, release.BadIdentity, "names no identities", func(p *release.Policy) {
		p.Identities.List, p.Signers = nil, []release.Signer{{Key: w.rt.Key.Public()}}
	})
	check("no root", good, release.PolicyEmpty, "trusted root", func(p *release.Policy) { p.Identities.TrustedRoot = nil })
	check("bad root", good, release.BadIdentity, "trusted root", func(p *release.Policy) { p.Identities.TrustedRoot = []byte("{") })
	check("a key", w.rt.Bundle, release.BadIdentity, "signing key", nil)
	w.NoSCT = true
	check("certificate in no log", w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 4}), release.BadIdentity, "certificate log", nil)
	w.NoSCT = false
	unlogged, _, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, sign.Options{Sequence: 5})), w.options(t, kt.Workflow("refs/tags/v1")))
	if err != nil {
		t.Fatal(err)
	}
	check("unlogged", rt.Marshal(t, unlogged), release.NotLogged, "", nil)

	tampered := func(edit func(b *release.Bundle)) []byte {
		b, err := release.ParseBundle(good)
		if err != nil {
			t.Fatal(err)
		}
		edit(b)
		return rt.Marshal(t, b)
	}
	check("another payload", tampered(func(b *release.Bundle) { b.Envelope.Payload = append(b.Envelope.Payload, ' ') }), release.BadSignature, "", nil)
	check("another's timestamp", tampered(func(b *release.Bundle) { b.Timestamps = unlogged.Timestamps }), release.BadIdentity, "timestamp", nil)
	check("another's certificate", tampered(func(b *release.Bundle) { b.Certificate = unlogged.Certificate }), release.BadSignature, "", nil)
	check("no certificate", tampered(func(b *release.Bundle) { b.Certificate = []byte("x") }), release.BadIdentity, "certificate", nil)
	check("timestamp of nothing", tampered(func(b *release.Bundle) { b.Timestamps = [][]byte{[]byte("x")} }), release.BadIdentity, "timestamp", nil)
}

// A certificate names one, and what it says of it has the form that Fulcio writes.
func TestCertificateNames(t *testing.T) {
	w := newWorld(t)
	uri, err := url.Parse("https://github.com/mallory/enclave/.github/workflows/release.yml@refs/tags/v1")
	if err != nil {
		t.Fatal(err)
	}
	san := func(names ...asn1.RawValue) pkix.Extension {
		der, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
	}
	// otherName: Fulcio's form of a user's name (1.3.6.1.4.1.57264.1.7, UTF8String).
	other := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append([]byte{6, 10, 0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 7}, 0xa0, 5, 12, 3, 'b', 'o', 'b')}
	plain := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("https://github.com/acme/enclave/.github/workflows/release.yml@refs/tags/v1")}
	mail := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("release@acme.example")}
	number := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{42}} // registeredID
	only := func(e pkix.Extension) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs, c.ExtraExtensions = nil, append(c.ExtraExtensions, e) }
	}
	for name, c := range map[string]struct {
		edit func(*x509.Certificate)
		want string
	}{
		"as it should be":  {only(san(plain)), ""},
		"a mail address":   {only(san(mail)), ""},
		"none":             {func(c *x509.Certificate) { c.URIs = nil }, "0 subject alternative names"},
		"two workflows":    {func(c *x509.Certificate) { c.URIs = append(c.URIs, uri) }, "2 subject alternative names"},
		"an account too":   {func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example"} }, "2 subject alternative names"},
		"a host too":       {func(c *x509.Certificate) { c.DNSNames = []string{"b.example"} }, "2 subject alternative names"},
		"an address too":   {func(c *x509.Certificate) { c.IPAddresses = []net.IP{{192, 0, 2, 1}} }, "2 subject alternative names"},
		"a host alone":     {func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"b.example"} }, "1 subject alternative names"},
		"another kind too": {only(san(plain, other)), "2 subject alternative names"},
		"a number too":     {only(san(number, plain)), "2 subject alternative names"},
		"another kind":     {only(san(other)), "1 subject alternative names"},
		"form of a field": {func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = append(bytes.Clone(c.ExtraExtensions[0].Value), 0)
		}, "certificate: "},
	} {
		w.Edit = c.edit
		_, _, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, sign.Options{Sequence: 1})), w.options(t, kt.Workflow("refs/tags/v1")))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A certificate that was over when its key signed signs nothing; a signature of the future is none yet.
func TestTimes(t *testing.T) {
	w := newWorld(t)
	w.Late = 11 * time.Minute
	if _, _, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, sign.Options{Sequence: 1})), w.options(t, kt.Workflow("refs/tags/v1"))); err == nil || !strings.Contains(err.Error(), "at signing time") {
		t.Errorf("after the certificate's time: %v", err)
	}
	w.Late = 9 * time.Minute
	data := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 1})
	if _, err := release.Verify(data, w.rt.Policy, rt.Now); reason(err) != release.NotYetValid {
		t.Errorf("signed in nine minutes: %v", err)
	}
	if _, err := release.Verify(data, w.rt.Policy, rt.Now.AddDate(20, 0, 0)); err != nil {
		t.Errorf("twenty years later: %v", err)
	}
}

// An identity's time bounds when it signed and until when that is believed, each refused with its own word; of two
// rules about one identity the one that holds counts.
func TestIdentityTimes(t *testing.T) {
	w := newWorld(t)
	data := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 1})
	day := func(n int) time.Time { return rt.Now.AddDate(0, 0, n) }
	for _, c := range []struct {
		from, to, now int // days from the signature; 0 of a bound: none
		want          release.Reason
	}{
		{-1, 1, 0, ""}, {0, 1, 0, ""}, {-1, 0, 0, ""},
		{-2, -1, 0, release.Expired}, // signed after its time: a stolen workflow
		{1, 2, 0, release.NotYetValid},
		{1, 0, 5, release.NotYetValid}, // signed before its time, whatever the time is now
		{-1, 1, 1, release.Expired},    // signed in time, and over now
		{-1, 2, 1, ""},
	} {
		id := w.id
		if c.from != 0 {
			id.NotBefore = day(c.from)
		}
		if c.to != 0 {
			id.NotAfter = day(c.to)
		}
		w.rt.Policy.Identities.List = []release.Identity{id}
		r, err := release.Verify(data, w.rt.Policy, day(c.now))
		if reason(err) != c.want || (err == nil) != (r.Statement != nil) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
	over, later, ends := w.id, w.id, w.id
	over.NotAfter, ends.NotAfter, later.NotAfter, later.Tag = day(-1), day(1), day(9), "*"
	for _, list := range [][]release.Identity{{over, later}, {ends, later}, {later, ends, over}} {
		w.rt.Policy.Identities.List = list
		if _, err := release.Verify(data, w.rt.Policy, day(5)); err != nil {
			t.Errorf("%+v: %v", list, err)
		}
	}
	// A publisher asks too, before it logs.
	b, err := release.ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	w.rt.Policy.Identities.List = []release.Identity{over}
	if _, _, err := release.Identify(b, w.rt.Policy); reason(err) != release.Expired {
		t.Errorf("identify: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	w := newWorld(t)
	s := w.rt.Statement(t, sign.Options{Sequence: 1})
	other, err := kt.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	wrong := kt.Workflow("refs/tags/v1")
	wrong.Audience = "someone"
	for name, c := range map[string]struct {
		edit func(o *oidc.Options)
		want string
	}{
		"token":        {func(o *oidc.Options) { o.Token = "secret" }, "want a JWT"},
		"forged token": {func(o *oidc.Options) { o.Token = o.Token[:len(o.Token)-8] + "AAAAAAAA" }, "the issuer did not sign"},
		"audience":     {func(o *oidc.Options) { o.Token = w.options(t, wrong).Token }, "audience"},
		"no root":      {func(o *oidc.Options) { o.TrustedRoot = nil }, "trusted root"},
		"another root": {func(o *oidc.Options) { o.TrustedRoot = other.Root }, "does not verify"},
		"no CA":        {func(o *oidc.Options) { o.FulcioURL = "" }, "CA: "},
		"scheme":       {func(o *oidc.Options) { o.TSAURL = "file:///etc/passwd" }, "timestamp authority: "},
		"nobody there": {func(o *oidc.Options) { o.FulcioURL = "http://127.0.0.1:1" }, "refused"},
		"no TSA there": {func(o *oidc.Options) { o.TSAURL = w.URL + "/nothing" }, "404"},
	} {
		o := w.options(t, kt.Workflow("refs/tags/v1"))
		c.edit(&o)
		if b, _, err := oidc.Seal(t.Context(), payload(t, s), o); err == nil || b != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAmbient(t *testing.T) {
	w := newWorld(t)
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
	if _, err := oidc.Ambient(t.Context()); !errors.Is(err, oidc.ErrNoIdentity) {
		t.Errorf("outside a job: %v", err)
	}
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", kt.GitHubToken)
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", w.URL+"/github-token?")
	token, err := oidc.Ambient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := w.options(t, kt.Workflow("refs/heads/x"))
	o.Token = token
	_, c, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, sign.Options{Sequence: 1})), o)
	if err != nil || w.id.Match(c) != nil {
		t.Errorf("%v, %v", err, c)
	}
}

// A channel statement may come from the same identity.
func TestChannel(t *testing.T) {
	w := newWorld(t)
	data := w.publish(t, kt.Workflow("refs/tags/v1"), sign.Options{Sequence: 1})
	b, c, err := oidc.Seal(t.Context(), payload(t, release.NewChannel(w.rt.Predicate(t, 1, data))), w.options(t, kt.Workflow("refs/tags/v1")))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := release.CertifiedKey(b.Certificate, c)
	if err != nil {
		t.Fatal(err)
	}
	both := append(data, w.rt.PublishChannel(t, rt.Marshal(t, b), signer)...)
	w.rt.Policy.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	if _, err := release.Verify(both, w.rt.Policy, rt.Now); err != nil {
		t.Error(err)
	}
	w.rt.Policy.Channel.Signers = []release.Signer{{Key: w.rt.Key.Public()}}
	if _, err := release.Verify(both, w.rt.Policy, rt.Now); reason(err) != release.BadIdentity {
		t.Errorf("a policy that wants another signer of channels: %v", err)
	}
}

// The stock verifier, with a trusted root that has our log beside the CA, accepts what we publish: certificate,
// timestamp, certificate log, the leaf with the certificate in it, inclusion, identity.
func TestStockVerifier(t *testing.T) {
	w := newWorld(t)
	data := w.publish(t, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 1})
	ours, err := root.NewTrustedRootFromPath(filepath.Join(w.rt.LogDir, log.TrustedRootFile))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := root.NewTrustedRootFromJSON(w.Root)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.NewVerifier(root.TrustedMaterialCollection{ours, theirs}, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	_, s := rt.Payload(t, data)
	digest := s.Subject[0].Digest.SHA256
	for san, want := range map[string]bool{`^https://github\.com/acme/enclave/`: true, `^https://github\.com/acme/other/`: false} {
		id, err := verify.NewShortCertificateIdentity(kt.Issuer, "", "", san)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest[:]), verify.WithCertificateIdentity(id))); (err == nil) != want {
			t.Errorf("%s: %v", san, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	data := w.publish(b, kt.Workflow("refs/tags/v1.2.0"), sign.Options{Sequence: 1})
	b.Logf("bundle: %d bytes", len(data))
	for b.Loop() {
		if _, err := release.Verify(data, w.rt.Policy, rt.Now); err != nil {
			b.Fatal(err)
		}
	}
}

// A publisher that died while a signature was on its way into the log goes on with that one, not with the one of
// another certificate that it is given next.
func TestResume(t *testing.T) {
	w := newWorld(t)
	var bundles []*release.Bundle
	var signer release.PublicKey
	for range 2 {
		b, c, err := oidc.Seal(t.Context(), payload(t, w.rt.Statement(t, sign.Options{Sequence: 2})), w.options(t, kt.Workflow("refs/tags/v1")))
		if err != nil {
			t.Fatal(err)
		}
		if signer, err = release.CertifiedKey(b.Certificate, c); err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, b)
	}
	pending := filepath.Join(w.rt.LogDir, ".pending", release.PayloadDigest(bundles[0]).String()+"-"+signer.ID().String())
	if err := os.WriteFile(pending, rt.Marshal(t, bundles[0]), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := w.rt.TryPublish(t.Context(), t, rt.Marshal(t, bundles[1]), signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := release.ParseBundle(p.Bundle)
	if err != nil || !bytes.Equal(got.Certificate, bundles[0].Certificate) || len(got.Timestamps) != 1 {
		t.Errorf("%v: not the one that was pending", err)
	}
	if _, err := release.Verify(p.Bundle, w.rt.Policy, rt.Now); err != nil {
		t.Error(err)
	}
}
