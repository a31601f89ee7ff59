package release

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// maxSkew is how far a timestamp authority's clock may be ahead of the verifier's.
const maxSkew = 5 * time.Minute

// Verify checks a bundle against a policy at the time now. After the bundle, each on a line of its own, may stand
// the bundles of a channel statement, of revocations and of rebuilds (see [Split]). On refusal the error is an *Error and the Result (never
// nil) holds the steps up to the one that failed, no statement, and what is to be remembered all the same.
func Verify(data []byte, p *Policy, now time.Time) (*Result, error) {
	r := new(Result)
	s, c, refusal := r.verify(data, p, now)
	if refusal != nil {
		r.Checks = append(r.Checks, Check{Name: string(refusal.Reason), Status: Failed, Got: strings.TrimPrefix(refusal.Error(), string(refusal.Reason)+": ")})
		return r, refusal
	}
	r.Statement, r.Channel = s, c
	return r, nil
}

func (r *Result) verify(data []byte, p *Policy, now time.Time) (*Statement, *Channel, *Error) {
	if err := p.Check(); err != nil {
		return nil, nil, &Error{Reason: PolicyEmpty, Err: err}
	}
	if now.IsZero() {
		return nil, nil, &Error{Reason: PolicyEmpty, Err: errors.New("no time to verify at")}
	}
	parts, err := Split(data)
	if err != nil {
		return nil, nil, &Error{Reason: BadBundle, Err: err}
	}
	s, signer, refusal := r.verifyRelease(parts, p)
	if refusal != nil {
		return nil, nil, refusal
	}
	f, refusal := r.verifyFurther(parts[1:], p, now)
	if refusal != nil {
		return nil, nil, refusal
	}
	c, refusal := r.verifyNow(s, signer, f, p, now)
	if refusal != nil {
		return nil, nil, refusal
	}
	return s, c, r.verifyRebuilders(s, f, p)
}

// verifyRelease checks the release's own bundle, the first of parts: who signed it, that it is in the log, and what it
// says (SPEC.md, section 7, 2 to 8c).
func (r *Result) verifyRelease(parts [][]byte, p *Policy) (*Statement, Signer, *Error) {
	fail := func(e *Error) (*Statement, Signer, *Error) { return nil, Signer{}, e }
	b, err := ParseBundle(parts[0])
	if err != nil {
		return fail(&Error{Reason: BadBundle, Err: err})
	}
	signer, refusal := r.verifySignature(b, r.releaseSigners(b, parts[1:], p), &p.Identities)
	if refusal != nil {
		return fail(refusal)
	}
	if d, why, ok := new(further).revoked(p, r.Payload, r.Signer.ID()); ok {
		return fail(refuse(Revoked, "%s, the statement or its signer's key, %s", d, why))
	}
	if refusal := r.verifyEntry(b, &p.Log); refusal != nil {
		return fail(refusal)
	}
	s, err := ParseStatement(b.Envelope.Payload)
	if err != nil {
		return fail(&Error{Reason: BadStatement, Err: err})
	}
	r.ok("statement", PredicateType, fmt.Sprintf("%s %s, sequence %d, %d subjects", s.Predicate.Release.Name, s.Predicate.Release.Version, s.Predicate.Release.Sequence, len(s.Subject)), "payload")
	if refusal := r.verifySource(s); refusal != nil {
		return fail(refusal)
	}
	if refusal := r.verifyImage(s, p); refusal != nil {
		return fail(refusal)
	}
	if refusal := r.verifyWires(s, p); refusal != nil {
		return fail(refusal)
	}
	return s, signer, nil
}

