package keyless

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"golang.org/x/mod/sumdb/note"

	"tally/release"
)

// suite returns the cases of sigstore-conformance (github.com/sigstore/sigstore-conformance, test/assets/bundle-verify)
// that a pattern names. The suite comes without a licence and so is not here: $SIGSTORE_CONFORMANCE says where.
func suite(t *testing.T, patterns ...string) []string {
	t.Helper()
	dir := os.Getenv("SIGSTORE_CONFORMANCE")
	if dir == "" {
		t.Skip("SKIPPED: SIGSTORE_CONFORMANCE does not name the directory test/assets/bundle-verify of sigstore-conformance")
	}
	var all []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, pattern, "bundle.sigstore.json"))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: no case, %v", pattern, err)
		}
		for _, file := range found {
			all = append(all, filepath.Dir(file))
		}
	}
	return all
}

func mustFail(dir string) bool { return strings.HasSuffix(dir, "_fail") }

func readCase(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}

// logKeys are the logs with an Ed25519 key, as Rekor v2 has, of a trusted root.
func logKeys(t *testing.T, trustedRoot []byte) (keys []release.LogKey) {
	t.Helper()
	var root struct {
		Tlogs []struct {
			BaseURL   string
			PublicKey struct {
				RawBytes   []byte
				KeyDetails string
			}
		}
	}
	if err := json.Unmarshal(trustedRoot, &root); err != nil {
		t.Fatal(err)
	}
	for _, l := range root.Tlogs {
		u, err := url.Parse(l.BaseURL)
		if err != nil || l.PublicKey.KeyDetails != "PKIX_ED25519" {
			continue
		}
		vkey, err := note.NewEd25519VerifierKey(u.Hostname(), l.PublicKey.RawBytes[len(l.PublicKey.RawBytes)-32:])
		if err != nil {
			t.Fatal(err)
		}
		k, err := release.ParseLogKey(vkey)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys
}

// theirs is the identity that the suite's bundles are by, unless a case says otherwise.
func theirs(t *testing.T, dir string) release.Identity {
	id := release.Identity{
		Issuer:  "https://token.actions.githubusercontent.com",
		Subject: "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
	}
	for name, to := range map[string]*string{"issuer": &id.Issuer, "identity": &id.Subject} {
		if text := strings.TrimSpace(string(readCase(t, dir, name))); text != "" {
			*to = text
		}
	}
	return id
}

// verifyCase does what a client does with a bundle, up to the statement, which is none of ours.
func verifyCase(t *testing.T, dir string, quorum release.Quorum) (*release.Result, error) {
	t.Helper()
	b, err := release.ParseBundle(readCase(t, dir, "bundle.sigstore.json"))
	if err != nil {
		return nil, &release.Error{Reason: release.BadBundle, Err: err}
	}
	var signers []release.Signer
	if text := readCase(t, dir, "key.pub"); text != nil {
		if k, err := release.ParsePublicKey(text); err == nil {
			signers = append(signers, release.Signer{Key: k})
		}
	}
	root := readCase(t, dir, "trusted_root.json")
	ids := &release.IdentityPolicy{List: []release.Identity{theirs(t, dir)}, TrustedRoot: root, Verifier: Verifier{}}
	err = errors.New("no log of the trusted root has an Ed25519 key")
	for _, k := range logKeys(t, root) {
		if b.EntryIn(k.ID()) != nil {
			return release.VerifyLogged(b, signers, ids, &release.LogPolicy{Key: k, Quorum: quorum, Unwitnessed: quorum.IsZero()})
		}
	}
	return nil, err
}

// Every case goes through the same steps as a release of ours. What must fail fails; what the suite accepts is accepted
// if it is a bundle of the one form that a release has (SPEC.md, 1), and refused by its form otherwise: messages instead
// of envelopes, certificate chains, Rekor v1.
func TestConformance(t *testing.T) {
	ours := []string{"rekor2-dsse-happy-path"}
	var refused, accepted, form int
	for _, dir := range suite(t, "*") {
		name := filepath.Base(dir)
		_, err := verifyCase(t, dir, release.Quorum{})
		var e *release.Error
		switch {
		case mustFail(dir) && err == nil:
			t.Errorf("%s: accepted", name)
		case mustFail(dir):
			refused++
		case err == nil:
			accepted++
		case slices.Contains(ours, name), !errors.As(err, &e), e.Reason != release.BadBundle:
			t.Errorf("%s: %v", name, err)
		default:
			form++
		}
	}
	t.Logf("%d refused as they must be, %d accepted, %d refused by their form", refused, accepted, form)
	if accepted != len(ours) || refused == 0 {
		t.Error("a case is missing")
	}
}

// Log entries of Rekor v2 stand on their own: checkpoint, cosignatures and proofs of the suite, whatever was signed.
func TestConformanceEntries(t *testing.T) {
	n := 0
	for _, dir := range suite(t, "rekor2-checkpoint-*", "rekor2-happy-path", "rekor2-dsse-happy-path", "rekor2-no-inclusion-proof_fail") {
		var b struct {
			VerificationMaterial struct{ TlogEntries []json.RawMessage }
		}
		if err := json.Unmarshal(readCase(t, dir, "bundle.sigstore.json"), &b); err != nil {
			t.Fatal(err)
		}
		n++
		e, err := release.ParseEntry(b.VerificationMaterial.TlogEntries[0])
		if err == nil {
			err = errors.New("of no log")
			for _, k := range logKeys(t, readCase(t, dir, "trusted_root.json")) {
				if k.ID() == e.LogID {
					err = e.Check(e.Body, k)
				}
			}
		}
		if (err != nil) != mustFail(dir) {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
	t.Logf("%d cases", n)
}

// The public witnesses that cosigned Sigstore's staging log when the suite's bundle was made.
const publicWitnesses = `log log2025-alpha3.rekor.sigstage.dev+d3d3a70c+AZQ93VXPMmj9uZj7U/7CefQ9yy8RgYFv6mKzOseipjqp
witness geomys witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G
witness mullvad witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv
witness google staging.witness.transparency.goog/ring-any-bells+2e1a8dc9+BG5JTpLc3FJtwzgh1Uv+Qelz9qeOH2bfWjS1s0s+y4rL
witness absent rgdd.se/poc-witness+db03732e+BCjJKlo6BU0xfIb8LutqerIFTWIXEA0L5n3tW3QyPFgG
`

// A bundle from Sigstore's staging log, which three public witnesses cosigned: real keys, real clocks, real proofs.
func TestStagingWitnesses(t *testing.T) {
	dir := suite(t, "rekor2-dsse-happy-path")[0]
	for rule, want := range map[string]release.Reason{
		"group g all geomys mullvad google\nquorum g\n":      "",
		"group g 3 geomys mullvad google absent\nquorum g\n": "",
		"group g all geomys mullvad absent\nquorum g\n":      release.BadWitness,
		"quorum absent\n": release.BadWitness,
	} {
		p, err := release.ParseWitnessPolicy([]byte(publicWitnesses+rule), "p")
		if err != nil {
			t.Fatal(err)
		}
		r, err := verifyCase(t, dir, p.Quorum)
		var e *release.Error
		if want == "" && err != nil || want != "" && (!errors.As(err, &e) || e.Reason != want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
		if err == nil && (r.Tree.N != 4026479 || !r.Cosigned.Equal(time.Date(2026, 5, 13, 19, 23, 34, 0, time.UTC))) {
			t.Errorf("%d leaves, cosigned %s", r.Tree.N, r.Cosigned)
		}
	}
}

// The cases that are about certificates and timestamps, whatever they sign.
func TestConformanceCertificates(t *testing.T) {
	cases := suite(t, "rekor2-timestamp-*", "rekor2-dsse-happy-path", "intoto-tsa-timestamp-*", "trust-root-tsa-*", "bundle-with-sct-with-extensions")
	for _, c := range cases {
		t.Run(filepath.Base(c), func(t *testing.T) { certificateCase(t, c) })
	}
	t.Logf("%d cases", len(cases))
}

func certificateCase(t *testing.T, dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "bundle.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := os.ReadFile(filepath.Join(dir, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle.Bundle
	if err := json.Unmarshal(data, &b); err != nil {
		if !strings.HasSuffix(dir, "_fail") {
			t.Error(err)
		}
		return
	}
	m := b.GetVerificationMaterial()
	ours := &release.Bundle{Envelope: release.Envelope{Payload: []byte("{}")}, Certificate: m.GetCertificate().GetRawBytes()}
	if ours.Certificate == nil {
		ours.Certificate = m.GetX509CertificateChain().GetCertificates()[0].GetRawBytes()
	}
	for _, s := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		ours.Timestamps = append(ours.Timestamps, s.GetSignedTimestamp())
	}
	if e := b.GetDsseEnvelope(); e != nil {
		ours.Envelope.Signature = e.GetSignatures()[0].GetSig()
	} else {
		ours.Envelope.Signature = b.GetMessageSignature().GetSignature()
	}
	c, err := Verifier{}.VerifyCertificate(ours, trusted)
	if fail := strings.HasSuffix(dir, "_fail"); (err != nil) != fail {
		t.Errorf("%v, %v", c, err)
	} else {
		t.Logf("%v, %v", c, err)
	}
}
