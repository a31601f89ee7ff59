package deb

import "slices"

// What apt does when marking has left something broken: its problem resolver (algorithms.cc). Every package has a
// score; from the highest down, each broken one either makes those that stand in its way give way, or gives
// way itself.

// maxRounds is how often apt goes through the packages.
const maxRounds = 20

// A solver is a problem resolution under way.
type solver struct {
	*state
	score []int // by name.id
	order []*name
	kills []*name // what is to give way to the package under way
}

// solve mends what is broken. It is false if that cannot be done.
func (s *state) solve(order []*name) bool {
	s.revive()
	r := &solver{state: s, order: slices.Clone(order)}
	r.makeScores()
	sortLikeApt(r.order, func(a, b *name) bool { return r.score[a.id] > r.score[b.id] })
	for round, changed := 0, true; changed && round < maxRounds; round++ {
		changed = false
		for _, n := range r.order {
			if st := s.st[n.id]; st != nil && st.there != nil && s.broken(n) && !s.spent() {
				changed = r.investigate(n, round) || changed
			}
		}
	}
	return s.brokenCount() == 0 && !s.spent()
}

// revive wants again what is broken, wanted no more and still there.
func (s *state) revive() {
	for again := true; again && !s.spent(); {
		again = false
		for id, st := range s.st {
			if st != nil && !st.wanted && st.there != nil && s.broken(s.names[id]) {
				s.install(s.names[id], false, 0, false)
				again = again || st.wanted
			}
		}
	}
}

// investigate sees to the broken package n. It is true if that changed something.
func (r *solver) investigate(n *name, round int) bool {
	i := &investigation{solver: r, n: n, st: r.at(n), round: round}
	r.kills = r.kills[:0]
	for _, g := range r.of(i.st.there) {
		if !i.group(g) {
			break
		}
	}
	if i.st.there == nil {
		return i.changed
	}
	for _, k := range r.kills {
		kept := r.keep(k)
		if (!kept || round > 1) && r.score[n.id] > r.score[k.id] {
			r.score[k.id], i.changed = r.score[n.id], true
		}
		i.changed = i.changed || kept
	}
	return i.changed
}

// An investigation is that of one broken package.
type investigation struct {
	*solver
	n       *name
	st      *status
	round   int
	changed bool

	// Of the group under way:
	choice bool // it has alternatives
	keeps  bool // when none of them helps n is kept from being installed, not removed
}

// group sees to one dependency of n's. It is false when the others are not to be looked at.
func (i *investigation) group(g group) bool {
	i.choice, i.keeps = len(g.alts) > 1, false
	before := len(i.kills)
	for _, a := range g.alts {
		if i.met(g, i.n, isThere) {
			return true
		}
		targets := i.targets(a, g.negative(), i.n)
		if len(targets) == 0 && !i.st.settled && !g.negative() {
			if i.choice {
				continue
			}
			i.changed = true
			i.keep(i.n)
			return false
		}
		if i.consider(g, a, targets) && !i.choice {
			return false
		}
	}
	switch {
	case !i.choice || before != len(i.kills):
	case i.keeps:
		i.keep(i.n)
		i.changed = true
	case !i.st.settled:
		i.remove(i.n)
		i.changed = true
	}
	return true
}

// targets lists all versions that satisfy a, candidates or not, in the order of the lists.
func (s *state) targets(a alternative, negative bool, by *name) []*version {
	var all []*version
	s.steps += 1 + len(a.to.providers) + len(a.to.versions)
	for _, v := range a.to.versions {
		if a.satisfiedBy(v.Version) && !(negative && a.to == by) {
			all = append(all, v)
		}
	}
	for _, p := range slices.Backward(a.to.providers) {
		if a.satisfiedBy(p.as) && !(negative && p.of == by) {
			all = append(all, p.version)
		}
	}
	return all
}

// consider weighs n against each of the packages that its unmet dependency is about. It is true when n was
// dealt with.
func (i *investigation) consider(g group, a alternative, targets []*version) bool {
	for _, v := range targets {
		if i.spent() {
			return false
		}
		other := i.at(v.of)
		if g.negative() && other.there != v {
			continue
		}
		if !g.negative() || i.score[i.n.id] <= i.score[v.of.id] {
			if !i.st.settled {
				i.giveWay(a, v)
				i.changed = true
				return true
			}
			if i.reinstate(v.of) {
				i.score[v.of.id] = min(i.score[v.of.id], i.score[i.n.id])
				break
			}
			continue
		}
		if g.kind == breaks && i.met(g, i.n, couldBe) {
			i.install(v.of, false, 0, false)
			continue
		}
		if !other.settled {
			i.kills = append(i.kills, v.of)
		}
	}
	return false
}

// giveWay keeps n from being installed for v's sake.
func (i *investigation) giveWay(a alternative, v *version) {
	wanted := i.st.wanted
	i.keep(i.n)
	switch {
	case !i.broken(i.n):
		i.keeps = true
		if i.choice && wanted {
			i.install(i.n, false, 0, false)
		}
	case i.reinstate(i.n):
	case !i.choice || i.st.garbage:
		i.remove(i.n)
		if i.round > 1 {
			i.score[i.n.id] = max(i.score[i.n.id], i.score[v.of.id])
		}
	case i.at(a.to).candidate != nil:
		i.tryInstalling(a.to)
	}
}

// tryInstalling installs one of several packages that would help n.
func (i *investigation) tryInstalling(n *name) {
	before := i.brokenCount()
	i.install(n, true, 1, false)
	i.keeps = true
	if i.broken(n) || i.brokenCount() > before {
		i.remove(n)
		i.keeps = false
	}
}

// reinstate wants n again and, where it can, what n lacks. It is false if that does not come off; each package is
// tried once.
func (s *state) reinstate(n *name) bool {
	st := s.at(n)
	s.nested++
	defer func() { s.nested-- }()
	if st.retried || st.candidate == nil || st.root || s.spent() {
		return false
	}
	st.retried = true
	wanted := st.wanted
	if !s.install(n, false, 0, false) || st.there == nil {
		return false
	}
	failed := false
	for _, g := range s.of(st.there) {
		if failed = s.lacks(g, n); failed {
			break
		}
	}
	switch {
	case !failed:
		return true
	case wanted:
		s.remove(n)
	default:
		s.keep(n)
	}
	return false
}

// lacks tries to meet the dependency g of n. It is true if that failed.
func (s *state) lacks(g group, n *name) (failed bool) {
	for _, a := range g.alts {
		if s.met(g, n, isThere) {
			break
		}
		other := s.smartTarget(a, n)
		switch {
		case s.at(other).settled:
			failed = true
		case s.one(g, a, n, couldBe):
			if s.reinstate(other) {
				return false
			}
			failed = true
		case g.negative():
			return failed
		default:
			failed = true
		}
	}
	return failed
}

// smartTarget is the package that a is about: its first provider if there is none of the name itself.
func (s *state) smartTarget(a alternative, by *name) *name {
	if len(a.to.versions) > 0 {
		return a.to
	}
	for _, p := range slices.Backward(a.to.providers) {
		if p.of != by {
			return p.of
		}
	}
	return a.to
}
