package release

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"
)

const (
	// ChannelType names the predicate of a channel statement. A change of meaning is a new type ending
	// in /v2.
	ChannelType = "tag:tallystick,2026:release-channel/v1"

	// MaxChannel is the size in bytes above which a channel statement is refused unread.
	MaxChannel = 1 << 20
)

// A Channel is the statement that says which releases of one name are current and which are revoked. A log
// proves that something is there, never that nothing newer is: only a signed, dated list does that. Its
// subjects are the statements it speaks of, by the digest of their payload.
type Channel struct {
	Type          string           `json:"_type"`
	Subject       []Subject        `json:"subject"` // sorted; each is named by its own digest
	PredicateType string           `json:"predicateType"`
	Predicate     ChannelPredicate `json:"predicate"`
}

// A ChannelPredicate is what a channel statement says.
type ChannelPredicate struct {
	Name            string           `json:"name"`            // of the releases
	Channel         string           `json:"channel"`         // such as "stable"
	Sequence        uint64           `json:"sequence"`        // of this statement; grows, at least 1
	MinimumSequence uint64           `json:"minimumSequence"` // releases below it are not to be run
	IssuedAt        time.Time        `json:"issuedAt"`
	ValidUntil      time.Time        `json:"validUntil"`
	Current         []CurrentRelease `json:"current"`           // sorted by statement
	Revoked         []Revocation     `json:"revoked"`           // sorted by statement; for ever
	Signers         []NamedSigner    `json:"signers,omitempty"` // of releases, beside the policy's; sorted by key ID
}

// A CurrentRelease is one that may be run.
type CurrentRelease struct {
	Statement Digest `json:"statement"` // SHA-256 of the payload
	Version   string `json:"version"`
	Sequence  uint64 `json:"sequence"`
}

// A Revocation takes a statement back (a release, or what a rebuilder said), or a key with all that it signed.
type Revocation struct {
	Statement Digest    `json:"statement"`      // SHA-256 of the payload; of a key: PublicKey.ID
	Kind      string    `json:"kind,omitempty"` // RevokedKey, or nothing for a statement
	Reason    string    `json:"reason"`         // for people; may be empty
	Since     time.Time `json:"since"`
}

// RevokedKey is the kind of a revocation of a key.
const RevokedKey = "key"

// NewChannel returns the statement with p in its one order and the subjects that belong to it.
func NewChannel(p ChannelPredicate) *Channel {
	p.Current = append([]CurrentRelease{}, p.Current...)
	p.Revoked = append([]Revocation{}, p.Revoked...)
	sort.Slice(p.Current, func(i, j int) bool { return less(p.Current[i].Statement, p.Current[j].Statement) })
	sort.Slice(p.Revoked, func(i, j int) bool { return less(p.Revoked[i].Statement, p.Revoked[j].Statement) })
	p.Signers = sortNamed(p.Signers)
	return &Channel{Type: StatementType, Subject: p.subjects(), PredicateType: ChannelType, Predicate: p}
}

func less(a, b Digest) bool { return bytes.Compare(a[:], b[:]) < 0 }

// subjects lists every statement that p names.
func (p *ChannelPredicate) subjects() []Subject {
	s := []Subject{}
	add := func(d Digest) { s = append(s, Subject{d.String(), DigestSet{d}}) }
	for _, c := range p.Current {
		add(c.Statement)
	}
	for _, r := range p.Revoked {
		add(r.Statement)
	}
	named, _ := p.NamedSigners() // what cannot be read, check refuses
	for _, s := range named {
		if !slices.ContainsFunc(p.Revoked, func(r Revocation) bool { return r.Statement == s.Key.ID() }) {
			add(s.Key.ID())
		}
	}
	sort.Slice(s, func(i, j int) bool { return s[i].Name < s[j].Name })
	return s
}

// Marshal returns the one form of c: compact JSON, no trailing newline.
func (c *Channel) Marshal() ([]byte, error) { return channels.marshal(c) }

// ParseChannel reads a channel statement, which must be in the form Marshal writes.
func ParseChannel(data []byte) (*Channel, error) {
	c := new(Channel)
	if err := channels.parse(data, c); err != nil {
		return nil, err
	}
	return c, nil
}

// IsChannel reports whether a payload says that it is a channel statement.
func IsChannel(payload []byte) bool { return predicateType(payload) == ChannelType }