// verifyNow holds what was proved against what others said since, the log as it stands and the time (9a to 16).
func (r *Result) verifyNow(s *Statement, signer Signer, f *further, p *Policy, now time.Time) (*Channel, *Error) {
	for _, check := range []func() *Error{
		func() *Error { return r.verifyRevoked(f, p) },
		func() *Error { return r.verifyView(&p.Log) },
		func() *Error { return r.verifyTimes(s, signer, now) },
		func() *Error { return r.verifyCosigned(&p.Log, now) },
	} {
		if refusal := check(); refusal != nil {
			return nil, refusal
		}
	}
	if f.channel != nil {
		r.ChannelPayload = f.channel.payload
	}
	return r.verifyFresh(s, f.channel, p, now)
}

// Identify checks the signature of a bundle and who made it, and nothing else: what a publisher does for a bundle
// that a certificate's key signed. Clients call Verify.
func Identify(b *Bundle, p *Policy) (PublicKey, *Certified, error) {
	if err := p.Identities.check(); err != nil {
		return PublicKey{}, nil, &Error{Reason: PolicyEmpty, Err: err}
	}
	r := new(Result)
	if _, refusal := r.verifySignature(b, p.Signers, &p.Identities); refusal != nil {
		return PublicKey{}, nil, refusal
	}
	return r.Signer, r.Identity, nil
}

// VerifyEnvelope checks the signature on a bundle under one key and nothing else. Clients call Verify.
func VerifyEnvelope(b *Bundle, k PublicKey) error {
	if _, refusal := new(Result).verifySignature(b, []Signer{{Key: k}}, nil); refusal != nil {
		return refusal
	}
	return nil
}

// VerifyUnlogged checks everything about a release's bundle but its log entry, under one key: what a
// publisher does before it logs.
func VerifyUnlogged(b *Bundle, k PublicKey) (*Statement, error) {
	if err := VerifyEnvelope(b, k); err != nil {
		return nil, err
	}
	s, err := ParseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{Reason: BadStatement, Err: err}
	}
	return s, nil
}

// VerifyUnloggedChannel is VerifyUnlogged for the bundle of a channel statement.
func VerifyUnloggedChannel(b *Bundle, k PublicKey) (*Channel, error) {
	if err := VerifyEnvelope(b, k); err != nil {
		return nil, err
	}
	c, err := ParseChannel(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{Reason: BadStatement, Err: err}
	}
	return c, nil
}

// PayloadDigest is the SHA-256 of the signed payload, which names a release.
func PayloadDigest(b *Bundle) Digest { return sha256.Sum256(b.Envelope.Payload) }

// verifySignature finds the policy's key that the bundle names and checks the envelope with it. The hint
// only chooses among keys that are trusted already. A certificate's key is none of them: there identities decide.
func (r *Result) verifySignature(b *Bundle, signers []Signer, ids *IdentityPolicy) (Signer, *Error) {
	for _, s := range signers {
		if !s.Key.names(b) {
			continue
		}
		if !s.Key.verify(b.Envelope.PAE(), b.Envelope.Signature) {
			return Signer{}, refuse(BadSignature, "the envelope's signature does not verify under key %s", s.Key.ID())
		}
		r.Signer, r.Payload = s.Key, sha256.Sum256(b.Envelope.Payload)
		r.ok("signature", "key "+s.Key.ID().String(), "ECDSA P-256, SHA-256, payload "+r.Payload.String(), "policy")
		return s, nil
	}
	if b.Certificate != nil {
		return r.verifyIdentity(b, ids)
	}
	return Signer{}, refuse(BadIdentity, "signing key %q is none of the %d that the policy names", b.Hint, len(signers))
}

