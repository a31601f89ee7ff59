package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// further is what stands in a file after the release's bundle, verified part by part.
type further struct {
	channel     *channelResult   // what is current; nil: none at hand
	revocations []*channelResult // by the policy's revocation keys; only their revocations count
	rebuilds    []*rebuildResult
	now         time.Time
}

// verifyFurther checks every further part; its payload says which kind it is, and that is believed only once
// the part is verified as one.
func (r *Result) verifyFurther(parts [][]byte, p *Policy, now time.Time) (*further, *Error) {
	f := &further{now: now}
	for i, data := range parts {
		if refusal := r.verifyOneMore(f, data, p); refusal != nil {
			refusal.Part = i + 1
			return nil, refusal
		}
	}
	return f, nil
}

// verifyOneMore adds one bundle to f.
func (r *Result) verifyOneMore(f *further, data []byte, p *Policy) (refusal *Error) {
	b, err := ParseBundle(data)
	if err != nil {
		return &Error{Reason: BadBundle, Err: fmt.Errorf("after the release: %w", err)}
	}
	switch typ := predicateType(b.Envelope.Payload); {
	case typ == RebuildType:
		one, refusal := r.verifyRebuild(b, p)
		if refusal == nil && one != nil {
			f.rebuilds = append(f.rebuilds, one)
		}
		return refusal
	case typ == ChannelType && p.Revoker(b):
		one, refusal := r.verifyChannel(b, p, "revocation", p.Revokers, &p.RevokerIdentities)
		if refusal == nil {
			f.revocations = append(f.revocations, one)
		}
		return refusal
	case f.channel != nil:
		return &Error{Reason: BadBundle, Err: errors.New("bundle: two channel statements beside one release")}
	}
	// A channel statement, or refused as none.
	keys, ids := p.channelSigners()
	f.channel, refusal = r.verifyChannel(b, p, "channel", keys, ids)
	return refusal
}

func predicateType(payload []byte) string {
	var head struct {
		PredicateType string `json:"predicateType"`
	}
	if json.Unmarshal(payload, &head) != nil {
		return ""
	}
	return head.PredicateType
}

// Revoker reports whether b says that a revocation key signed it, or was signed by a revocation identity, in its time
// or not.
func (p *Policy) Revoker(b *Bundle) bool {
	if b.Certificate == nil || len(p.RevokerIdentities.List) == 0 {
		return byHint(p.Revokers, b.Hint)
	}
	_, refusal := new(Result).verifyIdentity(b, &p.RevokerIdentities)
	return refusal == nil || refusal.Reason == Expired || refusal.Reason == NotYetValid
}

func byHint(list []Signer, hint string) bool {
	for _, s := range list {
		if s.Key.Hint() == hint {
			return true
		}
	}
	return false
}

// revoked looks for the digests, of statements and of keys, among what is remembered as revoked and what the
// parts revoke.
func (f *further) revoked(p *Policy, digests ...Digest) (Digest, string, bool) {
	for _, d := range digests {
		if why, ok := p.Memory.Revoked[d]; ok {
			return d, fmt.Sprintf("was seen revoked before: %q", why), true
		}
		for _, c := range f.statements() {
			if rev, ok := c.Predicate.revoked(d); ok {
				return d, fmt.Sprintf("is revoked since %s: %q", rev.Since.Format(time.RFC3339), rev.Reason), true
			}
		}
	}
	return Digest{}, "", false
}

func (f *further) statements() []*channelResult {
	if f.channel == nil {
		return f.revocations
	}
	return append([]*channelResult{f.channel}, f.revocations...)
}

// revoking are the statements whose revocations are remembered: not those of a channel's key that others revoked, since
// whoever stole it would revoke for ever.
func (f *further) revoking(p *Policy) (out []*Channel) {
	for _, c := range f.revocations {
		out = append(out, c.Channel)
	}
	if f.channel != nil {
		others := &further{revocations: f.revocations}
		if _, _, ok := others.revoked(p, f.channel.payload, f.channel.by.Key.ID()); !ok {
			out = append(out, f.channel.Channel)
		}
	}
	return out
}

// verifyRevoked wants neither the release nor the key that signed it revoked, nor the channel statement or its
// key. A revocation in a statement counts at once, however old the statement is: the signer's word was given and
// logged, and is never taken back.
func (r *Result) verifyRevoked(f *further, p *Policy) *Error {
	r.Revoking = f.revoking(p)
	if d, why, ok := f.revoked(p, r.Payload); ok {
		return refuse(Revoked, "statement %s %s", d, why)
	}
	if d, why, ok := f.revoked(p, r.Signer.ID()); ok {
		return refuse(Revoked, "the signer's key %s %s", d, why)
	}
	if f.channel != nil {
		if d, why, ok := f.revoked(p, f.channel.payload, f.channel.by.Key.ID()); ok {
			return refuse(Revoked, "channel statement: its digest or its signer's key, %s, %s", d, why)
		}
	}
	for _, c := range f.revocations {
		r.Revocations = append(r.Revocations, c.Channel)
	}
	switch {
	case len(p.Revokers)+len(p.RevokerIdentities.List) == 0:
	case len(f.revocations) == 0:
		r.unchecked("revocations", "no statement of a revocation key is at hand")
	default:
		r.ok("revocations", "neither release nor keys", fmt.Sprintf("%d statements of revocation keys", len(f.revocations)), "revocation statement")
	}
	return nil
}