// IsRebuild reports whether a payload says that it is a rebuild statement.
func IsRebuild(payload []byte) bool { return predicateType(payload) == RebuildType }

func (c *Channel) check() error {
	p := &c.Predicate
	switch {
	case c.Type != StatementType || c.PredicateType != ChannelType:
		return fmt.Errorf("type %.80q with predicate %.80q, want %q with %q", c.Type, c.PredicateType, StatementType, ChannelType)
	case !ValidLabel(p.Name) || !ValidLabel(p.Channel):
		return fmt.Errorf("name %.80q, channel %.80q: want letters, digits and ._+~- beginning with a letter or digit", p.Name, p.Channel)
	case p.Sequence == 0:
		return errors.New("want a sequence of at least 1")
	case len(p.Current)+len(p.Revoked) == 0:
		return errors.New("names no release")
	case !wholeUTC(p.IssuedAt) || !wholeUTC(p.ValidUntil):
		return errors.New("issuedAt and validUntil: want times in UTC, in whole seconds")
	case !p.ValidUntil.After(p.IssuedAt):
		return errors.New("validUntil: ends before it begins")
	case !slices.Equal(c.Subject, p.subjects()):
		return errors.New("subjects are not the statements that the predicate names")
	}
	if _, err := p.NamedSigners(); err != nil {
		return err
	}
	return p.checkLists()
}

func (p *ChannelPredicate) checkLists() error {
	seen := map[Digest]bool{}
	for i, r := range p.Current {
		switch {
		case i > 0 && !less(p.Current[i-1].Statement, r.Statement):
			return fmt.Errorf("current %s: want sorted statements, each once", r.Statement)
		case r.Sequence < p.MinimumSequence || r.Sequence == 0:
			return fmt.Errorf("current %s: sequence %d is below the minimum of %d", r.Statement, r.Sequence, max(p.MinimumSequence, 1))
		case !printable(r.Version, 1024) || r.Version == "":
			return fmt.Errorf("current %s: version %.64q: want 1 to 1024 printable bytes", r.Statement, r.Version)
		}
		seen[r.Statement] = true
	}
	for i, r := range p.Revoked {
		switch {
		case i > 0 && !less(p.Revoked[i-1].Statement, r.Statement):
			return fmt.Errorf("revoked %s: want sorted statements, each once", r.Statement)
		case seen[r.Statement]:
			return fmt.Errorf("statement %s is both current and revoked", r.Statement)
		case r.Kind != "" && r.Kind != RevokedKey:
			return fmt.Errorf("revoked %s: kind %.32q, want %q or none", r.Statement, r.Kind, RevokedKey)
		case !printable(r.Reason, 1024):
			return fmt.Errorf("revoked %s: reason %.64q: want at most 1024 printable bytes", r.Statement, r.Reason)
		case !wholeUTC(r.Since):
			return fmt.Errorf("revoked %s: since: want a time in UTC, in whole seconds", r.Statement)
		}
	}
	return nil
}

// current returns the entry of a statement.
func (p *ChannelPredicate) current(d Digest) (CurrentRelease, bool) {
	for _, r := range p.Current {
		if r.Statement == d {
			return r, true
		}
	}
	return CurrentRelease{}, false
}

// revoked returns the revocation of a statement.
func (p *ChannelPredicate) revoked(d Digest) (Revocation, bool) {
	for _, r := range p.Revoked {
		if r.Statement == d {
			return r, true
		}
	}
	return Revocation{}, false
}

// Latest returns the current release with the highest sequence.
func (p *ChannelPredicate) Latest() (CurrentRelease, bool) {
	var best CurrentRelease
	for _, r := range p.Current {
		if r.Sequence > best.Sequence {
			best = r
		}
	}
	return best, best.Sequence > 0
}

// ValidLabel reports whether s may name a release or a channel in a published directory: it stands in file
// names and after "@".
func ValidLabel(s string) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= 128 && strings.Contains(alnum, s[:1]) && strings.Trim(s, alnum+"._+~-") == ""
}

func printable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, control)
}

// control reports whether c could make a terminal or a reader show something else than what is signed.
func control(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) }

func wholeUTC(t time.Time) bool {
	return !t.IsZero() && t.Location() == time.UTC && t.Nanosecond() == 0
}
