package release

import (
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

// Signer names the signer that the rule is about, so that its publications can be found; it verifies nothing. It
// is false for a rule about many: one with "*" in subject, repository or workflow.
func (i Identity) Signer() (PublicKey, bool) {
	who := i.Subject
	if who == "" {
		who = i.Repository + "/" + i.Workflow
	}
	return PublicKey{id: signerID(i.Issuer, who)}, i.Check() == nil && !strings.Contains(who, "*")
}
