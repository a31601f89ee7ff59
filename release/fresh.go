package release

import (
	"fmt"
	"time"
)

// Skew is how far ahead of the verifier's clock others' clocks may be.
const Skew = 5 * time.Minute

// A channelResult is a channel statement whose signature, entry and form hold.
type channelResult struct {
	*Channel
	by      Signer
	payload Digest
}

// verifyChannel checks the bundle of a channel statement as a release's is checked; what is its name in the
// answer.
func (r *Result) verifyChannel(b *Bundle, p *Policy, what string, signers []Signer, ids *IdentityPolicy) (*channelResult, *Error) {
	sub := new(Result)
	by, refusal := sub.verifySignature(b, signers, ids)
	if refusal == nil {
		refusal = sub.verifyEntry(b, &p.Log)
	}
	for _, c := range sub.Checks {
		c.Name = what + " " + c.Name
		r.Checks = append(r.Checks, c)
	}
	if refusal != nil {
		return nil, &Error{Reason: refusal.Reason, Err: fmt.Errorf("%s statement: %w", what, refusal.Err), Evidence: refusal.Evidence}
	}
	c, err := ParseChannel(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{Reason: BadStatement, Err: err}
	}
	r.Trees = append(r.Trees, sub.Trees...)
	r.cosigned(sub.Cosigned)
	return &channelResult{c, by, sub.Payload}, nil
}

// verifyFresh holds the release against the channel statement and against what is remembered.
func (r *Result) verifyFresh(s *Statement, c *channelResult, p *Policy, now time.Time) (*Channel, *Error) {
	rel := s.Predicate.Release
	if c == nil {
		if p.Channel.Name != "" {
			return nil, refuse(BadChannel, "the policy wants a statement of channel %q, and none is at hand", p.Channel.Name)
		}
		// Without a channel statement the sequence is all there is to go by.
		if high := p.Memory.Releases[rel.Name]; rel.Sequence < high {
			return nil, refuse(Rollback, "%s has sequence %d, and %d was accepted before", rel.Name, rel.Sequence, high)
		}
		r.unchecked("rollback", "no channel statement: a newer release or a revocation may exist")
		return nil, nil
	}
	for _, check := range []func() *Error{
		func() *Error { return c.checkName(rel.Name, p.Channel.Name) },
		func() *Error { return c.checkMark(p.Memory.Channels[c.Key()]) },
		func() *Error { return c.checkAge(p.Channel.MaxAge, now) },
		func() *Error { r.InForce = c.Channel; return c.checkCurrent(rel, r.Payload) },
	} {
		if refusal := check(); refusal != nil {
			return nil, refusal
		}
	}
	q := &c.Predicate
	r.ok("channel", "current in "+c.Key(), fmt.Sprintf("sequence %d, issued %s, valid until %s",
		q.Sequence, q.IssuedAt.Format(time.RFC3339), q.ValidUntil.Format(time.RFC3339)), "channel statement")
	if _, ok := p.Memory.Channels[c.Key()]; ok {
		r.ok("rollback", "not older than remembered", fmt.Sprintf("channel statement %d", q.Sequence), "state")
	} else {
		r.unchecked("rollback", "no earlier statement of this channel is remembered")
	}
	return c.Channel, nil
}

// Key names the channel among others: "NAME@CHANNEL".
func (c *Channel) Key() string { return c.Predicate.Name + "@" + c.Predicate.Channel }

func (c *channelResult) checkName(name, channel string) *Error {
	q := &c.Predicate
	if q.Name != name || channel != "" && q.Channel != channel {
		return refuse(BadChannel, "the channel statement is of %q, want %q", c.Key(), name+"@"+channel)
	}
	return nil
}

func (c *channelResult) checkMark(m Mark) *Error {
	q := &c.Predicate
	switch {
	case q.Sequence < m.Sequence:
		return refuse(Rollback, "channel statement %d, and %d was seen before", q.Sequence, m.Sequence)
	case q.Sequence == m.Sequence && c.payload != m.Payload:
		return refuse(Rollback, "two channel statements have sequence %d: %s here, %s remembered", q.Sequence, c.payload, m.Payload)
	}
	return nil
}

func (c *channelResult) checkAge(most time.Duration, now time.Time) *Error {
	q := &c.Predicate
	if e := within("the signer of the channel statement", c.by.NotBefore, c.by.NotAfter, now); e != nil {
		return e
	}
	if e := within("the channel statement", q.IssuedAt.Add(-Skew), q.ValidUntil, now); e != nil {
		return e
	}
	if age := now.Sub(q.IssuedAt); most > 0 && age > most {
		return refuse(Expired, "the channel statement is %s old, the policy allows %s", age.Truncate(time.Second), most)
	}
	return nil
}

// checkCurrent wants the release among the current ones, as what the channel calls it.
func (c *channelResult) checkCurrent(rel Release, payload Digest) *Error {
	q := &c.Predicate
	if rel.Sequence < q.MinimumSequence {
		return refuse(Rollback, "the release has sequence %d, channel %q wants at least %d", rel.Sequence, c.Key(), q.MinimumSequence)
	}
	if e, ok := q.current(payload); ok {
		if e.Version != rel.Version || e.Sequence != rel.Sequence {
			return refuse(BadChannel, "channel %q calls the release %s, sequence %d; it calls itself %s, sequence %d", c.Key(), e.Version, e.Sequence, rel.Version, rel.Sequence)
		}
		return nil
	}
	if latest, ok := q.Latest(); ok && rel.Sequence < latest.Sequence {
		return refuse(Rollback, "the release is not current in channel %q, where sequence %d is", c.Key(), latest.Sequence)
	}
	return refuse(BadChannel, "the release is not current in channel %q", c.Key())
}
