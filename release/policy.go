package release

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Policy says whom the verifier trusts. Every field must be filled: the zero Policy, and any Policy that
// leaves out the signers, the log or the word on witnesses, rejects everything.
type Policy struct {
	Signers    []Signer       // who may sign releases; at least one, or one of Identities
	Identities IdentityPolicy // who may sign with a certificate
	Log        LogPolicy
	Channel    ChannelPolicy

	Rebuilders RebuilderPolicy

	// OCIManifest wants every release to name the manifest under which registries have it.
	OCIManifest bool

	// RefuseWires refuses releases whose enclave is reached by another protocol than tally/1, too.
	RefuseWires bool

	// Revokers may revoke beside the signers of the channel, and do nothing else: whoever stole a release key
	// cannot keep them from it.
	Revokers          []Signer
	RevokerIdentities IdentityPolicy // each rule names one signer

	Memory Memory // what the verifier remembers; not the policy's word, but weighed with it
}

// ChannelPolicy asks for a channel statement beside every release. The zero value asks for none; every
// Result then says that a newer release or a revocation may exist.
type ChannelPolicy struct {
	Name    string        // such as "stable"; empty: none is asked for
	MaxAge  time.Duration // how old the statement may be, above zero
	Signers []Signer      // who may sign it; none: the signers of releases, identities included
}

// A Memory is what a verifier remembers of releases that it accepted before, against replay of old ones.
// The zero value remembers nothing.
type Memory struct {
	Releases map[string]uint64 // highest sequence accepted, by the release's name
	Channels map[string]Mark   // newest channel statement, by "NAME@CHANNEL"
	Revoked  map[Digest]string // statements once seen revoked, and why; a revocation is for ever
}

// A Mark is a channel statement that was accepted.
type Mark struct {
	Sequence uint64
	Payload  Digest // SHA-256 of its payload
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

	// Quorum says who must have cosigned every checkpoint: those of the bundles and the log's latest.
	Quorum Quorum

	// MaxAge is how long ago the quorum may at most have met on the newest checkpoint at hand; 0: any time.
	MaxAge time.Duration

	// Unwitnessed accepts a log whose checkpoints nobody cosigns. A policy has to say it in place of
	// a quorum. Every Result then warns that the log's owner could show others another log.
	Unwitnessed bool

	// Seen are trees of this log that the verifier remembers. A different tree of the same size is
	// a fork.
	Seen []SeenTree

	// View is the log as it stands; nil when it was not asked.
	View *LogView
}

// Check says what keeps p from accepting anything, or nil.
func (p *Policy) Check() error {
	switch {
	case p == nil || len(p.Signers)+len(p.Identities.List) == 0:
		return errors.New("policy: names no signer of releases")
	case p.Log.Key.IsZero():
		return errors.New("policy: names no log")
	case p.Log.Unwitnessed != p.Log.Quorum.IsZero():
		return errors.New("policy: says nothing about witnesses of the log, or both that there are and that there are none")
	case p.Log.MaxAge < 0 || p.Log.MaxAge != 0 && p.Log.Unwitnessed:
		return errors.New("policy: an age of cosignatures that nobody makes")
	}
	for what, list := range map[string][]Signer{"signer": p.Signers, "revocation key": p.Revokers} {
		if err := checkSigners(list, what); err != nil {
			return err
		}
	}
	for _, k := range p.Revokers {
		if hasKey(p.Signers, k.Key) || hasKey(p.Channel.Signers, k.Key) {
			return fmt.Errorf("policy: revocation key %s signs releases or channels too: it must be one of its own", k.Key.ID())
		}
	}
	if err := p.Channel.check(); err != nil {
		return err
	}
	if err := p.Identities.check(); err != nil {
		return err
	}
	if err := p.RevokerIdentities.single("revocation", &p.Identities); err != nil {
		return err
	}
	if err := p.Rebuilders.Identities.single("rebuilder", &p.Identities, &p.RevokerIdentities); err != nil {
		return err
	}
	return p.Rebuilders.check(p.Signers, p.Channel.Signers, p.Revokers)
}

