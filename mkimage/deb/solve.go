package deb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Resolve returns the packages that roots need, roots included, sorted by name. Recommends are not
// followed. A name that nothing satisfies and a conflict between two chosen packages are errors. A root that
// is no package but provided by exactly one stands for that.
func (r *Resolver) Resolve(roots []string) ([]*Package, error) {
	s := newState(r.universe())
	s.byName = r.byName
	names := make([]*name, len(roots))
	for i, text := range roots {
		var err error
		if names[i], err = s.root(text); err != nil {
			return nil, err
		}
		st := s.at(names[i])
		st.root, st.settled = true, true
		s.install(names[i], false, 0, true)
	}
	for _, n := range names {
		s.install(n, true, 0, true)
	}
	if s.brokenCount() > 0 {
		s.sweep()
		err := s.blame()
		if !s.solve(r.order()) {
			if s.stop != nil || r.once {
				return nil, cmp.Or(s.stop, err)
			}
			found := s.backtrack(r.order(), names)
			if found == nil {
				return nil, cmp.Or(s.stop, err)
			}
			s = found
		}
	}
	s.autoremove()
	return s.result()
}

// root is the package that a name in the spec stands for.
func (s *state) root(text string) (*name, error) {
	n := s.byKey[text]
	if n != nil && n.candidate != nil {
		return n, nil
	}
	var all []*name
	if n != nil {
		for _, p := range n.providers {
			if p.of.candidate == p.version {
				all = append(all, p.of)
			}
		}
	}
	slices.SortFunc(all, func(a, b *name) int { return cmp.Compare(a.text, b.text) })
	switch all = slices.Compact(all); len(all) {
	case 0:
		return nil, fmt.Errorf("package %s, wanted by the spec, is in none of the suites", text)
	case 1:
		return all[0], nil
	}
	var some []string
	for _, n := range all[:min(len(all), 8)] {
		some = append(some, n.text)
	}
	return nil, fmt.Errorf("package %s, wanted by the spec, is provided by several: name one of %s", text, strings.Join(some, ", "))
}

// result is what is wanted, if it is whole. Apt's own answer need not be: it goes by what it remembers.
func (s *state) result() ([]*Package, error) {
	if s.spent() {
		return nil, s.stop
	}
	all := s.wanted()
	if err := s.check(all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *name) int { return cmp.Compare(a.text, b.text) })
	ps := make([]*Package, len(all))
	for i, n := range all {
		ps[i] = s.at(n).there.chosen
	}
	return ps, nil
}
