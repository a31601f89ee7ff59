package deb

import (
	"fmt"
	"strings"
)

// A Relation is one alternative of a dependency: a package name and, possibly, a version bound.
type Relation struct {
	Name    string
	Op      string  // "", "<<", "<=", "=", ">=", ">>"
	Version Version // "" when Op is

	arch string // the architecture after the name, if that was "any", "native" or another than "all"
}

func (r Relation) String() string {
	if r.Op == "" {
		return r.Name
	}
	return fmt.Sprintf("%s (%s %s)", r.Name, r.Op, r.Version)
}

// ParseRelations reads a dependency field: conjunctions of alternatives (Debian Policy 7.1).
// Architecture qualifiers ":any" and ":native" are dropped; restrictions in brackets do not occur in
// binary packages and are errors.
func ParseRelations(s string) ([][]Relation, error) {
	var all [][]Relation
	for _, group := range strings.Split(s, ",") {
		if strings.TrimSpace(group) == "" {
			continue
		}
		var alts []Relation
		for _, alt := range strings.Split(group, "|") {
			r, err := parseRelation(strings.TrimSpace(alt))
			if err != nil {
				return nil, err
			}
			alts = append(alts, r)
		}
		all = append(all, alts)
	}
	return all, nil
}

func parseRelation(s string) (Relation, error) {
	name, bound, bounded := strings.Cut(s, "(")
	r := Relation{Name: strings.TrimSpace(name)}
	if base, arch, ok := strings.Cut(r.Name, ":"); ok {
		switch arch {
		case "any", "native", "amd64":
			r.Name, r.arch = base, arch
		case "all":
			r.Name = base
		default:
			r.arch = arch
		}
	}
	base, _, _ := strings.Cut(r.Name, ":") // a package of another architecture: never satisfied here
	if err := checkPackageName(base); err != nil {
		return r, fmt.Errorf("dependency %.80q: %w", s, err)
	}
	if !bounded {
		return r, nil
	}
	bound, ok := strings.CutSuffix(strings.TrimSpace(bound), ")")
	if !ok {
		return r, fmt.Errorf("dependency %.80q: want a closing parenthesis", s)
	}
	bound = strings.TrimSpace(bound)
	for _, op := range []string{"<<", "<=", ">=", ">>", "="} {
		if v, ok := strings.CutPrefix(bound, op); ok {
			version, err := ParseVersion(strings.TrimSpace(v))
			r.Op, r.Version = op, version
			return r, err
		}
	}
	return r, fmt.Errorf("dependency %.80q: want one of << <= = >= >> before the version", s)
}

// checkPackageName wants the form of Debian Policy 5.6.1. Upper case is accepted: virtual packages use it.
func checkPackageName(s string) error {
	if len(s) < 2 || len(s) > 128 {
		return fmt.Errorf("package name %.80q: want 2 to 128 characters", s)
	}
	for i, c := range s {
		if !alnum(c) && (i == 0 || !strings.ContainsRune("+-._", c)) {
			return fmt.Errorf("package name %.80q: character %q is not allowed", s, c)
		}
	}
	return nil
}

// satisfiedBy says whether a package (or a versioned provision) of that version satisfies r.
func (r Relation) satisfiedBy(v Version) bool {
	if r.Op == "" {
		return true
	}
	if v == "" {
		return false // an unversioned provision never satisfies a bound
	}
	c := v.Compare(r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}
