package release

import (
	"errors"
	"fmt"
)

// A RebuilderPolicy says who else must have built a release and come to the same bytes. The zero value asks for
// nobody; every Result then says so.
type RebuilderPolicy struct {
	Need       int            // of Keys and Identities; 0: none is needed, but a mismatch still counts
	Keys       []Signer       // who counts: named here, and nobody who signs releases or channel statements
	Identities IdentityPolicy // who counts too, each rule one signer, by certificates
	Logs       []LogPolicy    // further logs in which their statements may be; that of the releases is always one
}

// named is how many rebuilders the policy names.
func (rp *RebuilderPolicy) named() int { return len(rp.Keys) + len(rp.Identities.List) }

// check says what is wrong with the policy; others are the keys that cannot rebuild for themselves.
func (rp *RebuilderPolicy) check(others ...[]Signer) error {
	switch {
	case rp.Need < 0 || rp.Need > rp.named():
		return fmt.Errorf("policy: needs %d of %d rebuilders", rp.Need, rp.named())
	case rp.named() == 0 && len(rp.Logs) != 0:
		return errors.New("policy: names logs of rebuilders, but no rebuilder")
	}
	if err := checkSigners(rp.Keys, "rebuilder"); err != nil {
		return err
	}
	for _, k := range rp.Keys {
		for _, list := range others {
			if hasKey(list, k.Key) {
				return fmt.Errorf("policy: rebuilder %s signs releases, channels or revocations too: who says that it can be rebuilt must be somebody else", k.Key.ID())
			}
		}
	}
	for i, l := range rp.Logs {
		if l.Key.IsZero() || l.Unwitnessed != l.Quorum.IsZero() {
			return fmt.Errorf("policy: log %d of the rebuilders: wants a key and a word on witnesses", i+1)
		}
		if l.MaxAge != 0 {
			return fmt.Errorf("policy: log %d of the rebuilders: an age of cosignatures is weighed for the releases' log alone", i+1)
		}
	}
	return nil
}

func hasKey(list []Signer, k PublicKey) bool {
	for _, s := range list {
		if s.Key.ID() == k.ID() {
			return true
		}
	}
	return false
}

// A rebuildResult is a rebuild statement of a named rebuilder whose signature, entry and form hold.
type rebuildResult struct {
	*Rebuild
	by      Signer
	cert    *Certified // nil: by a key
	payload Digest
	index   int64
}

// verifyRebuild checks the bundle of a rebuild statement as a release's is checked, against the log that it
// names. One by somebody whom the policy does not name is left aside, and said: it proves nothing here.
func (r *Result) verifyRebuild(b *Bundle, p *Policy) (*rebuildResult, *Error) {
	rp := &p.Rebuilders
	sub := new(Result)
	by, refusal := sub.verifySignature(b, rp.Keys, &rp.Identities)
	if refusal != nil && b.Certificate != nil && refusal.Reason != BadSignature {
		r.unchecked("rebuild", fmt.Sprintf("a statement by a certificate does not count: %v", refusal.Err))
		return nil, nil
	}
	if refusal != nil && refusal.Reason == BadIdentity {
		r.unchecked("rebuild", fmt.Sprintf("a statement by key %q, which the policy does not name, does not count", b.Hint))
		return nil, nil
	}
	log := &p.Log
	if b.EntryIn(p.Log.Key.ID()) == nil {
		for i := range rp.Logs {
			if b.EntryIn(rp.Logs[i].Key.ID()) != nil {
				log = &rp.Logs[i]
			}
		}
	}
	if refusal == nil {
		refusal = sub.verifyEntry(b, log)
	}
	for _, c := range sub.Checks {
		c.Name = "rebuild " + c.Name
		r.Checks = append(r.Checks, c)
	}
	if refusal != nil {
		return nil, &Error{Reason: refusal.Reason, Err: fmt.Errorf("rebuild statement: %w", refusal.Err), Evidence: refusal.Evidence}
	}
	s, err := ParseRebuild(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{Reason: BadStatement, Err: err}
	}
	if log == &p.Log { // what is remembered and asked for consistency is the releases' log
		r.Trees = append(r.Trees, sub.Trees...)
		r.cosigned(sub.Cosigned)
	}
	return &rebuildResult{s, by, sub.Identity, sub.Payload, sub.Index}, nil
}

// verifyRebuilders counts the named rebuilders who came to the same bytes. One who came to others is enough to
// refuse: it takes a person to find out who is wrong.
func (r *Result) verifyRebuilders(s *Statement, f *further, p *Policy) *Error {
	rp := &p.Rebuilders
	if rp.named() == 0 {
		r.unchecked("rebuilders", "the policy names none: that the bytes come from the sources is the signer's word alone")
		return nil
	}
	counted := map[Digest]bool{}
	for _, b := range f.rebuilds {
		id, what := b.by.Key.ID(), &b.Predicate
		about := what.Release.Statement == r.Payload || b.covers(s)
		if about && what.Result == Differs { // not even a revocation silences it: the maintainer could sign one
			return refuse(Mismatch, "rebuilder %s built %s %s again and got other bytes: %s, and %d differences in all", id,
				what.Release.Name, what.Release.Version, what.Differences[0].Name, len(what.Differences))
		}
		why := fmt.Sprintf("is about another release: %s %s", what.Release.Name, what.Release.Version)
		if about {
			why = r.discounted(s, b, f, p)
		}
		if why != "" {
			r.unchecked("rebuild", fmt.Sprintf("the statement of rebuilder %s does not count: %s", id, why))
			continue
		}
		if !counted[id] {
			counted[id] = true
			r.Rebuilders = append(r.Rebuilders, id)
			r.ok("rebuild", "the subjects of the release", fmt.Sprintf("reproduced by %s with tally %s, index %d", id, short(what.Tally.Commit), b.index), "rebuild statement")
		}
	}
	if len(counted) < rp.Need {
		return refuse(TooFewRebuilders, "%d of %d named rebuilders reproduced the release, the policy needs %d", len(counted), rp.named(), rp.Need)
	}
	if rp.Need == 0 {
		r.unchecked("rebuilders", fmt.Sprintf("the policy needs none; %d of %d reproduced the release", len(counted), rp.named()))
	} else {
		r.ok("rebuilders", fmt.Sprintf("%d of %d", rp.Need, rp.named()), fmt.Sprintf("%d reproduced the release", len(counted)), "policy")
	}
	r.unchecked("mismatches", "a logged mismatch that was left out here is not seen; a monitor that reads every leaf sees it")
	return nil
}

// discounted says why the statement that a rebuilder reproduced s does not count, or nothing.
func (r *Result) discounted(s *Statement, b *rebuildResult, f *further, p *Policy) string {
	id := b.by.Key.ID()
	if d, _, ok := f.revoked(p, b.payload, id); ok {
		return "is revoked, or its key is, as " + d.String()
	}
	switch {
	case id == r.Signer.ID():
		return "it signed the release itself"
	case b.cert != nil && p.Identities.covers(b.cert):
		return "it may sign releases itself"
	case !b.covers(s):
		return "has other subjects than the release"
	}
	if e := within("the rebuilder", b.by.NotBefore, b.by.NotAfter, f.now); e != nil {
		return e.Err.Error()
	}
	return ""
}

func short(commit string) string { return commit[:min(12, len(commit))] }
