package keyless

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
