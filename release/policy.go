package release

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Policy says whom the verifier trusts. Every field must be filled: the zero Policy, and any Policy that
// leaves out the signers, the log or the word on witnesses, rejects everything.
type Policy struct {
	Signers []Signer // who may sign releases; at least one
	Log     LogPolicy
}

// A Signer is a key with the time in which it may be used.
type Signer struct {
	Key       PublicKey
	NotBefore time.Time // zero: from ever
	NotAfter  time.Time // zero: for ever
}

// LogPolicy says which log must hold the release.
type LogPolicy struct {
	Key LogKey

	// Unwitnessed accepts a log whose checkpoints nobody cosigns. It must be true, because this
	// package does not check cosignatures yet; the field exists so that a policy has to say it. Every
	// Result then warns that the log's owner could show others another log.
	Unwitnessed bool

	// Seen are trees of this log that the verifier remembers. A different tree of the same size is
	// a fork.
	Seen []tlog.Tree
}

// Check says what keeps p from accepting anything, or nil.
func (p *Policy) Check() error {
	switch {
	case p == nil || len(p.Signers) == 0:
		return errors.New("policy: names no signer of releases")
	case p.Log.Key.IsZero():
		return errors.New("policy: names no log")
	case !p.Log.Unwitnessed:
		return errors.New("policy: says nothing about witnesses of the log")
	}
	seen := map[Digest]bool{}
	for i, s := range p.Signers {
		if s.Key.IsZero() {
			return fmt.Errorf("policy: signer %d has no key", i+1)
		}
		if !s.NotBefore.IsZero() && !s.NotAfter.IsZero() && !s.NotAfter.After(s.NotBefore) {
			return fmt.Errorf("policy: signer %d: its time ends before it begins", i+1)
		}
		if seen[s.Key.ID()] {
			return fmt.Errorf("policy: signer %d: the same key twice", i+1)
		}
		seen[s.Key.ID()] = true
	}
	return nil
}

// A Reason is a stable word for why a release is refused; scripts rely on it.
type Reason string

// The reasons. All but the last three mean that cryptography did not hold; those are the policy's no.
const (
	BadBundle    Reason = "bundle"     // not a bundle in the form this package reads
	BadIdentity  Reason = "identity"   // the signing key is none of the policy's
	BadSignature Reason = "signature"  // the envelope's signature does not verify
	NotLogged    Reason = "not-logged" // the bundle has no log entry
	BadLog       Reason = "log"        // the entry is of another log, or its checkpoint is not signed by the log
	BadInclusion Reason = "inclusion"  // the entry is not what was signed, or not in the tree
	LogFork      Reason = "log-fork"   // the log signed two trees of one size
	BadStatement Reason = "statement"  // the payload is no statement of ours, or contradicts itself
	BadArtifact  Reason = "artifact"   // a file at hand is not the one that was released
	PolicyEmpty  Reason = "policy"     // the policy trusts nobody
	Expired      Reason = "expired"    // the release's or the signer's time is over
	NotYetValid  Reason = "not-yet"    // the release's or the signer's time has not begun
)

// Policy reports whether r is the policy's no rather than failed cryptography.
func (r Reason) Policy() bool { return r == PolicyEmpty || r == Expired || r == NotYetValid }

// An Error is a refusal.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{r, fmt.Errorf(format, args...)}
}
