package release

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
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
	Signer    PublicKey
	Payload   Digest // SHA-256 of the signed payload
	Leaf      Digest // RFC 6962 leaf hash
	Index     int64  // of the leaf in the log
	Tree      tlog.Tree
}

func (r *Result) ok(name, want, got, from string) {
	r.Checks = append(r.Checks, Check{name, OK, want, got, from})
}

func (r *Result) unchecked(name, why string) {
	r.Checks = append(r.Checks, Check{Name: name, Status: NotChecked, Got: why})
}

// Verify checks a bundle against a policy at the time now. On refusal the error is an *Error and the
// Result (never nil) holds the steps up to the one that failed, and no statement.
func Verify(bundle []byte, p *Policy, now time.Time) (*Result, error) {
	r := new(Result)
	s, refusal := r.verify(bundle, p, now)
	if refusal != nil {
		r.Checks = append(r.Checks, Check{Name: string(refusal.Reason), Status: Failed, Got: refusal.Err.Error()})
		return r, refusal
	}
	r.Statement = s
	return r, nil
}

func (r *Result) verify(bundle []byte, p *Policy, now time.Time) (*Statement, *Error) {
	if err := p.Check(); err != nil {
		return nil, &Error{PolicyEmpty, err}
	}
	if now.IsZero() {
		return nil, &Error{PolicyEmpty, errors.New("no time to verify at")}
	}
	b, err := ParseBundle(bundle)
	if err != nil {
		return nil, &Error{BadBundle, err}
	}
	signer, refusal := r.verifySignature(b, p)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := r.verifyEntry(b, &p.Log); refusal != nil {
		return nil, refusal
	}
	s, err := ParseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{BadStatement, err}
	}
	r.ok("statement", PredicateType, fmt.Sprintf("%s %s, sequence %d, %d subjects", s.Predicate.Release.Name, s.Predicate.Release.Version, s.Predicate.Release.Sequence, len(s.Subject)), "payload")
	if refusal := r.verifyTimes(s, signer, now); refusal != nil {
		return nil, refusal
	}
	r.unchecked("witnesses", "the policy asks for none: the log's owner could show you another log")
	r.unchecked("rollback", "no channel statement: a newer release or a revocation may exist")
	return s, nil
}

// VerifyUnlogged checks everything about a bundle but its log entry, under one key: what a publisher does
// before it logs. Clients call Verify.
func VerifyUnlogged(b *Bundle, k PublicKey) (*Statement, error) {
	if _, refusal := new(Result).verifySignature(b, &Policy{Signers: []Signer{{Key: k}}}); refusal != nil {
		return nil, refusal
	}
	s, err := ParseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{BadStatement, err}
	}
	return s, nil
}

// PayloadDigest is the SHA-256 of the signed payload, which names a release.
func PayloadDigest(b *Bundle) Digest { return sha256.Sum256(b.Envelope.Payload) }

// verifySignature finds the policy's key that the bundle names and checks the envelope with it. The hint
// only chooses among keys that are trusted already.
func (r *Result) verifySignature(b *Bundle, p *Policy) (Signer, *Error) {
	for _, s := range p.Signers {
		if s.Key.Hint() != b.Hint {
			continue
		}
		if !s.Key.verify(b.Envelope.PAE(), b.Envelope.Signature) {
			return Signer{}, refuse(BadSignature, "the envelope's signature does not verify under key %s", s.Key.ID())
		}
		r.Signer, r.Payload = s.Key, sha256.Sum256(b.Envelope.Payload)
		r.ok("signature", "key "+s.Key.ID().String(), "ECDSA P-256, SHA-256, payload "+r.Payload.String(), "policy")
		return s, nil
	}
	return Signer{}, refuse(BadIdentity, "signing key %q is none of the %d that the policy names", b.Hint, len(p.Signers))
}

// verifyEntry checks that what was signed is in the policy's log. The leaf is rebuilt from the verified
// envelope, the tree from the signed checkpoint; the bundle's copies of both must agree.
func (r *Result) verifyEntry(b *Bundle, p *LogPolicy) *Error {
	e := b.Entry
	if e == nil {
		return refuse(NotLogged, "the bundle has no log entry")
	}
	if e.LogID != p.Key.ID() {
		return refuse(BadLog, "the entry is in log %x, want %x (%s)", e.LogID, p.Key.ID(), p.Key.Origin())
	}
	tree, err := p.Key.OpenCheckpoint([]byte(e.Checkpoint))
	if err != nil {
		return &Error{BadLog, err}
	}
	r.ok("checkpoint", p.Key.String(), fmt.Sprintf("size %d, root %s", tree.N, tree.Hash), "policy")
	body := LeafBody(&b.Envelope, r.Signer)
	if !bytes.Equal(body, e.Body) {
		return refuse(BadInclusion, "the log entry is not the one of this envelope and key")
	}
	if tree.N != e.TreeSize || tree.Hash != tlog.Hash(e.RootHash) {
		return refuse(BadInclusion, "the proof is for a tree of %d leaves, the checkpoint for one of %d, or their roots differ", e.TreeSize, tree.N)
	}
	proof := make(tlog.RecordProof, len(e.Proof))
	for i, h := range e.Proof {
		proof[i] = h
	}
	leaf := LeafHash(body)
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, e.Index, tlog.Hash(leaf)); err != nil {
		return refuse(BadInclusion, "leaf %s at index %d: %w", leaf, e.Index, err)
	}
	r.Leaf, r.Index, r.Tree = leaf, e.Index, tree
	r.ok("inclusion", "leaf "+leaf.String(), fmt.Sprintf("index %d of %d", e.Index, tree.N), "checkpoint")
	return r.verifySeen(tree, p.Seen)
}

// verifySeen compares with remembered trees. A tree of another size says nothing here: that takes a
// consistency proof from the log itself.
func (r *Result) verifySeen(tree tlog.Tree, seen []tlog.Tree) *Error {
	known := false
	for _, t := range seen {
		if t.N != tree.N {
			continue
		}
		if t.Hash != tree.Hash {
			return refuse(LogFork, "the log signed two trees of %d leaves: root %s here, %s remembered", tree.N, tree.Hash, t.Hash)
		}
		known = true
	}
	if known {
		r.ok("log state", "as remembered", fmt.Sprintf("size %d", tree.N), "state")
	} else {
		r.unchecked("log state", "no tree of this size is remembered")
	}
	return nil
}

func (r *Result) verifyTimes(s *Statement, by Signer, now time.Time) *Error {
	v := s.Predicate.Validity
	window := func(what string, from, to time.Time) *Error {
		switch {
		case !from.IsZero() && now.Before(from):
			return refuse(NotYetValid, "%s is not valid before %s", what, from.Format(time.RFC3339))
		case !to.IsZero() && !now.Before(to):
			return refuse(Expired, "%s is not valid after %s", what, to.Format(time.RFC3339))
		}
		return nil
	}
	if e := window("the signer", by.NotBefore, by.NotAfter); e != nil {
		return e
	}
	var end time.Time
	if v.NotAfter != nil {
		end = *v.NotAfter
	}
	if e := window("the release", v.NotBefore, end); e != nil {
		return e
	}
	if v.NotAfter == nil {
		r.unchecked("validity", "valid from "+v.NotBefore.Format(time.RFC3339)+"; the statement names no end")
		return nil
	}
	r.ok("validity", "now", v.NotBefore.Format(time.RFC3339)+" to "+end.Format(time.RFC3339), "statement")
	return nil
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