func checkSigners(list []Signer, what string) error {
	seen := map[Digest]bool{}
	for i, s := range list {
		if s.Key.IsZero() {
			return fmt.Errorf("policy: %s %d has no key", what, i+1)
		}
		if !s.NotBefore.IsZero() && !s.NotAfter.IsZero() && !s.NotAfter.After(s.NotBefore) {
			return fmt.Errorf("policy: %s %d: its time ends before it begins", what, i+1)
		}
		if seen[s.Key.ID()] {
			return fmt.Errorf("policy: %s %d: the same key twice", what, i+1)
		}
		seen[s.Key.ID()] = true
	}
	return nil
}

func (c *ChannelPolicy) check() error {
	switch {
	case c.Name == "" && (c.MaxAge != 0 || len(c.Signers) != 0):
		return errors.New("policy: the channel has no name")
	case c.Name != "" && c.MaxAge <= 0:
		return errors.New("policy: says nothing about the age of channel statements")
	}
	return checkSigners(c.Signers, "channel signer")
}

// channelSigners are the keys and the identities that may sign channel statements.
func (p *Policy) channelSigners() ([]Signer, *IdentityPolicy) {
	if len(p.Channel.Signers) != 0 {
		return p.Channel.Signers, nil
	}
	return p.Signers, &p.Identities
}

// A Reason is a stable word for why a release is refused; scripts rely on it.
type Reason string

// The reasons. The last nine are the policy's no; the others mean that cryptography did not hold.
const (
	BadBundle    Reason = "bundle"     // not a bundle in the form this package reads
	BadIdentity  Reason = "identity"   // the signing key, or who a certificate says signed, is none of the policy's
	BadSignature Reason = "signature"  // the envelope's signature does not verify
	NotLogged    Reason = "not-logged" // the bundle has no log entry
	BadLog       Reason = "log"        // the entry is of another log, or its checkpoint is not signed by the log
	BadWitness   Reason = "witness"    // a checkpoint is not cosigned as the policy wants it
	BadInclusion Reason = "inclusion"  // the entry is not what was signed, or not in the tree
	LogFork      Reason = "log-fork"   // the log signed two trees of which neither contains the other
	LogStale     Reason = "log-stale"  // the log as it stands has fewer leaves than were seen
	NoProof      Reason = "no-proof"   // the log gives no consistency proof
	BadStatement Reason = "statement"  // the payload is no statement of ours, or contradicts itself
	BadArtifact  Reason = "artifact"   // a file at hand is not the one that was released
	BadName      Reason = "name"       // it is not the release that was asked for
	PolicyEmpty  Reason = "policy"     // the policy trusts nobody
	Expired      Reason = "expired"    // the release's or the signer's time is over
	NotYetValid  Reason = "not-yet"    // the release's or the signer's time has not begun
	Revoked      Reason = "revoked"    // a channel statement takes the release back; beats every other reason it can
	Rollback     Reason = "rollback"   // something newer is known, of the release or of the channel statement
	BadChannel   Reason = "channel"    // the channel statement that the policy wants is absent or of something else

	TooFewRebuilders Reason = "rebuilders" // fewer named rebuilders reproduced the release than the policy needs
	Mismatch         Reason = "mismatch"   // a named rebuilder got other bytes
	NoImage          Reason = "image"      // the statement names no image in registries, which the policy wants
	OtherWires       Reason = "wires"      // the enclave is reached by other protocols, too, which the policy refuses
)

// Policy reports whether r is the policy's no rather than failed cryptography.
func (r Reason) Policy() bool {
	switch r {
	case PolicyEmpty, Expired, NotYetValid, Revoked, Rollback, BadChannel, TooFewRebuilders, Mismatch, NoImage, OtherWires:
		return true
	}
	return false
}

// An Error is a refusal.
type Error struct {
	Reason   Reason
	Err      error
	Evidence []string // for LogFork: the two signed checkpoints
	Part     int      // which of the file's bundles is refused, from 0; 0 too when it is the file or the whole
}

// Error begins with the reason, once.
func (e *Error) Error() string {
	prefix := string(e.Reason) + ": "
	return prefix + strings.TrimPrefix(e.Err.Error(), prefix)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Err: fmt.Errorf(format, args...)}
}
