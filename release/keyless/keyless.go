// Package keyless verifies the certificates of releases that were signed without a key of one's own: by the key of
// a certificate that a CA (Fulcio) gave for a few minutes to a workflow or an account. It is the one door to
// sigstore-go for clients; package release compares what it proves with the policy's identities.
//
// What is proved, with nothing but the policy's Sigstore trusted root and offline:
//
//	timestamp        an authority of the root signed a time for the bundle's signature (RFC 3161)
//	certificate      a CA of the root gave it, for code signing, and it was valid at that time
//	certificate log  a log of the root promised to show it (embedded SCT, RFC 6962); wanted if the root has such logs
//
// The identity is then what the CA put into the certificate's extensions (github.com/sigstore/fulcio,
// docs/oid-info.md). Certificates are used for minutes and so have no revocation.
package keyless

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"tally/release"
)

// A Verifier is a release.CertificateVerifier.
type Verifier struct{}

var _ release.CertificateVerifier = Verifier{}

// VerifyCertificate implements release.CertificateVerifier.
func (Verifier) VerifyCertificate(b *release.Bundle, trustedRoot []byte) (*release.Certified, error) {
	if b.Certificate == nil {
		return nil, errors.New("certificate: the bundle has none")
	}
	trusted, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	leaf, err := x509.ParseCertificate(b.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	times, err := verifyTimestamps(b, trusted)
	if err != nil {
		return nil, err
	}
	logged, err := verifyLeaf(leaf, times, trusted)
	if err != nil {
		return nil, err
	}
	c, err := summary(leaf)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.Signed, c.Logged = slices.MinFunc(times, time.Time.Compare).UTC(), logged
	return c, nil
}

// verifyTimestamps returns the times, one or more, that authorities of the root vouch for.
func verifyTimestamps(b *release.Bundle, trusted root.TrustedMaterial) ([]time.Time, error) {
	entity, err := sigstoreBundle(b)
	if err != nil {
		return nil, err
	}
	stamps, err := verify.VerifySignedTimestampWithThreshold(entity, trusted, 1)
	if err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	var times []time.Time
	for _, s := range stamps {
		times = append(times, s.Time)
	}
	return times, nil
}

// verifyLeaf checks the certificate at every one of the times, and reports whether a certificate log of the root
// promised to show it: always, if the root has one.
func verifyLeaf(leaf *x509.Certificate, times []time.Time, trusted root.TrustedMaterial) (logged bool, err error) {
	var chains [][]*x509.Certificate
	for _, t := range times {
		if chains, err = verify.VerifyLeafCertificate(t, leaf, trusted); err != nil {
			return false, fmt.Errorf("certificate, %s to %s, at signing time %s: %w", leaf.NotBefore.UTC().Format(time.RFC3339),
				leaf.NotAfter.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339), err)
		}
	}
	if len(trusted.CTLogs()) == 0 {
		return false, nil
	}
	if err := verify.VerifySignedCertificateTimestamp(chains, 1, trusted); err != nil {
		return false, fmt.Errorf("certificate log: %w", err)
	}
	return true, nil
}

// sigstoreBundle is b without its log entries, which package release checks, as sigstore-go reads it.
func sigstoreBundle(b *release.Bundle) (*bundle.Bundle, error) {
	unlogged := *b
	unlogged.Entry, unlogged.Others = nil, nil
	data, err := unlogged.Marshal()
	if err != nil {
		return nil, err
	}
	out := new(bundle.Bundle)
	if err := out.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return out, nil
}

// summary reads Fulcio's extensions. The name must be one, a URI or a mail address: sigstore-go takes the first of
// several, and another kind only when there is none of these.
func summary(leaf *x509.Certificate) (*release.Certified, error) {
	n, err := names(leaf)
	if err != nil {
		return nil, err
	}
	if n != 1 || len(leaf.URIs)+len(leaf.EmailAddresses) != 1 {
		return nil, fmt.Errorf("%d subject alternative names, want one that is a URI or a mail address", n)
	}
	s, err := certificate.SummarizeCertificate(leaf)
	if err != nil {
		return nil, err
	}
	return &release.Certified{
		Issuer: s.Issuer, Subject: s.SubjectAlternativeName, Repository: s.SourceRepositoryURI,
		Ref: s.SourceRepositoryRef, Commit: s.SourceRepositoryDigest, BuildConfig: s.BuildConfigURI,
	}, nil
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// names counts the subject alternative names (RFC 5280, 4.2.1.6), also those of kinds that crypto/x509 passes over.
func names(leaf *x509.Certificate) (int, error) {
	i := slices.IndexFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltName) })
	if i < 0 {
		return 0, nil
	}
	var all []asn1.RawValue
	if rest, err := asn1.Unmarshal(leaf.Extensions[i].Value, &all); err != nil || len(rest) > 0 {
		return 0, errors.New("subject alternative names: want one DER sequence")
	}
	return len(all), nil
}
