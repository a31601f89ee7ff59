package deb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An UnmetError says that a package lacks something: a dependency that no candidate satisfies, or the absence
// of a package it conflicts with.
type UnmetError struct {
	By    string     // the package; "" for the spec
	Alts  []Relation // what it wants; nil for a conflict
	Other string     // the package it conflicts with
	why   error      // why nothing satisfies Alts, or nil
	text  string
}

// Error says what is lacking and why, down to the cause; the middle of a long story is left out.
func (e *UnmetError) Error() string {
	parts := []string{e.text}
	for err := e.why; err != nil; {
		next, ok := err.(*UnmetError)
		if !ok {
			parts = append(parts, err.Error())
			break
		}
		parts = append(parts, next.text)
		err = next.why
	}
	if n := len(parts); n > 8 {
		parts = slices.Concat(parts[:4], []string{fmt.Sprintf("(%d more)", n-7)}, parts[n-3:])
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns what made the dependency impossible.
func (e *UnmetError) Unwrap() error { return e.why }

// Root returns the UnmetError at the bottom of err, or nil.
func Root(err error) *UnmetError {
	var last *UnmetError
	for errors.As(err, &last) {
		err = last.why
	}
	return last
}

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
		var first error
		for _, alts := range p.Depends {
			if s.satisfied(alts) {
				continue
			}
			err := s.missing(want{alts, p.Name})
			if !s.possible(alts) {
				return err
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			return first
		}
	}
	return nil
}

// possible says whether some candidate for alts was never even tried: then another dependency is to blame.
func (s *state) possible(alts []Relation) bool {
	return slices.ContainsFunc(s.satisfying(alts), func(name string) bool { return s.at(name).why == nil })
}

// missing says why nothing satisfies w: a candidate that was given up, or one of the wrong version, is named.
func (s *state) missing(w want) error {
	e := &UnmetError{By: w.by, Alts: w.alts, text: fmt.Sprintf("package %s, wanted by package %s", joinAlts(w.alts), w.by)}
	for _, name := range s.satisfying(w.alts) {
		if e.why = s.at(name).why; e.why != nil {
			return e
		}
	}
	for _, a := range w.alts {
		if c, ok := s.byName[a.Name]; ok {
			e.text += fmt.Sprintf(": the candidate is %s%s, of priority %d", c.Version, ofSuite(c.Package), c.pin)
			return e
		}
	}
	e.text += ", is in none of the suites"
	return e
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
		return &UnmetError{By: p.Name, Other: q.Name, text: fmt.Sprintf("package %s conflicts with package %s%s", p.Name, q.Name, name)}
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
