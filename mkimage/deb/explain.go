package deb

import (
	"cmp"
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

// A want is a dependency that somebody has.
type want struct {
	alts []Relation
	by   string // name of a package
}

// blame says why something is broken: first among what is needed, then among all.
func (s *state) blame() error {
	all := s.wanted()
	needed := slices.DeleteFunc(slices.Clone(all), func(n *name) bool { return s.at(n).garbage })
	if err := cmp.Or(s.check(needed), s.check(all)); err != nil {
		return err
	}
	return errors.New("the packages wanted by the spec do not go together")
}

// check says what is wrong with a set of packages: nothing, unless one lacks something.
func (s *state) check(all []*name) error {
	slices.SortFunc(all, func(a, b *name) int { return cmp.Compare(a.text, b.text) })
	set := newSet(s, all)
	for _, n := range all {
		for _, g := range s.of(s.at(n).there) {
			if !g.negative() || !set.violated(g, n) {
				continue
			}
			for _, other := range all {
				if p, q := s.at(n).there.Package, s.at(other).there.Package; n != other && excludes(p, q) != "" {
					return conflict(p, q)
				}
			}
			return &UnmetError{By: n.text, text: fmt.Sprintf("package %s conflicts with %s", n.text, joinAlts(relations(g)))}
		}
	}
	for _, n := range all {
		var first error
		for _, g := range s.of(s.at(n).there) {
			if g.negative() || set.satisfied(g) {
				continue
			}
			alts := relations(g)
			err := s.missing(want{alts, n.text})
			if !s.possible(alts) {
				return err
			}
			first = cmp.Or(first, err)
		}
		if first != nil {
			return first
		}
	}
	return nil
}

// A set is a set of packages and what they provide, as they are, not as apt remembers them.
type set map[*name][]provider

func newSet(s *state, all []*name) set {
	has := set{}
	for _, n := range all {
		v := s.at(n).there
		has[n] = append(has[n], provider{version: v, as: v.Version})
		for _, p := range v.provides {
			if !slices.ContainsFunc(has[p], func(q provider) bool { return q.version == v && p != n }) {
				for _, q := range p.providers {
					if q.version == v {
						has[p] = append(has[p], q)
					}
				}
			}
		}
	}
	return has
}

func (has set) satisfied(g group) bool { return has.matches(g, nil) }

func (has set) violated(g group, by *name) bool { return has.matches(g, by) }

func (has set) matches(g group, except *name) bool {
	return slices.ContainsFunc(g.alts, func(a alternative) bool {
		return slices.ContainsFunc(has[a.to], func(p provider) bool { return p.of != except && a.satisfiedBy(p.as) })
	})
}

func relations(g group) []Relation {
	all := make([]Relation, len(g.alts))
	for i, a := range g.alts {
		all[i] = a.Relation
	}
	return all
}

// satisfying lists the names whose candidates satisfied one of alts to begin with.
func (s *state) satisfying(alts []Relation) []*name {
	var all []*name
	for _, a := range s.alternatives(alts) {
		if c := a.to.candidate; c != nil && a.satisfiedBy(c.Version) {
			all = append(all, a.to)
		}
		for _, p := range a.to.providers {
			if p.of.candidate == p.version && a.satisfiedBy(p.as) {
				all = append(all, p.of)
			}
		}
	}
	return all
}

// possible says whether some candidate for alts was never even tried: then another dependency is to blame.
func (s *state) possible(alts []Relation) bool {
	return slices.ContainsFunc(s.satisfying(alts), func(n *name) bool { return s.at(n).why == nil })
}

// missing says why nothing satisfies w: a candidate that was given up, or one of the wrong version, is named.
func (s *state) missing(w want) error {
	e := &UnmetError{By: w.by, Alts: w.alts, text: fmt.Sprintf("package %s, wanted by package %s", joinAlts(w.alts), w.by)}
	for _, n := range s.satisfying(w.alts) {
		if e.why = s.at(n).why; e.why != nil {
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
