package deb

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// A Resolver chooses packages as apt does for a machine on which nothing is installed (apt's depcache.cc,
// apt_preferences(5)). Where apt is left with something broken and starts to guess (its problem resolver), this
// is an error instead, which names the two packages that stand in each other's way: naming more packages
// in the spec decides it. It is deterministic:
//
//   - Each name has one candidate, that of the highest priority and then of the highest version. Nothing
//     else is ever chosen.
//   - Dependencies are followed depth first, in the order in which they are written. What is satisfied by a
//     package chosen before is left alone.
//   - Among alternatives, and for each the package of that name before those that provide it, the first that
//     can be chosen wins. Providers are ordered: essential, important, by the field Priority, and last
//     by where the package lists first name them: later first.
//   - A package that a root needs without any alternative is protected. A conflict removes what is not
//     protected; a package that cannot be had is given up, with what wanted it, unless that is protected.
//   - What nothing needs any more at the end is left out.
type Resolver struct {
	packages []*Package // in the order of the lists
	byName   map[string]candidate
	provides map[string][]provider
	order    func() map[string]int // how early a name occurs in the lists
}

// A candidate is what a name stands for.
type candidate struct {
	*Package
	pin int
}

type provider struct {
	p       *Package
	version Version // of the provision; "" when unversioned
}

// NewResolver indexes packages for one architecture; others but "all" are left out. pin is the priority of
// a package in the sense of apt_preferences(5): greater than 0. Earlier entries win over later ones of the
// same name, version and priority.
func NewResolver(packages []*Package, arch string, pin func(*Package) int) *Resolver {
	r := &Resolver{byName: map[string]candidate{}, provides: map[string][]provider{}}
	for _, p := range packages {
		if p.Arch != arch && p.Arch != "all" {
			continue
		}
		r.packages = append(r.packages, p)
		c := candidate{p, pin(p)}
		if old, ok := r.byName[p.Name]; !ok || cmp.Or(cmp.Compare(c.pin, old.pin), p.Version.Compare(old.Version)) > 0 {
			r.byName[p.Name] = c
		}
	}
	for _, p := range r.packages { // not by the map: in one order
		if r.byName[p.Name].Package != p {
			continue
		}
		for _, v := range p.Provides {
			r.provides[v.Name] = append(r.provides[v.Name], provider{p, v.Version})
		}
	}
	r.order = sync.OnceValue(r.names)
	return r
}

// Candidate returns what the name stands for, or nil.
func (r *Resolver) Candidate(name string) *Package { return r.byName[name].Package }

// Base returns the names of all packages that are Essential or of priority required, sorted: what
// debootstrap's minbase starts from.
func (r *Resolver) Base() []string {
	var names []string
	for name, c := range r.byName {
		if c.Essential || c.Priority == "required" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// names numbers every name in the order in which apt meets it: with each package its own, then those in
// its fields.
func (r *Resolver) names() map[string]int {
	all := map[string]int{}
	add := func(name string) {
		if _, ok := all[name]; !ok {
			all[name] = len(all)
		}
	}
	groups := func(rs [][]Relation) {
		for _, alts := range rs {
			for _, a := range alts {
				add(a.Name)
			}
		}
	}
	for _, p := range r.packages {
		add(p.Name)
		groups(p.Depends)
		groups(p.Conflicts)
		for _, field := range p.weak {
			weakNames(field, add)
		}
		for _, v := range p.Provides {
			add(v.Name)
		}
	}
	return all
}

// weakNames lists the names in a dependency field that nothing else reads; its form is not checked.
func weakNames(field string, add func(string)) {
	for field != "" {
		var one string
		if i := strings.IndexAny(field, ",|"); i >= 0 {
			one, field = field[:i], field[i+1:]
		} else {
			one, field = field, ""
		}
		one = strings.TrimSpace(one)
		if i := strings.IndexAny(one, " (:\n\t"); i >= 0 {
			one = one[:i]
		}
		if one != "" {
			add(strings.Clone(one))
		}
	}
}

// compare orders two solutions of a dependency on target as apt does; less than 0: a is better.
func (s *state) compare(target string, a, b *Package) int {
	first := func(x, y bool) int {
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	if a == b {
		return 0
	}
	return cmp.Or(first(s.at(a.Name).protected, s.at(b.Name).protected), first(a.Name == target, b.Name == target),
		first(a.Essential, b.Essential), first(a.Important, b.Important), cmp.Compare(rank(a), rank(b)), s.later(a, b))
}

func (s *state) later(a, b *Package) int { return cmp.Compare(s.order()[b.Name], s.order()[a.Name]) }

// rank numbers the field Priority (Debian Policy 2.5).
func rank(p *Package) int {
	if p.Priority == "" {
		return 0
	}
	i := slices.Index([]string{"required", "important", "standard", "optional"}, p.Priority)
	if i < 0 {
		return 5
	}
	return i + 1
}
