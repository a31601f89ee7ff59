package monitor_test

import (
	"strings"
	"testing"

	"tally/release"
	"tally/release/keyless"
	kt "tally/release/keyless/keylesstest"
	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/sign/oidc"
)

// Releases signed with certificates: by whom the policy names, by another workflow, and without a policy.
func TestKeyless(t *testing.T) {
	t.Parallel()
	k, err := kt.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	w := rt.New(t)
	seal := func(ref string, statement []byte) (bundle []byte, signer release.PublicKey) {
		token, err := k.Token(kt.Workflow(ref))
		if err != nil {
			t.Fatal(err)
		}
		b, certified, err := oidc.Seal(t.Context(), statement, oidc.Options{Token: token, FulcioURL: k.URL, TSAURL: k.URL + "/tsa", TrustedRoot: k.RootWithoutLogs})
		if err != nil {
			t.Fatal(err)
		}
		return rt.Marshal(t, b), must(release.CertifiedKey(b.Certificate, certified))
	}
	publish := func(ref string, sequence uint64) {
		bundle, signer := seal(ref, must(w.Statement(t, sign.Options{Sequence: sequence}).Marshal()))
		if _, err := w.TryPublish(t.Context(), t, bundle, signer); err != nil {
			t.Fatal(err)
		}
	}
	v := newWatch(t, w)
	v.o.Run = nil
	p := *w.Policy
	p.Identities = release.IdentityPolicy{TrustedRoot: k.Root, Verifier: keyless.Verifier{}, List: []release.Identity{{
		Issuer: kt.Issuer, Repository: "https://github.com/acme/enclave", Workflow: ".github/workflows/release.yml", Tag: "v*", Commit: "*",
	}}}
	v.o.Policy = &p
	v.round(t)
	publish("refs/tags/v2", 2)
	if r := v.round(t, monitor.Unexpected); len(r.Releases) != 1 || r.Releases[0].Sequence != 2 {
		t.Errorf("%+v", r)
	}
	// Whoever signs releases signs channels where the policy names nobody for those, and nobody who revokes.
	bundle, signer := seal("refs/tags/v2", must(release.NewChannel(w.Predicate(t, 1, w.Bundle)).Marshal()))
	w.PublishChannel(t, bundle, signer)
	if r := v.round(t); len(r.Channels) != 1 {
		t.Errorf("%+v", r)
	}
	publish("refs/heads/main", 3)
	v.round(t, release.BadIdentity)
	v.o.Dir = t.TempDir()
	v.o.Policy = &release.Policy{Log: w.Policy.Log}
	for _, a := range v.round(t, release.BadIdentity, release.BadIdentity, release.BadIdentity).Alerts {
		if !strings.Contains(a.Text, "names no key; a certificate is checked") {
			t.Errorf("%+v", a)
		}
	}
}
