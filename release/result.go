package release

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Status is the outcome of one check.
type Status string

// The outcomes. A Result holds at most one Failed check, the last one made.
const (
	OK         Status = "ok"
	Failed     Status = "failed"
	NotChecked Status = "not-checked" // nothing was there to check it with; said rather than left out
)

// A Check is one step of a verification.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Want   string `json:"want,omitempty"`
	Got    string `json:"got,omitempty"`
	From   string `json:"from,omitempty"` // where the expectation came from
}

// A Result says what was proved, step by step.
type Result struct {
	Checks    []Check
	Statement *Statement // nil unless every check passed
	Channel   *Channel   // nil unless every check passed and a channel statement was at hand
	Signer    PublicKey
	Identity  *Certified // nil unless a certificate's key signed
	Payload   Digest     // SHA-256 of the signed payload
	Leaf      Digest     // RFC 6962 leaf hash
	Index     int64      // of the leaf in the log
	Tree      tlog.Tree

	ChannelPayload Digest     // SHA-256 of the channel statement's payload
	Trees          []SeenTree // of the log, shown by the bundles and by the log itself
	Proved         bool       // Trees and everything remembered are prefixes of the last of Trees
	Cosigned       time.Time  // when the quorum met on the newest checkpoint; zero without witnesses

	Rebuilders  []Digest   // keys of the policy's rebuilders who reproduced the release
	Revocations []*Channel // statements of the policy's revocation keys

	// What a refused Result says, too, once it was proved, so that it is remembered: a revocation is for ever, and
	// nobody goes back behind a channel statement that was in force.
	Revoking []*Channel // statements at hand whose revocations count
	InForce  *Channel   // the channel statement, of its time and not older than the one remembered
}

func (r *Result) ok(name, want, got, from string) {
	r.Checks = append(r.Checks, Check{name, OK, want, got, from})
}

func (r *Result) unchecked(name, why string) {
	r.Checks = append(r.Checks, Check{Name: name, Status: NotChecked, Got: why})
}

// CheckName holds a verified release against the name, and the version unless it is empty, that was asked
// for: whoever serves releases could hand out another one.
func (r *Result) CheckName(name, version string) error {
	if r.Statement == nil {
		return refuse(BadName, "%q: nothing was verified to compare it with", name)
	}
	rel := r.Statement.Predicate.Release
	if rel.Name == name && (version == "" || rel.Version == version) {
		return nil
	}
	e := refuse(BadName, "the release is %s %s, asked for was %s %s", rel.Name, rel.Version, name, version)
	r.Checks = append(r.Checks, Check{"name", Failed, name + " " + version, rel.Name + " " + rel.Version, "request"})
	return e
}

// CheckArtifact compares a file at hand with the subject called name and adds the step to r.
func (r *Result) CheckArtifact(name string, got Digest) error {
	if r.Statement == nil {
		return refuse(BadArtifact, "%q: nothing was verified to compare it with", name)
	}
	want, ok := r.Statement.SubjectDigest(name)
	var e *Error
	switch {
	case !ok:
		e = refuse(BadArtifact, "%q is not a subject of the statement", name)
	case want != got:
		e = refuse(BadArtifact, "%q has SHA-256 %s, want %s", name, got, want)
	default:
		r.ok("artifact", want.String(), name, "statement")
		return nil
	}
	r.Checks = append(r.Checks, Check{name, Failed, want.String(), got.String(), "statement"})
	return e
}
