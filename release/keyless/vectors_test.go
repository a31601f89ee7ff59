package keyless

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"

	"tally/release"
)

const vectors = "testdata/vectors/fulcio-github"

// A certificate that GitHub's workflows really get; see SOURCE.
func TestFulcioCertificate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(vectors, "leaf.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := root.NewTrustedRootFromPath(filepath.Join(vectors, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	during := time.Date(2023, 8, 18, 16, 5, 40, 0, time.UTC)
	if logged, err := verifyLeaf(leaf, []time.Time{during}, trusted); err != nil || !logged {
		t.Errorf("logged %v, %v", logged, err)
	}
	for _, at := range []time.Time{during.Add(-time.Minute), during.Add(10 * time.Minute)} {
		if _, err := verifyLeaf(leaf, []time.Time{during, at}, trusted); err == nil || !strings.Contains(err.Error(), "at signing time") {
			t.Errorf("at %s: %v", at, err)
		}
	}
	got, err := summary(leaf)
	if err != nil {
		t.Fatal(err)
	}
	const ref = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"
	want := release.Certified{
		Issuer: "https://token.actions.githubusercontent.com", Subject: ref, Repository: "https://github.com/sigstore/sigstore-js",
		Ref: "refs/heads/main", Commit: "f0b49a04e5a62250e0f60fb128004a73110fe311", BuildConfig: ref,
	}
	if *got != want {
		t.Errorf("%+v\nwant %+v", *got, want)
	}
	id := release.Identity{Issuer: want.Issuer, Repository: want.Repository, Workflow: ".github/workflows/release.yml", Tag: "*", Commit: "*"}
	if err := id.Match(got); err == nil || !strings.Contains(err.Error(), "tag ") {
		t.Errorf("a branch is a tag: %v", err)
	}
	tagged := *got
	tagged.Ref = "refs/tags/v2"
	tagged.Subject = strings.Replace(ref, "refs/heads/main", "refs/tags/v2", 1)
	tagged.BuildConfig = tagged.Subject
	if err := id.Match(&tagged); err != nil {
		t.Error(err)
	}
}

// The cases of the sigstore-conformance suite that are about certificates and timestamps, when its directory is at
// hand. The suite comes without a licence and so is not here.
func TestConformance(t *testing.T) {
	dir := os.Getenv("SIGSTORE_CONFORMANCE")
	if dir == "" {
		t.Skip("SKIPPED: SIGSTORE_CONFORMANCE does not name the directory test/assets/bundle-verify of sigstore-conformance")
	}
	n := 0
	for _, pattern := range []string{"rekor2-timestamp-*", "rekor2-dsse-happy-path", "intoto-tsa-timestamp-*", "trust-root-tsa-*", "bundle-with-sct-with-extensions"} {
		cases, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(cases) == 0 {
			t.Errorf("%s: no case, %v", pattern, err)
		}
		for _, c := range cases {
			n++
			t.Run(filepath.Base(c), func(t *testing.T) { conformance(t, c) })
		}
	}
	t.Logf("%d cases", n)
}

func conformance(t *testing.T, dir string) {
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

// Foreign certificates and timestamps end in an error or a result, never in a panic.
func FuzzVerifyCertificate(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(vectors, "leaf.pem"))
	if err != nil {
		f.Fatal(err)
	}
	trusted, err := os.ReadFile(filepath.Join(vectors, "trusted_root.json"))
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(text)
	f.Add(block.Bytes, []byte("\x30\x03\x02\x01\x00"), []byte("signature"))
	f.Add(block.Bytes[:100], []byte("x"), []byte("x"))
	f.Fuzz(func(t *testing.T, cert, stamp, sig []byte) {
		b := &release.Bundle{Envelope: release.Envelope{Payload: []byte("{}"), Signature: sig}, Certificate: cert, Timestamps: [][]byte{stamp}}
		if c, err := (Verifier{}).VerifyCertificate(b, trusted); (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
		if leaf, err := x509.ParseCertificate(cert); err == nil {
			if c, err := summary(leaf); (c == nil) == (err == nil) {
				t.Errorf("%v, %v", c, err)
			}
		}
	})
}
