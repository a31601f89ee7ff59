package deb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A state is one resolution under way.
type state struct {
	*Resolver
	status map[string]*status
	depth  int // of install
}

// maxDepth is how deep dependencies may be nested, as in apt: whoever writes an index must not fill our stack.
const maxDepth = 3000

// A status is what has been decided about a name.
type status struct {
	p         *Package // the candidate; nil: there is none, or it was given up
	chosen    bool
	protected bool  // its being chosen or not is settled
	why       error // why it was given up
}

func (s *state) at(name string) *status {
	st := s.status[name]
	if st == nil {
		st = &status{p: s.Candidate(name)}
		s.status[name] = st
	}
	return st
}

func (s *state) chosen(name string) bool { st := s.status[name]; return st != nil && st.chosen }

// A want is a dependency that somebody has.
type want struct {
	alts []Relation
	by   string // name of a package
}

// Resolve returns the packages that roots need, roots included, sorted by name. Recommends are not
// followed. A name that nothing satisfies and a conflict between two chosen packages are errors. A root that
// is no package but provided by exactly one stands for that.
func (r *Resolver) Resolve(roots []string) ([]*Package, error) {
	s := &state{Resolver: r, status: map[string]*status{}}
	names := make([]string, len(roots))
	for i, name := range roots {
		var err error
		if names[i], err = s.root(name); err != nil {
			return nil, err
		}
		s.at(names[i]).protected, s.at(names[i]).chosen = true, true
	}
	for _, name := range names {
		if p := s.at(name).p; s.broken(p) {
			s.install(p, true, true)
		}
	}
	kept := s.needed(names)
	if err := s.check(kept); err != nil {
		return nil, err
	}
	return kept, nil
}

func (s *state) root(name string) (string, error) {
	if s.Candidate(name) != nil {
		return name, nil
	}
	var all []string
	for _, v := range s.provides[name] {
		all = append(all, v.p.Name)
	}
	switch all = slices.Compact(all); len(all) {
	case 0:
		return "", fmt.Errorf("package %s, wanted by the spec, is in none of the suites", name)
	case 1:
		return all[0], nil
	}
	slices.Sort(all)
	return "", fmt.Errorf("package %s, wanted by the spec, is provided by several: name one of %s", name, strings.Join(all[:min(len(all), 8)], ", "))
}

// install chooses the candidate p and, if deep, what it needs. user is true for a root.
func (s *state) install(p *Package, deep, user bool) bool {
	s.depth++
	defer func() { s.depth-- }()
	st := s.at(p.Name)
	switch {
	case !st.chosen && st.protected, st.p != p:
		return false
	case s.depth > maxDepth:
		s.giveUp(st, fmt.Errorf("dependencies nested deeper than %d", maxDepth))
		return false
	case st.chosen && !st.protected && !s.broken(p):
		return true
	case deep && !s.satisfiable(p, st):
		return false
	}
	early, settled := !st.protected && !user, st.protected
	ok := true
	if deep {
		if ok = s.clear(p, settled, early); !ok && early {
			return false
		}
	}
	st.chosen = true
	if !deep {
		return ok
	}
	st.protected = true // until its dependencies are there
	err := s.follow(p, settled, early)
	st.protected = settled
	if err != nil && early {
		s.giveUp(st, err)
		return false
	}
	return ok && err == nil
}

func (s *state) giveUp(st *status, why error) { st.p, st.chosen, st.why = nil, false, why }

// satisfiable says whether candidates could satisfy every dependency of p, which otherwise is given up. Like
// apt it takes no notice of those that were given up before: these show only when they are wanted.
func (s *state) satisfiable(p *Package, st *status) bool {
	for _, alts := range p.Depends {
		if len(s.satisfying(alts)) > 0 {
			continue
		}
		if !st.protected {
			s.giveUp(st, s.missing(want{alts, p.Name}))
		}
		return false
	}
	return true
}

// clear makes room for p: whatever it conflicts with is not chosen, and, if p is settled, never will be. It
// is false when something protected stays.
func (s *state) clear(p *Package, settled, early bool) bool {
	ok := true
	for _, alts := range p.Conflicts {
		if !settled && !s.violated(p, alts) {
			continue
		}
		for _, q := range s.solutions(alts, true) {
			st := s.at(q.Name)
			if q.Name == p.Name || st.p != q {
				continue
			}
			if st.chosen && st.protected {
				if s.at(p.Name).why == nil {
					s.at(p.Name).why = conflict(p, q)
				}
				if ok = false; early {
					return false
				}
				continue
			}
			st.chosen = false
			if settled {
				st.p, st.protected, st.why = nil, true, conflict(p, q)
			}
		}
	}
	return ok
}

