package release

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxNamed bounds how many signers a channel statement names.
const maxNamed = 64

// A NamedSigner is a key that a channel statement lets sign releases, beside those that the policy names. So keys
// change without a change of every policy: whoever signs the channel stands behind the new key as for each release
// that the channel calls current, in the open and only as long as the statement is the one in force.
type NamedSigner struct {
	Key       string     `json:"key"` // SubjectPublicKeyInfo, DER in standard base64
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
}

// NameSigner makes the form of s that a channel statement holds.
func NameSigner(s Signer) NamedSigner {
	n := NamedSigner{Key: base64.StdEncoding.EncodeToString(s.Key.der)}
	for _, t := range []struct {
		from time.Time
		to   **time.Time
	}{{s.NotBefore, &n.NotBefore}, {s.NotAfter, &n.NotAfter}} {
		if !t.from.IsZero() {
			at := t.from.UTC().Truncate(time.Second)
			*t.to = &at
		}
	}
	return n
}

// Signer reads the key and its time.
func (n NamedSigner) Signer() (Signer, error) {
	var der base64Bytes
	if err := der.UnmarshalText([]byte(n.Key)); err != nil {
		return Signer{}, fmt.Errorf("signer's key: %w", err)
	}
	k, err := ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		return Signer{}, err
	}
	s := Signer{Key: k}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{n.NotBefore, &s.NotBefore}, {n.NotAfter, &s.NotAfter}} {
		if t.from == nil {
			continue
		}
		if !wholeUTC(*t.from) {
			return Signer{}, errors.New("signer's time: want UTC, in whole seconds")
		}
		*t.to = *t.from
	}
	return s, nil
}

// NamedSigners are the keys that c names, in the order of their IDs.
func (p *ChannelPredicate) NamedSigners() ([]Signer, error) {
	if len(p.Signers) > maxNamed {
		return nil, fmt.Errorf("%d signers, want at most %d", len(p.Signers), maxNamed)
	}
	var list []Signer
	for i, n := range p.Signers {
		s, err := n.Signer()
		if err != nil {
			return nil, err
		}
		if i > 0 && !less(list[i-1].Key.ID(), s.Key.ID()) {
			return nil, fmt.Errorf("signer %s: want keys sorted by their IDs, each once", s.Key.ID())
		}
		list = append(list, s)
	}
	return list, checkSigners(list, "named signer")
}

// sortNamed brings signers into the one order; one that cannot be read is refused later.
func sortNamed(list []NamedSigner) []NamedSigner {
	id := func(n NamedSigner) []byte {
		s, err := n.Signer()
		if err != nil {
			return nil
		}
		d := s.Key.ID()
		return d[:]
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b NamedSigner) int { return slices.Compare(id(a), id(b)) })
	return list
}

// releaseSigners are the keys that may have signed the release: the policy's, or else those that a channel statement
// beside it names. Of that only the signature is verified here; nothing is accepted before verifyFurther and
// verifyFresh have verified all of the same statement. A policy that wants no channel takes no such word.
func (r *Result) releaseSigners(b *Bundle, parts [][]byte, p *Policy) []Signer {
	if byHint(p.Signers, b.Hint) || p.Channel.Name == "" {
		return p.Signers
	}
	by, ids := p.channelSigners()
	for _, data := range parts {
		c, err := ParseBundle(data)
		if err != nil || !IsChannel(c.Envelope.Payload) || p.Revoker(c) {
			continue
		}
		if _, refusal := new(Result).verifySignature(c, by, ids); refusal != nil {
			continue
		}
		s, err := ParseChannel(c.Envelope.Payload)
		if err != nil {
			continue
		}
		named, err := s.Predicate.NamedSigners()
		if err == nil && byHint(named, b.Hint) {
			r.ok("named signer", "a key that the channel statement names", b.Hint, "channel statement")
			return named
		}
	}
	return p.Signers
}
