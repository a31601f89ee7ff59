package deb

import (
	"fmt"
	"strings"
)

// check says what is wrong with a set of packages: nothing, unless a protected one lacks something.
func (s *state) check(ps []*Package) error {
	for _, p := range ps {
		for _, alts := range p.Conflicts {
			if !s.violated(p, alts) {
				continue
			}
			for _, q := range ps {
				if err := conflict(p, q); p != q && err != nil {
					return err
				}
			}
		}
	}
	for _, p := range ps {
		for _, alts := range p.Depends {
			if !s.satisfied(alts) {
				return s.missing(want{alts, "package " + p.Name})
			}
		}
	}
	return nil
}

// missing says why nothing satisfies w: a candidate that was given up, or one of the wrong version, is named.
func (s *state) missing(w want) error {
	for _, a := range w.alts {
		c, ok := s.byName[a.Name]
		if !ok || !a.satisfiedBy(c.Version) {
			continue
		}
		if why := s.at(a.Name).why; why != nil {
			return fmt.Errorf("package %s, wanted by %s: %w", joinAlts(w.alts), w.by, why)
		}
	}
	for _, a := range w.alts {
		for _, v := range s.provides[a.Name] {
			if why := s.at(v.p.Name).why; why != nil && a.satisfiedBy(v.version) {
				return fmt.Errorf("package %s, wanted by %s: %w", joinAlts(w.alts), w.by, why)
			}
		}
		if c, ok := s.byName[a.Name]; ok {
			return fmt.Errorf("package %s, wanted by %s: the candidate is %s%s, of priority %d", joinAlts(w.alts), w.by, c.Version, ofSuite(c.Package), c.pin)
		}
	}
	return fmt.Errorf("package %s, wanted by %s, is in none of the suites", joinAlts(w.alts), w.by)
}

func ofSuite(p *Package) string {
	if p.Suite == "" {
		return ""
	}
	return " of suite " + p.Suite
}

func joinAlts(alts []Relation) string {
	var parts []string
	for _, a := range alts {
		parts = append(parts, a.String())
	}
	return strings.Join(parts, " | ")
}

// conflict says by what p excludes q, or nil.
func conflict(p, q *Package) error {
	if name := excludes(p, q); name != "" {
		return fmt.Errorf("package %s conflicts with package %s%s", p.Name, q.Name, name)
	}
	return nil
}

// excludes says by what q is in conflict with p: its version, or what it provides; "" is by nothing.
func excludes(p, q *Package) string {
	for _, alts := range p.Conflicts {
		for _, a := range alts {
			if a.Name == q.Name && a.satisfiedBy(q.Version) {
				return " " + string(q.Version)
			}
			for _, v := range q.Provides {
				if v.Name == a.Name && a.satisfiedBy(v.Version) {
					return ", which provides " + a.Name
				}
			}
		}
	}
	return ""
}
