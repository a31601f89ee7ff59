package deb

import (
	"cmp"
	"fmt"
	"slices"
)

// A state is one resolution under way.
//
// Apt works out for every dependency whether it is met, and whether candidates could meet it, only when one
// of the packages that it is about changes. What it gives up it gives up silently, so for a while a dependency
// counts as one that could be met though it cannot. Answers hang on this, so the state remembers what each
// package was at what time, and when each name was last looked at.
type state struct {
	*universe
	st     []*status // by name.id; nil is untouched
	looked []int     // when the dependencies on each name were last worked out
	now    int       // counts changes
	steps  int       // work done
	nested int       // depth of reinstate
	stop   error     // that it is too much
	groups map[*version][]group
	byName map[string]candidate
}

// A status is what has been decided about a name.
type status struct {
	standing
	past    []memory // what it was before
	wanted  bool     // it is to be installed
	settled bool     // its being wanted or not is not to change
	root    bool     // the spec names it
	auto    bool     // it is there for others only
	retried bool     // the problem resolver has tried to get it back
	garbage bool     // nothing needed it when that was last worked out
	why     error    // why it was given up
}

// A standing is the pair of versions that a name has: the one to be there, nil for none, and the one that
// could be, nil when it was given up. A version may be there though its name is wanted no more: apt forgets.
type standing struct{ there, candidate *version }

type memory struct {
	until int // the last time at which it was so
	standing
}

// How deep dependencies may be nested when they are marked, as in apt, and when the problem resolver is at it, where apt
// has no bound: whoever writes an index must not fill our stack.
const (
	maxDepth  = 3000
	maxNested = 20_000
)

// maxSteps bounds the work: apt may try for ever when packages are made for it. A step is a look at one package; the 805
// packages of gnome-core take 15,000.
const maxSteps = 1 << 24

func newState(u *universe) *state {
	return &state{universe: u, st: make([]*status, len(u.names)+1), looked: make([]int, len(u.names)+1), groups: map[*version][]group{}}
}

func (s *state) at(n *name) *status {
	if s.st[n.id] == nil {
		s.st[n.id] = &status{standing: standing{candidate: n.candidate}}
	}
	return s.st[n.id]
}

// when is the standing of n at a time.
func (s *state) when(n *name, time int) standing {
	st := s.st[n.id]
	if st == nil {
		return standing{candidate: n.candidate}
	}
	s.steps += len(st.past)
	for _, m := range st.past {
		if time <= m.until {
			return m.standing
		}
	}
	return st.standing
}

// set changes the standing of n.
func (s *state) set(n *name, to standing) {
	st := s.at(n)
	if st.standing == to {
		return
	}
	st.past = append(st.past, memory{s.now, st.standing})
	st.standing = to
	s.now++
}

// look works out the dependencies on n anew, and those on what its candidate provides.
func (s *state) look(n *name) {
	s.looked[n.id] = s.now
	if c := s.at(n).candidate; c != nil {
		for _, p := range c.provides {
			s.looked[p.id] = s.now
		}
	}
}

// spent says that the work has come to more than is allowed.
func (s *state) spent() bool {
	switch {
	case s.stop != nil:
	case s.steps > maxSteps:
		s.stop = fmt.Errorf("the dependencies take more than %d steps to try: name more of the packages that are to meet them", maxSteps)
	case s.nested > maxNested:
		s.stop = fmt.Errorf("the dependencies are nested deeper than %d", maxNested)
	}
	return s.stop != nil
}

// A group is one dependency of a version: alternatives, or what it does not go with.
type group struct {
	kind  int
	alts  []alternative
	early bool   // a Pre-Depends; only for backtrack
	text  string // of a weak one
}

type alternative struct {
	Relation
	to *name
}

// Kinds of groups.
const (
	depends = iota
	conflicts
	breaks
	weak // and the next three: Recommends, Suggests, Replaces, Enhances
)

func (g group) negative() bool { return g.kind != depends }

// of lists the dependencies of v.
func (s *state) of(v *version) []group {
	all, ok := s.groups[v]
	if ok {
		return all
	}
	for _, alts := range v.Depends {
		all = append(all, group{kind: depends, alts: s.alternatives(alts)})
	}
	for i, alts := range v.Conflicts {
		kind := conflicts
		if i >= len(v.Conflicts)-v.breaks {
			kind = breaks
		}
		all = append(all, group{kind: kind, alts: s.alternatives(alts)})
	}
	s.groups[v] = all
	return all
}

