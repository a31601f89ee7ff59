package deb

import (
	"cmp"
	"slices"
)

// Leaving out what nothing needs, as apt's autoremover does.

// A sweep is one search for what is needed.
type sweep struct {
	*state
	marked   map[*name]bool
	explored map[*name]bool // all that can be needed of it was marked
	bystands map[*name]bool // is there when another version of it, or of what it provides, is needed
}

// sweep works out what is garbage: wanted, but needed by nothing. What it returns tells whether that is to be done again
// when a piece of garbage is gone: for most it would come out the same.
func (s *state) sweep() (again map[*name]bool) {
	w := &sweep{s, map[*name]bool{}, map[*name]bool{}, map[*name]bool{}}
	all := s.wanted()
	s.steps += len(all)
	slices.SortFunc(all, hashOrder)
	ok := true
	for _, n := range all {
		st := s.at(n)
		if st.garbage = false; st.auto && !n.essential && !n.important && !st.settled {
			continue
		}
		ok = ok && w.mark(n, 0)
	}
	for _, n := range all {
		s.at(n).garbage = ok && !w.marked[n]
	}
	return w.bystands
}

// wanted lists the names that are wanted.
func (s *state) wanted() []*name {
	var all []*name
	s.steps += len(s.st) / 64 // cheaper than a look
	for id, st := range s.st {
		if st != nil && st.wanted {
			all = append(all, s.names[id])
		}
	}
	return all
}

// mark marks n and what it depends on, recommends or suggests, if wanted. It is false if that is nested too deep:
// then apt, too, leaves everything as it is.
func (w *sweep) mark(n *name, depth int) bool {
	switch {
	case w.marked[n]:
		return true
	case depth > maxDepth:
		return false
	}
	w.marked[n] = true
	v := w.at(n).there
	for _, g := range w.of(v) {
		if !g.negative() && !w.follow(g.alts, depth) {
			return false
		}
	}
	for _, field := range []int{recommends, suggests} {
		for _, alts := range v.weakly(field) {
			if !w.follow(w.alternatives(alts), depth) {
				return false
			}
		}
	}
	return true
}

// follow marks what satisfies alts. Of several packages from one source only those of its highest version count.
func (w *sweep) follow(alts []alternative, depth int) bool {
	for _, a := range alts {
		if w.explored[a.to] {
			continue
		}
		var sources []string
		bySource := map[string][]*version{}
		choice := false // something is there that does not satisfy a
		add := func(v *version, as Version) {
			if !a.satisfiedBy(as) {
				choice, w.bystands[v.of] = true, true
				return
			}
			source, _ := v.from()
			if bySource[source] == nil {
				sources = append(sources, source)
			}
			bySource[source] = append(bySource[source], v)
		}
		w.steps += 1 + len(a.to.providers)
		if st := w.st[a.to.id]; st != nil && st.wanted {
			add(st.there, st.there.Version)
		}
		for _, p := range slices.Backward(a.to.providers) {
			if st := w.st[p.of.id]; st != nil && st.wanted && st.there == p.version {
				add(p.version, p.as)
			}
		}
		w.explored[a.to] = !choice
		for _, source := range sources {
			for _, v := range newest(bySource[source]) {
				if !w.mark(v.of, depth+1) {
					return false
				}
			}
		}
	}
	return true
}

// newest lists those of all, versions from one source, that are from its highest version.
func newest(all []*version) []*version {
	highest := slices.MaxFunc(all, func(a, b *version) int {
		_, x := a.from()
		_, y := b.from()
		return x.Compare(y)
	})
	_, want := highest.from()
	return slices.DeleteFunc(all, func(v *version) bool { _, have := v.from(); return have != want })
}

// autoremove leaves out the garbage, and takes back what others turn out to depend on.
func (s *state) autoremove() {
	again := s.sweep()
	all := s.wanted()
	slices.SortFunc(all, func(a, b *name) int { return cmp.Compare(a.text, b.text) })
	var gone []*name
	for _, n := range all {
		if st := s.at(n); st.garbage {
			gone = append(gone, n)
			if s.remove(n) && again[n] && !s.spent() {
				again = s.sweep()
			}
		}
	}
	slices.SortFunc(gone, func(a, b *name) int { return cmp.Compare(a.id, b.id) })
	if len(gone) == 0 || s.brokenCount() == 0 {
		return
	}
	for {
		i := slices.IndexFunc(gone, s.missed)
		if i < 0 || s.spent() {
			return
		}
		s.install(gone[i], false, 0, false)
		gone = slices.Delete(gone, i, i+1)
	}
}

// missed says whether something wanted depends on n's candidate, or on what that provides.
func (s *state) missed(n *name) bool {
	c := s.at(n).candidate
	if c == nil {
		return false
	}
	satisfies := func(a alternative) bool {
		if a.to == n {
			return a.satisfiedBy(c.Version)
		}
		return slices.ContainsFunc(a.to.providers, func(p provider) bool { return p.version == c && a.satisfiedBy(p.as) })
	}
	return slices.ContainsFunc(s.wanted(), func(by *name) bool {
		st := s.at(by)
		return st.there == st.candidate && slices.ContainsFunc(s.of(st.there), func(g group) bool {
			return !g.negative() && slices.ContainsFunc(g.alts, satisfies)
		})
	})
}
