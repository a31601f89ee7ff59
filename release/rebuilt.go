package release

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

const (
	// RebuildType names the predicate of a rebuild statement. A change of meaning is a new type ending in /v2.
	RebuildType = "tag:tallystick,2026:rebuild/v1"

	// MaxRebuild is the size in bytes above which a rebuild statement is refused unread.
	MaxRebuild = 2 << 20

	// MaxRebuildBundle is what the bundle of one may have.
	MaxRebuildBundle = MaxRebuild/3*4 + 256<<10
)

// The results of a rebuild.
const (
	Reproduced = "reproduced" // every subject again, byte for byte, with the reference values recomputed
	Differs    = "differs"    // something else
)

// A Rebuild is the statement of somebody who built a release again. It has no date: whoever comes to the same
// result with the same tally signs the same bytes. Its subjects are those of the release.
type Rebuild struct {
	Type          string           `json:"_type"`
	Subject       []Subject        `json:"subject"` // sorted by name, each name once
	PredicateType string           `json:"predicateType"`
	Predicate     RebuildPredicate `json:"predicate"`
}

// A RebuildPredicate says what was built from what, and what came out.
type RebuildPredicate struct {
	Release RebuiltRelease `json:"release"`
	Result  string         `json:"result"` // Reproduced or Differs
	Inputs  Inputs         `json:"inputs"` // what it was built from
	Tally   TallyBuild     `json:"tally"`  // what built it

	// Checked are the inputs one by one, sorted by kind, name and version: was the chain to a signed index
	// checked, or only the hash in the lock?
	Checked []CheckedInput `json:"checked"`

	Differences []Difference `json:"differences,omitempty"` // of Differs: sorted by name
}

// A RebuiltRelease is the release that was built again.
type RebuiltRelease struct {
	Statement Digest `json:"statement"` // SHA-256 of its payload
	Name      string `json:"name"`
	Version   string `json:"version"`
	Sequence  uint64 `json:"sequence"`
}

// A TallyBuild is the tally that built the image and computed the reference values.
type TallyBuild struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // 40 or 64 hex digits
}

// A CheckedInput is one input with how it was verified.
type CheckedInput struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	SHA256   Digest `json:"sha256"`
	Verified string `json:"verified"` // index: chain to a signed index; hash: its digest only
}

func (c CheckedInput) key() string {
	return strings.Join([]string{c.Kind, c.Name, c.Version, c.SHA256.String()}, "\x00")
}

// A Difference is one file that did not come out as it was released.
type Difference struct {
	Name   string  `json:"name"`
	Status string  `json:"status"`         // DIFFER, MISSING (not made again) or EXTRA (made, not released)
	Want   *Digest `json:"want,omitempty"` // released
	Got    *Digest `json:"got,omitempty"`  // built again
}

// Marshal returns the one form of s: compact JSON, lists sorted, no trailing newline.
func (s *Rebuild) Marshal() ([]byte, error) {
	c := *s
	c.Subject = append([]Subject{}, s.Subject...)
	sort.Slice(c.Subject, func(i, j int) bool { return c.Subject[i].Name < c.Subject[j].Name })
	p := &c.Predicate
	p.Checked = append([]CheckedInput{}, p.Checked...)
	sort.Slice(p.Checked, func(i, j int) bool { return p.Checked[i].key() < p.Checked[j].key() })
	if p.Differences != nil {
		p.Differences = append([]Difference{}, p.Differences...)
		sort.Slice(p.Differences, func(i, j int) bool { return p.Differences[i].Name < p.Differences[j].Name })
	}
	return rebuilds.marshal(&c)
}

// ParseRebuild reads a rebuild statement, which must be in the form Marshal writes.
func ParseRebuild(data []byte) (*Rebuild, error) {
	s := new(Rebuild)
	if err := rebuilds.parse(data, s); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Rebuild) check() error {
	p := &s.Predicate
	if s.Type != StatementType || s.PredicateType != RebuildType {
		return fmt.Errorf("type %.80q with predicate %.80q, want %q with %q", s.Type, s.PredicateType, StatementType, RebuildType)
	}
	if err := checkSubjectNames(s.Subject); err != nil {
		return err
	}
	for _, name := range []string{Manifest, ReferenceValues} {
		if !slices.ContainsFunc(s.Subject, func(sub Subject) bool { return sub.Name == name }) {
			return fmt.Errorf("no subject %q", name)
		}
	}
	if r := p.Release; r.Name == "" || r.Version == "" || r.Sequence == 0 || !printable(r.Name, 1024) || !printable(r.Version, 1024) {
		return errors.New("release: want a name, a version and a sequence of at least 1")
	}
	if !printable(p.Tally.Version, 1024) || !isCommit(p.Tally.Commit) {
		return fmt.Errorf("tally: commit %.80q: want 40 or 64 lower-case hex digits", p.Tally.Commit)
	}
	for i, c := range p.Checked {
		switch {
		case i > 0 && p.Checked[i-1].key() >= c.key():
			return fmt.Errorf("checked input %.64q: want sorted inputs, each once", c.Name)
		case !printable(c.Kind, 64) || !printable(c.Name, 4096) || !printable(c.Version, 1024) || c.Kind == "" || c.Name == "":
			return fmt.Errorf("checked input %.64q: want a kind and a name of printable bytes", c.Name)
		case c.Verified != "index" && c.Verified != "hash":
			return fmt.Errorf("checked input %q: verified %.32q, want index or hash", c.Name, c.Verified)
		}
	}
	return p.checkResult()
}

func (p *RebuildPredicate) checkResult() error {
	if p.Result != Reproduced && p.Result != Differs {
		return fmt.Errorf("result %.32q, want %s or %s", p.Result, Reproduced, Differs)
	}
	if (p.Result == Differs) != (len(p.Differences) > 0) {
		return fmt.Errorf("result %q with %d differences", p.Result, len(p.Differences))
	}
	for i, d := range p.Differences {
		ok := d.Status == "DIFFER" && d.Want != nil && d.Got != nil && *d.Want != *d.Got ||
			d.Status == "MISSING" && d.Want != nil && d.Got == nil || d.Status == "EXTRA" && d.Want == nil && d.Got != nil
		if !ok || !cleanName(d.Name) || i > 0 && p.Differences[i-1].Name >= d.Name {
			return fmt.Errorf("difference %.128q, status %.16q: want sorted names with the digests that belong to DIFFER, MISSING or EXTRA", d.Name, d.Status)
		}
	}
	return nil
}

func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// covers says that the rebuild is of exactly the files of the release s: every subject, reference values
// included, and no other.
func (b *Rebuild) covers(s *Statement) bool { return slices.Equal(b.Subject, s.Subject) }

// VerifyUnloggedRebuild is VerifyUnlogged for the bundle of a rebuild statement.
func VerifyUnloggedRebuild(b *Bundle, k PublicKey) (*Rebuild, error) {
	if err := VerifyEnvelope(b, k); err != nil {
		return nil, err
	}
	s, err := ParseRebuild(b.Envelope.Payload)
	if err != nil {
		return nil, &Error{Reason: BadStatement, Err: err}
	}
	return s, nil
}