// verifyEntry checks that what was signed is in the policy's log. The leaf is rebuilt from the verified
// envelope, the tree from the signed checkpoint; the bundle's copies of both must agree.
func (r *Result) verifyEntry(b *Bundle, p *LogPolicy) *Error {
	if b.Entry == nil {
		return refuse(NotLogged, "the bundle has no log entry")
	}
	e := b.EntryIn(p.Key.ID())
	if e == nil {
		return refuse(BadLog, "the entry is in log %x, want %x (%s)", b.Entry.LogID, p.Key.ID(), p.Key.Origin())
	}
	tree, err := p.Key.OpenCheckpoint([]byte(e.Checkpoint))
	if err != nil {
		return &Error{Reason: BadLog, Err: err}
	}
	r.ok("checkpoint", p.Key.String(), fmt.Sprintf("size %d, root %s", tree.N, tree.Hash), "policy")
	if refusal := r.verifyWitnesses(e.Checkpoint, p); refusal != nil {
		return refusal
	}
	body := LeafBody(&b.Envelope, r.Signer)
	if err := e.included(body, tree); err != nil {
		return &Error{Reason: BadInclusion, Err: err}
	}
	r.Leaf, r.Index, r.Tree = LeafHash(body), e.Index, tree
	r.ok("inclusion", "leaf "+r.Leaf.String(), fmt.Sprintf("index %d of %d", e.Index, tree.N), "checkpoint")
	if n := len(b.entries()) - 1; n > 0 {
		r.unchecked("other logs", fmt.Sprintf("%d more entries: the policy names one log", n))
	}
	return r.verifySeen(SeenTree{Tree: tree, Note: e.Checkpoint}, p.Seen)
}

// included checks that e is the entry of a leaf and that its proof leads to the tree.
func (e *Entry) included(body []byte, tree tlog.Tree) error {
	if !bytes.Equal(body, e.Body) {
		return errors.New("the log entry is not the one of this envelope and key")
	}
	if tree.N != e.TreeSize || tree.Hash != tlog.Hash(e.RootHash) {
		return fmt.Errorf("the proof is for a tree of %d leaves, the checkpoint for one of %d, or their roots differ", e.TreeSize, tree.N)
	}
	proof := make(tlog.RecordProof, len(e.Proof))
	for i, h := range e.Proof {
		proof[i] = h
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, e.Index, tlog.RecordHash(body)); err != nil {
		return fmt.Errorf("leaf %s at index %d: %w", LeafHash(body), e.Index, err)
	}
	return nil
}

// Check verifies that the entry is of that leaf in the log with that key.
func (e *Entry) Check(body []byte, key LogKey) error {
	if e.LogID != key.ID() {
		return fmt.Errorf("the entry is in log %x, want %x (%s)", e.LogID, key.ID(), key.Origin())
	}
	tree, err := key.OpenCheckpoint([]byte(e.Checkpoint))
	if err != nil {
		return err
	}
	return e.included(body, tree)
}

func (r *Result) verifyTimes(s *Statement, by Signer, now time.Time) *Error {
	v := s.Predicate.Validity
	if c := r.Identity; c != nil && c.Signed.After(now.Add(maxSkew)) {
		return refuse(NotYetValid, "signed at %s, which is to come", c.Signed.Format(time.RFC3339))
	}
	if e := within("the signer", by.NotBefore, by.NotAfter, now); e != nil {
		return e
	}
	var end time.Time
	if v.NotAfter != nil {
		end = *v.NotAfter
	}
	if e := within("the release", v.NotBefore, end, now); e != nil {
		return e
	}
	if v.NotAfter == nil {
		r.unchecked("validity", "valid from "+v.NotBefore.Format(time.RFC3339)+"; the statement names no end")
		return nil
	}
	r.ok("validity", "now", v.NotBefore.Format(time.RFC3339)+" to "+end.Format(time.RFC3339), "statement")
	return nil
}

// within refuses a time before from or not before to; a zero bound is none.
func within(what string, from, to, now time.Time) *Error {
	switch {
	case !from.IsZero() && now.Before(from):
		return refuse(NotYetValid, "%s is not valid before %s", what, from.Format(time.RFC3339))
	case !to.IsZero() && !now.Before(to):
		return refuse(Expired, "%s is not valid after %s", what, to.Format(time.RFC3339))
	}
	return nil
}
