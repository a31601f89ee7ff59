package release

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A SeenTree is a tree of the log that the verifier remembers, with the signed checkpoint that committed the
// log to it: two such notes that do not agree are what convicts a log.
type SeenTree struct {
	Tree   tlog.Tree
	Note   string // C2SP tlog-checkpoint
	Proved bool   // it was a prefix of a later tree that is remembered too
}

// A LogView is the log as it stands now, which a verifier that can reach it holds everything against.
type LogView struct {
	Checkpoint []byte // C2SP tlog-checkpoint

	// Prove returns the consistency proof (RFC 6962) from the tree of the first n leaves to the
	// checkpoint's. It is not believed but checked.
	Prove func(n int64) (tlog.TreeProof, error)
}

// verifySeen compares with remembered trees of the same size. Another size says nothing by itself: that takes
// a consistency proof.
func (r *Result) verifySeen(tree SeenTree, seen []SeenTree) *Error {
	known := false
	for _, t := range seen {
		if t.Tree.N != tree.Tree.N {
			continue
		}
		if t.Tree.Hash != tree.Tree.Hash {
			return fork(t, tree, "the log signed two trees of %d leaves: root %s here, %s remembered", tree.Tree.N, tree.Tree.Hash, t.Tree.Hash)
		}
		known = true
	}
	if known {
		r.ok("log state", "as remembered", fmt.Sprintf("size %d", tree.Tree.N), "state")
	} else {
		r.unchecked("log state", "no tree of this size is remembered")
	}
	r.Trees = append(r.Trees, tree)
	return nil
}

// verifyAgree wants the trees that the bundles showed to be one where they have one size: that takes no log to ask.
func (r *Result) verifyAgree() *Error {
	for i, t := range r.Trees {
		for _, o := range r.Trees[:i] {
			if t.Tree.N == o.Tree.N && t.Tree.Hash != o.Tree.Hash {
				return fork(o, t, "the log signed two trees of %d leaves: roots %s and %s in one file", t.Tree.N, o.Tree.Hash, t.Tree.Hash)
			}
		}
	}
	return nil
}

// verifyView wants every tree that the bundles showed, and every remembered one that was not proved before,
// to be a prefix of the log as it stands. Then they are prefixes of each other.
func (r *Result) verifyView(p *LogPolicy) *Error {
	if refusal := r.verifyAgree(); refusal != nil {
		return refusal
	}
	v := p.View
	if v == nil {
		r.unchecked("log consistency", "the log was not asked; a longer tree that forgets an older one would pass")
		return nil
	}
	tree, err := p.Key.OpenCheckpoint(v.Checkpoint)
	if err != nil {
		return &Error{Reason: BadLog, Err: fmt.Errorf("the log's latest: %w", err)}
	}
	if refusal := r.verifyWitnesses(string(v.Checkpoint), p); refusal != nil {
		refusal.Err = fmt.Errorf("the log's latest: %w", refusal.Err)
		return refusal
	}
	head := SeenTree{Tree: tree, Note: string(v.Checkpoint)}
	for _, t := range append(unproved(p.Seen), r.Trees...) {
		if refusal := isPrefix(t, head, v.Prove); refusal != nil {
			return refusal
		}
	}
	r.Proved = true
	r.Trees = append(r.Trees, head)
	r.ok("log consistency", "every tree seen is a prefix of the log's latest", fmt.Sprintf("size %d, root %s", tree.N, tree.Hash), "log")
	return nil
}

// VerifyLog checks the log as it stands, p.View: its checkpoint is signed, cosigned as p says, and every tree of
// p.Seen is a prefix of it. That is what a monitor asks; the last of the Result's Trees is the checkpoint's. A
// refusal is an *Error; with Expired the Result is complete.
func VerifyLog(p *LogPolicy, now time.Time) (*Result, error) {
	r := new(Result)
	if p.Unwitnessed != p.Quorum.IsZero() {
		return r, refuse(PolicyEmpty, "the policy says nothing about witnesses of the log")
	}
	if p.View == nil {
		return r, refuse(BadLog, "the log was not asked")
	}
	if refusal := r.verifyView(p); refusal != nil {
		return r, refusal
	}
	if refusal := r.verifyCosigned(p, now); refusal != nil {
		return r, refusal
	}
	return r, nil
}

