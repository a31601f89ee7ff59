package deb

import (
	"cmp"
	"fmt"
	"slices"
)

// Marking packages, as apt does in depcache.cc.

// install wants the candidate of n and, if deep, what it needs. user is true for a root.
func (s *state) install(n *name, deep bool, depth int, user bool) bool {
	st := s.at(n)
	if ok, done := s.decided(n, st, depth, user); done {
		return ok
	}
	if deep && !s.satisfiable(n, st) {
		return false
	}
	if user {
		s.choose(n, user)
	}
	early := !st.settled && !user
	ok := true
	var needs []group
	if deep {
		var foes []group
		if needs, foes = s.wants(n, st); !s.clear(n, foes, user, depth) {
			if ok = false; early {
				return false
			}
		}
	}
	if !user {
		s.choose(n, user)
	}
	if !deep {
		return ok
	}
	settled := st.settled
	st.settled = true // until its dependencies are there
	err := s.follow(n, needs, settled, user, depth)
	st.settled = settled
	if err != nil && early {
		s.discard(n, err)
	}
	return ok && err == nil
}

// decided says whether there is nothing to do to install n, and then whether that is because it is there.
func (s *state) decided(n *name, st *status, depth int, user bool) (ok, done bool) {
	switch {
	case s.spent():
		return false, true
	case depth > maxDepth:
		st.why = cmp.Or(st.why, fmt.Errorf("dependencies nested deeper than %d", maxDepth))
		return false, true
	case len(n.versions) == 0, !user && !st.wanted && st.settled, st.candidate == nil:
		return false, true
	case !st.settled && st.wanted && !s.broken(n):
		return true, true
	}
	return false, false
}

// satisfiable says whether candidates could satisfy every dependency of n's, which otherwise is given up. What
// is there of it stays there.
func (s *state) satisfiable(n *name, st *status) bool {
	for _, g := range s.of(st.candidate) {
		could := func(a alternative) bool { return s.one(g, a, n, isThere) || s.one(g, a, n, couldBe) }
		if g.negative() || slices.ContainsFunc(g.alts, could) {
			continue
		}
		if !st.settled {
			st.why = s.missing(want{relations(g), n.text})
			s.set(n, standing{there: st.there})
			st.wanted = false
		}
		return false
	}
	return true
}

// choose wants n's candidate.
func (s *state) choose(n *name, user bool) {
	st := s.at(n)
	if st.settled && st.there == st.candidate {
		return
	}
	st.wanted, st.auto = true, !user
	s.set(n, standing{st.candidate, st.candidate})
	s.look(n)
}

// discard gives n up.
func (s *state) discard(n *name, why error) {
	st := s.at(n)
	st.why = why
	if !st.wanted && st.there == nil && st.candidate == nil {
		return
	}
	st.wanted = false
	s.set(n, standing{nil, st.candidate})
	s.look(n)
	s.set(n, standing{})
}

// keep wants n no more. It is false if that must not be.
func (s *state) keep(n *name) bool {
	st := s.at(n)
	if !st.wanted || st.settled {
		return !st.wanted && len(n.versions) > 0
	}
	s.drop(n)
	return true
}

// remove takes away what is there of n. It is false if that must not be.
func (s *state) remove(n *name) bool {
	st := s.at(n)
	switch {
	case len(n.versions) == 0, st.settled, n.essential, n.important:
		return false
	case st.there == nil:
		return true
	case !st.auto:
		return false
	}
	s.drop(n)
	return true
}

func (s *state) drop(n *name) {
	st := s.at(n)
	st.wanted = false
	s.set(n, standing{nil, st.candidate})
	s.look(n)
}

// wants lists the dependencies of n's candidate that have to be seen to: what is not met, or, if n is
// settled, everything.
func (s *state) wants(n *name, st *status) (needs, foes []group) {
	for _, g := range s.of(st.candidate) {
		met := slices.ContainsFunc(g.alts, func(a alternative) bool { return s.one(g, a, n, isThere) })
		switch {
		case met && !st.settled:
		case g.negative():
			foes = append(foes, g)
		default:
			needs = append(needs, g)
		}
	}
	return needs, foes
}

// clear makes room for n: whatever it conflicts with is not wanted, and, if n is settled, never will be. It
// is false when something settled stays.
func (s *state) clear(n *name, foes []group, user bool, depth int) bool {
	ok, st := true, s.at(n)
	for _, g := range foes {
		for _, v := range s.solutions(g, n) {
			other := s.at(v.of)
			switch {
			case other.candidate != v:
			case other.wanted && (depth > maxDepth || !s.keep(v.of)):
				st.why = cmp.Or(st.why, conflict(st.candidate.Package, v.Package))
				if ok = false; !st.settled && !user {
					return false
				}
			case st.settled:
				other.why = conflict(st.candidate.Package, v.Package)
				s.set(v.of, standing{other.there, other.there})
				other.settled = true
			}
		}
	}
	return ok
}

// follow wants what n depends on. settled: n was that before, and what it cannot do without becomes it.
func (s *state) follow(n *name, needs []group, settled, user bool, depth int) error {
	var failed error
	for _, g := range needs {
		met := s.met(g, n, isThere)
		if met && !settled {
			continue
		}
		var ok bool
		if met {
			ok = s.settle(g, n, depth)
		} else {
			ok = s.need(g, n, settled, depth)
		}
		if ok {
			continue
		}
		failed = cmp.Or(failed, s.missing(want{relations(g), n.text}))
		if !met && !settled && !user {
			break
		}
	}
	return failed
}

// settle settles the one package that can meet g.
func (s *state) settle(g group, n *name, depth int) bool {
	all := s.solutions(g, n)
	slices.SortFunc(all, func(a, b *version) int { return cmp.Compare(a.of.id, b.of.id) })
	if all = slices.Compact(all); len(all) != 1 || s.at(all[0].of).settled {
		return true
	}
	s.at(all[0].of).settled = true
	return s.install(all[0].of, true, depth+1, false)
}

// need wants the best package that meets g.
func (s *state) need(g group, n *name, settled bool, depth int) bool {
	all := s.solutions(g, n)
	for _, v := range all {
		st := s.at(v.of)
		if st.candidate != v {
			continue
		}
		if settled && len(all) == 1 {
			if !s.install(v.of, false, depth+1, false) {
				continue
			}
			st.settled = true
		}
		if s.install(v.of, true, depth+1, false) {
			return true
		}
	}
	return false
}
