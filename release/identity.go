package release

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An Identity is a rule about who may sign with a certificate: a workflow of a repository at a tag (Repository,
// Workflow, Tag and Commit), or an account (Subject). Every field is compared with its own field of the
// certificate, as a whole and literally, but that "*" stands for one or more characters other than "/" and white
// space. No field may be left out: whoever does not mind the commit says "*".
type Identity struct {
	Issuer     string // URL of who vouched for the identity; no "*"
	Subject    string // the account's name, mostly a mail address
	Repository string // URL such as "https://github.com/acme/enclave"
	Workflow   string // path in the repository such as ".github/workflows/release.yml"
	Tag        string // the tag's name, without "refs/tags/"
	Commit     string // of the source, in hex

	// NotBefore and NotAfter bound the rule as they bound a Signer: outside of them it neither signs, by the
	// time that a timestamp authority gave the signature, nor is believed any more. Zero: no bound.
	NotBefore, NotAfter time.Time
}

// Untimed is the rule without its bounds: whom it is about.
func (i Identity) Untimed() Identity {
	i.NotBefore, i.NotAfter = time.Time{}, time.Time{}
	return i
}

// Check says what keeps i from being a rule, or nil.
func (i Identity) Check() error {
	workflow := []string{i.Repository, i.Workflow, i.Tag, i.Commit}
	all := strings.Join(workflow, "")
	switch {
	case i.Issuer == "" || strings.Contains(i.Issuer, "*"):
		return errors.New("identity: want an issuer, without \"*\"")
	case i.Subject != "" && all != "":
		return errors.New("identity: want either a subject or a repository with workflow, tag and commit")
	case i.Subject == "" && (i.Repository == "" || i.Workflow == "" || i.Tag == "" || i.Commit == ""):
		return errors.New("identity: want repository, workflow, tag and commit, or a subject")
	case !i.NotBefore.IsZero() && !i.NotAfter.IsZero() && !i.NotAfter.After(i.NotBefore):
		return errors.New("identity: its time ends before it begins")
	}
	for _, s := range append(workflow, i.Issuer, i.Subject) {
		if !printable(s, 1024) {
			return fmt.Errorf("identity: %.80q: want at most 1024 printable bytes", s)
		}
	}
	return nil
}

// String names the fields of the rule.
func (i Identity) String() string {
	if i.Subject != "" {
		return fmt.Sprintf("issuer %s, subject %s", i.Issuer, i.Subject)
	}
	return fmt.Sprintf("issuer %s, repository %s, workflow %s, tag %s, commit %s", i.Issuer, i.Repository, i.Workflow, i.Tag, i.Commit)
}

// A Certified is what a certificate says about who signed, and is believed. The fields are Fulcio's
// (github.com/sigstore/fulcio, docs/oid-info.md); those of an account's certificate are empty below Subject.
type Certified struct {
	Issuer      string    `json:"issuer"`
	Subject     string    `json:"subject"`              // the subject alternative name
	Repository  string    `json:"repository,omitempty"` // source repository URI
	Ref         string    `json:"ref,omitempty"`        // source repository ref
	Commit      string    `json:"commit,omitempty"`     // source repository digest
	BuildConfig string    `json:"build_config,omitempty"`
	Signed      time.Time `json:"signed"`             // when a timestamp authority saw the signature
	Logged      bool      `json:"certificate_logged"` // a certificate log of the trusted root promised to show the certificate
}

// String names the fields that rules speak of.
func (c *Certified) String() string {
	if c.Repository == "" {
		return fmt.Sprintf("issuer %s, subject %s", c.Issuer, c.Subject)
	}
	return fmt.Sprintf("issuer %s, workflow %s, commit %s", c.Issuer, c.Subject, c.Commit)
}

// workflow returns the path of the workflow in the repository. The subject of a workflow that another one called
// lies in another repository or is not the build's configuration: not known here, and so refused.
func (c *Certified) workflow() (string, error) {
	path, ok := strings.CutPrefix(c.Subject, c.Repository+"/")
	path, at := strings.CutSuffix(path, "@"+c.Ref)
	if c.Repository == "" || c.Ref == "" || !ok || !at || c.BuildConfig != "" && c.BuildConfig != c.Subject {
		return "", fmt.Errorf("workflow: subject %.256q is no workflow of repository %.256q at %.128q", c.Subject, c.Repository, c.Ref)
	}
	return path, nil
}

// Match says which field of c is not as i wants it, or nil.
func (i Identity) Match(c *Certified) error {
	if err := i.Check(); err != nil {
		return err
	}
	fields := []struct{ name, want, got string }{{"issuer", i.Issuer, c.Issuer}}
	if i.Subject != "" {
		fields = append(fields, struct{ name, want, got string }{"subject", i.Subject, c.Subject})
	} else {
		path, err := c.workflow()
		if err != nil {
			return err
		}
		fields = append(fields, []struct{ name, want, got string }{
			{"repository", i.Repository, c.Repository}, {"workflow", i.Workflow, path}, {"tag", "refs/tags/" + i.Tag, c.Ref}, {"commit", i.Commit, c.Commit},
		}...)
	}
	for _, f := range fields {
		if !matches(f.want, f.got) {
			return fmt.Errorf("%s %.256q, want %q", f.name, f.got, f.want)
		}
	}
	return nil
}

// matches compares the whole of s with a pattern in which only "*" is special.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	re, err := regexp.Compile(`\A` + strings.Join(parts, `[^/\s]+`) + `\z`)
	return err == nil && re.MatchString(s)
}

// An IdentityPolicy says whose certificates are accepted. The zero value accepts none.
type IdentityPolicy struct {
	List []Identity

	// TrustedRoot is the JSON of a Sigstore trusted root: whose certificates, timestamps and certificate logs
	// are believed.
	TrustedRoot []byte

	// Verifier does the X.509 part (tally/release/keyless). A client without it knows keys only and refuses
	// every certificate.
	Verifier CertificateVerifier
}

// single wants every rule to name one signer, so that one rule is one party, each once and none of others'.
func (p *IdentityPolicy) single(what string, others ...*IdentityPolicy) error {
	seen := map[Digest]bool{}
	for n, i := range p.List {
		k, one := i.Signer()
		switch {
		case !one:
			return fmt.Errorf("policy: %s identity %d: \"*\" in subject, repository or workflow names many, want one", what, n+1)
		case seen[k.ID()]:
			return fmt.Errorf("policy: %s identity %d: the same signer twice", what, n+1)
		}
		seen[k.ID()] = true
		for _, o := range others {
			for _, rule := range o.List {
				if other, one := rule.Signer(); one && other.ID() == k.ID() {
					return fmt.Errorf("policy: %s identity %d (%s) signs for others too: it must be one of its own", what, n+1, i)
				}
			}
		}
	}
	return p.check()
}

// covers reports whether c is as one of the rules wants it, whatever its time.
func (p *IdentityPolicy) covers(c *Certified) bool {
	for _, i := range p.List {
		if i.Match(c) == nil {
			return true
		}
	}
	return false
}

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

// Signer names the signer that the rule is about, so that its publications can be found; it verifies nothing. It
// is false for a rule about many: one with "*" in subject, repository or workflow.
func (i Identity) Signer() (PublicKey, bool) {
	who := i.Subject
	if who == "" {
		who = i.Repository + "/" + i.Workflow
	}
	return PublicKey{id: signerID(i.Issuer, who)}, i.Check() == nil && !strings.Contains(who, "*")
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