// VerifyLogged checks the signature of a bundle by one of the signers or, unless ids is nil, by one of those
// identities, and its log entry: everything that does not depend on what the statement says. A refusal is an *Error.
func VerifyLogged(b *Bundle, signers []Signer, ids *IdentityPolicy, p *LogPolicy) (*Result, error) {
	r := new(Result)
	if _, refusal := r.verifySignature(b, signers, ids); refusal != nil {
		return r, refusal
	}
	if refusal := r.verifyEntry(b, p); refusal != nil {
		return r, refusal
	}
	return r, nil
}

// Contains checks that a tree is a prefix of the log as it stands. A refusal is an *Error.
func (v *LogView) Contains(t SeenTree, key LogKey) error {
	tree, err := key.OpenCheckpoint(v.Checkpoint)
	if err != nil {
		return &Error{Reason: BadLog, Err: err}
	}
	if refusal := isPrefix(t, SeenTree{Tree: tree, Note: string(v.Checkpoint)}, v.Prove); refusal != nil {
		return refusal
	}
	return nil
}

// unproved are the trees that no later remembered tree contains: those never proved and the largest.
func unproved(seen []SeenTree) []SeenTree {
	var out []SeenTree
	largest := -1
	for i, t := range seen {
		if !t.Proved {
			out = append(out, t)
		} else if largest < 0 || t.Tree.N > seen[largest].Tree.N {
			largest = i
		}
	}
	if largest >= 0 {
		out = append(out, seen[largest])
	}
	return out
}

// isPrefix checks that t is a prefix of head.
func isPrefix(t, head SeenTree, prove func(int64) (tlog.TreeProof, error)) *Error {
	switch {
	case t.Tree.N > head.Tree.N:
		return refuse(LogStale, "a tree of %d leaves is known, the log's latest has %d: not the whole log, or rolled back", t.Tree.N, head.Tree.N)
	case t.Tree.N == head.Tree.N && t.Tree.Hash != head.Tree.Hash:
		return fork(t, head, "the log signed two trees of %d leaves: root %s and %s", t.Tree.N, t.Tree.Hash, head.Tree.Hash)
	case t.Tree.N == head.Tree.N || t.Tree.N == 0:
		return nil
	}
	proof, err := prove(t.Tree.N)
	if err != nil {
		return refuse(NoProof, "no consistency proof from %d to %d leaves: %w", t.Tree.N, head.Tree.N, err)
	}
	if err := tlog.CheckTree(proof, head.Tree.N, head.Tree.Hash, t.Tree.N, t.Tree.Hash); err != nil {
		return fork(t, head, "the tree of %d leaves with root %s is not a prefix of the log's latest of %d: %w", t.Tree.N, t.Tree.Hash, head.Tree.N, err)
	}
	return nil
}

// fork refuses with the two notes as evidence.
func fork(a, b SeenTree, format string, args ...any) *Error {
	e := refuse(LogFork, format, args...)
	e.Evidence = []string{a.Note, b.Note}
	return e
}

// verifyWitnesses wants a checkpoint cosigned as the policy says.
func (r *Result) verifyWitnesses(checkpoint string, p *LogPolicy) *Error {
	if p.Unwitnessed {
		return nil // verifyCosigned says so
	}
	at, err := p.Quorum.Met([]byte(checkpoint))
	if err != nil {
		return &Error{Reason: BadWitness, Err: err}
	}
	r.ok("witnesses", p.Quorum.String(), "since "+at.UTC().Format(time.RFC3339), "policy")
	r.cosigned(at)
	return nil
}

func (r *Result) cosigned(at time.Time) {
	if at.After(r.Cosigned) {
		r.Cosigned = at
	}
}

// verifyCosigned weighs the time of the newest cosignatures: who withholds newer checkpoints from the verifier
// cannot make the old ones younger.
func (r *Result) verifyCosigned(p *LogPolicy, now time.Time) *Error {
	age := now.Sub(r.Cosigned)
	switch {
	case p.Unwitnessed:
		r.unchecked("witnesses", "the policy asks for none: the log's owner could show you another log")
	case age < -Skew:
		return refuse(BadWitness, "the newest cosignatures are of %s, which is not yet", r.Cosigned.UTC().Format(time.RFC3339))
	case p.MaxAge == 0:
		r.unchecked("cosignature age", "the policy names no limit: newer checkpoints may be withheld")
	case age > p.MaxAge:
		return refuse(Expired, "the newest cosignatures are %s old, the policy allows %s", age.Truncate(time.Second), p.MaxAge)
	default:
		r.ok("cosignature age", "at most "+p.MaxAge.String(), age.Truncate(time.Second).String(), "policy")
	}
	return nil
}