func (s *state) alternatives(rs []Relation) []alternative {
	all := make([]alternative, len(rs))
	for i, r := range rs {
		all[i] = alternative{r, s.find(r.key())}
	}
	return all
}

// matches says whether a version that pick takes out of a standing satisfies a; for a negative dependency
// of the package named by, that package does not count. It judges by how things were when last looked at.
func (s *state) matches(a alternative, by *name, negative bool, pick func(standing) *version) bool {
	time := s.looked[a.to.id]
	s.steps += 1 + len(a.to.providers)
	if v := pick(s.when(a.to, time)); v != nil && a.satisfiedBy(v.Version) && !(negative && a.to == by) {
		return true
	}
	return slices.ContainsFunc(a.to.providers, func(p provider) bool {
		return pick(s.when(p.of, time)) == p.version && a.satisfiedBy(p.as) && !(negative && p.of == by)
	})
}

func isThere(st standing) *version { return st.there }
func couldBe(st standing) *version { return st.candidate }

// one says whether a single alternative of the dependency g of by is met: by what is there, or by what could be.
func (s *state) one(g group, a alternative, by *name, pick func(standing) *version) bool {
	return s.matches(a, by, g.negative(), pick) != g.negative()
}

// met says whether the dependency g of by is met.
func (s *state) met(g group, by *name, pick func(standing) *version) bool {
	return g.negative() != slices.ContainsFunc(g.alts, func(a alternative) bool { return s.matches(a, by, g.negative(), pick) })
}

// broken says whether what is there of n lacks a dependency or is in conflict.
func (s *state) broken(n *name) bool {
	v := s.at(n).there
	return v != nil && slices.ContainsFunc(s.of(v), func(g group) bool { return !s.met(g, n, isThere) })
}

// brokenCount is the number of names that are broken.
func (s *state) brokenCount() int {
	count := 0
	s.steps += len(s.st) / 64
	for id, st := range s.st {
		if st != nil && st.there != nil && s.broken(s.names[id]) {
			count++
		}
	}
	return count
}

// solutions lists the candidates that the alternatives of g call for, the best first. They meet it, or, when
// it is negative, are in conflict with it; only its first alternative counts then, as there is no other.
func (s *state) solutions(g group, by *name) []*version {
	alts := g.alts
	if g.negative() {
		alts = alts[:1]
	}
	var all []*version
	for _, a := range alts {
		if !s.matches(a, by, g.negative(), couldBe) {
			continue
		}
		some := s.candidates(a, by, g.negative())
		slices.SortStableFunc(some, func(x, y *version) int { return s.compare(a.to, x, y) })
		all = append(all, some...)
	}
	all = slices.Compact(all)
	if g.negative() {
		return all
	}
	return slices.DeleteFunc(all, func(v *version) bool { st := s.at(v.of); return st.settled && !st.wanted })
}

// candidates lists those of today that satisfy a.
func (s *state) candidates(a alternative, by *name, negative bool) []*version {
	var all []*version
	s.steps += 1 + len(a.to.providers)
	if c := s.at(a.to).candidate; c != nil && a.satisfiedBy(c.Version) && !(negative && a.to == by) {
		all = append(all, c)
	}
	for _, p := range slices.Backward(a.to.providers) {
		if s.at(p.of).candidate == p.version && a.satisfiedBy(p.as) && !(negative && p.of == by) {
			all = append(all, p.version)
		}
	}
	return all
}

// compare orders two solutions of a dependency on target as apt does; less than 0: a is better.
func (s *state) compare(target *name, a, b *version) int {
	if a == b {
		return 0
	}
	return cmp.Or(first(s.at(a.of).settled, s.at(b.of).settled), first(a.of == target, b.of == target),
		first(a.of.essential, b.of.essential), first(a.of.important, b.of.important), cmp.Compare(rank(a.Package), rank(b.Package)),
		cmp.Compare(b.of.id, a.of.id))
}

// first orders what has something before what has not.
func first(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}
