package release

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A CertificateVerifier proves that the certificate of a bundle was given by a CA of the trusted root and was valid
// when a timestamp authority of that root saw the bundle's signature. The signature itself is checked by Verify.
type CertificateVerifier interface {
	VerifyCertificate(b *Bundle, trustedRoot []byte) (*Certified, error)
}

func (p *IdentityPolicy) check() error {
	for n, i := range p.List {
		if err := i.Check(); err != nil {
			return fmt.Errorf("policy: identity %d: %w", n+1, err)
		}
	}
	if len(p.List) > 0 && len(p.TrustedRoot) == 0 {
		return errors.New("policy: identities without a trusted root")
	}
	return nil
}

// CertifiedKey is the key of a certificate (DER) as that of a proven signer. Its ID is the signer's and not the
// key's, which is a new one at every signature: the workflow in its repository, at whatever tag, or the account.
func CertifiedKey(cert []byte, c *Certified) (PublicKey, error) {
	k, err := certificateKey(cert)
	if err != nil {
		return PublicKey{}, err
	}
	who := c.Subject
	if c.Repository != "" {
		who = strings.TrimSuffix(c.Subject, "@"+c.Ref)
	}
	k.id = signerID(c.Issuer, who)
	return k, nil
}

func signerID(issuer, who string) Digest {
	return sha256.Sum256([]byte("tally.identity/v1\n" + issuer + "\n" + who))
}

// CertificateKey is the key of the bundle's certificate, whoever has it: nothing about the certificate is proved.
func (b *Bundle) CertificateKey() (PublicKey, error) { return certificateKey(b.Certificate) }

// certificateKey reads the key and believes nothing else.
func certificateKey(cert []byte) (PublicKey, error) {
	x, err := x509.ParseCertificate(cert)
	if err != nil {
		return PublicKey{}, fmt.Errorf("certificate: %w", err)
	}
	ec, ok := x.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("certificate: key %T, want ECDSA on P-256", x.PublicKey)
	}
	k, err := NewPublicKey(ec)
	k.cert = cert
	return k, err
}

// verifyIdentity checks the envelope with the certificate's key, then whose that is.
func (r *Result) verifyIdentity(b *Bundle, p *IdentityPolicy) (Signer, *Error) {
	k, err := certificateKey(b.Certificate)
	if err != nil {
		return Signer{}, &Error{Reason: BadIdentity, Err: err}
	}
	if !k.verify(b.Envelope.PAE(), b.Envelope.Signature) {
		return Signer{}, refuse(BadSignature, "the envelope's signature does not verify under the certificate's key")
	}
	if p == nil || len(p.List) == 0 {
		return Signer{}, refuse(BadIdentity, "signed with a certificate, and the policy names no identities")
	}
	if p.Verifier == nil {
		return Signer{}, refuse(BadIdentity, "signed with a certificate, and this client verifies keys only")
	}
	c, err := p.Verifier.VerifyCertificate(b, p.TrustedRoot)
	if err != nil {
		return Signer{}, &Error{Reason: BadIdentity, Err: err}
	}
	rule, refusal := p.rule(c)
	if refusal != nil {
		return Signer{}, refusal
	}
	return r.identified(b, c, rule)
}

// rule is the one that c is as and signed in the time of; of several the one that holds longest, so that one with
// an end does not stand in the way of one without.
func (p *IdentityPolicy) rule(c *Certified) (Identity, *Error) {
	var errs []error
	var late *Error
	var best *Identity
	for n, i := range p.List {
		if err := i.Match(c); err != nil {
			errs = append(errs, err)
		} else if e := within("signed at "+c.Signed.UTC().Format(time.RFC3339)+": the identity", i.NotBefore, i.NotAfter, c.Signed); e != nil {
			late = e
		} else if best == nil || !best.NotAfter.IsZero() && (i.NotAfter.IsZero() || i.NotAfter.After(best.NotAfter)) {
			best = &p.List[n]
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case late != nil:
		return Identity{}, late
	case len(errs) > 1:
		return Identity{}, refuse(BadIdentity, "%s is none of the policy's %d identities", c, len(errs))
	}
	return Identity{}, refuse(BadIdentity, "certificate: %w", errs[0])
}

func (r *Result) identified(b *Bundle, c *Certified, i Identity) (Signer, *Error) {
	k, err := CertifiedKey(b.Certificate, c)
	if err != nil {
		return Signer{}, &Error{Reason: BadIdentity, Err: err}
	}
	r.Signer, r.Identity, r.Payload = k, c, sha256.Sum256(b.Envelope.Payload)
	r.ok("signature", "the certificate's key", "ECDSA P-256, SHA-256, payload "+r.Payload.String(), "bundle")
	r.ok("identity", i.String(), c.String(), "policy")
	r.ok("signing time", "while the certificate was valid", c.Signed.UTC().Format(time.RFC3339), "timestamp authority of the trusted root")
	if c.Logged {
		r.ok("certificate log", "one of the trusted root's", "promises to show the certificate", "certificate")
	} else {
		r.unchecked("certificate log", "the trusted root names none: the CA could have given the certificate in secret")
	}
	return Signer{Key: k, NotBefore: i.NotBefore, NotAfter: i.NotAfter}, nil
}

// verifySource holds what a statement says of its source against what the CA was told by the build service.
func (r *Result) verifySource(s *Statement) *Error {
	rel, c := &s.Predicate.Release, r.Identity
	switch {
	case c == nil || c.Repository == "":
		return nil
	case rel.SourceRepository != "" && strings.TrimSuffix(rel.SourceRepository, ".git") != c.Repository:
		return refuse(BadIdentity, "the statement's repository is %q, the certificate's %q", rel.SourceRepository, c.Repository)
	case rel.SourceCommit != "" && rel.SourceCommit != c.Commit:
		return refuse(BadIdentity, "the statement's commit is %s, the certificate's %q", rel.SourceCommit, c.Commit)
	}
	return nil
}