// follow chooses what p depends on.
func (s *state) follow(p *Package, settled, early bool) error {
	var failed error
	for _, alts := range p.Depends {
		if s.satisfied(alts) && !settled {
			continue
		}
		if err := s.need(want{alts, p.Name}, settled); err != nil {
			if failed = cmp.Or(failed, err); early {
				break
			}
		}
	}
	return failed
}

// need sees to one dependency; settled is true for one of a protected package.
func (s *state) need(w want, settled bool) error {
	all := s.solutions(w.alts, false)
	if s.satisfied(w.alts) {
		if len(all) != 1 || s.at(all[0].Name).protected {
			return nil
		}
		s.at(all[0].Name).protected = true
		if !s.install(all[0], true, false) {
			return s.missing(w)
		}
		return nil
	}
	for _, q := range all {
		st := s.at(q.Name)
		if st.p != q {
			continue
		}
		if settled && len(all) == 1 {
			if !s.install(q, false, false) {
				continue
			}
			st.protected = true
		}
		if s.install(q, true, false) {
			return nil
		}
	}
	return s.missing(w)
}

// solutions lists the candidates that satisfy one of alts, the best first. For a conflict, those that are
// settled not to be chosen count too.
func (s *state) solutions(alts []Relation, conflict bool) []*Package {
	var all []*Package
	for _, a := range alts {
		var some []*Package
		if st := s.at(a.Name); st.p != nil && a.satisfiedBy(st.p.Version) {
			some = append(some, st.p)
		}
		for _, v := range s.provides[a.Name] {
			if s.at(v.p.Name).p != nil && a.satisfiedBy(v.version) {
				some = append(some, v.p)
			}
		}
		slices.SortStableFunc(some, func(x, y *Package) int { return s.compare(a.Name, x, y) })
		all = append(all, some...)
	}
	all = slices.Compact(all)
	if conflict {
		return all
	}
	return slices.DeleteFunc(all, func(p *Package) bool { st := s.at(p.Name); return st.protected && !st.chosen })
}

// satisfied says whether a chosen package satisfies one of alts.
func (s *state) satisfied(alts []Relation) bool { return s.matches(alts, "") }

// violated says whether a chosen package other than p is in conflict with it.
func (s *state) violated(p *Package, alts []Relation) bool { return s.matches(alts, p.Name) }

func (s *state) matches(alts []Relation, except string) bool {
	for _, a := range alts {
		if a.Name != except && s.chosen(a.Name) && a.satisfiedBy(s.at(a.Name).p.Version) {
			return true
		}
		for _, v := range s.provides[a.Name] {
			if v.p.Name != except && s.chosen(v.p.Name) && a.satisfiedBy(v.version) {
				return true
			}
		}
	}
	return false
}

// broken says whether p lacks a dependency or is in conflict.
func (s *state) broken(p *Package) bool {
	return slices.ContainsFunc(p.Depends, func(alts []Relation) bool { return !s.satisfied(alts) }) ||
		slices.ContainsFunc(p.Conflicts, func(alts []Relation) bool { return s.violated(p, alts) })
}

// needed lists what is reached from the roots, sorted by name: for each dependency everything chosen that
// satisfies it. The rest is not chosen any more. Like apt, it also keeps what was chosen for a package given
// up since, if one that stays recommends or suggests it.
func (s *state) needed(roots []string) []*Package {
	seen := map[string]bool{}
	var all []*Package
	todo := slices.Clone(roots)
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if seen[name] || !s.chosen(name) {
			continue
		}
		seen[name] = true
		p := s.at(name).p
		all = append(all, p)
		for _, alts := range append(p.recommends(), p.Depends...) {
			todo = append(todo, s.satisfying(alts)...)
		}
	}
	for name, st := range s.status {
		st.chosen = st.chosen && seen[name]
	}
	slices.SortFunc(all, func(a, b *Package) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// satisfying names the candidates that satisfy one of alts.
func (s *state) satisfying(alts []Relation) (names []string) {
	for _, a := range alts {
		if q := s.Candidate(a.Name); q != nil && a.satisfiedBy(q.Version) {
			names = append(names, a.Name)
		}
		for _, v := range s.provides[a.Name] {
			if a.satisfiedBy(v.version) {
				names = append(names, v.p.Name)
			}
		}
	}
	return names
}
