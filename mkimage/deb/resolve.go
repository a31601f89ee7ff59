package deb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Resolver chooses packages. It is deterministic: among several versions of a name the highest wins,
// among alternatives the first that can be satisfied, among providers of a virtual package the one of
// the highest priority, then the first by name.
type Resolver struct {
	byName   map[string][]*Package // highest version first
	provides map[string][]provider
}

type provider struct {
	p       *Package
	version Version // of the provision; "" when unversioned
}

// NewResolver indexes packages for one architecture; others but "all" are left out. Earlier entries win
// over later ones of the same name and version.
func NewResolver(packages []*Package, arch string) *Resolver {
	r := &Resolver{byName: map[string][]*Package{}, provides: map[string][]provider{}}
	for _, p := range packages {
		if p.Arch != arch && p.Arch != "all" {
			continue
		}
		r.byName[p.Name] = append(r.byName[p.Name], p)
	}
	for _, ps := range r.byName {
		slices.SortStableFunc(ps, func(a, b *Package) int { return b.Version.Compare(a.Version) })
		for _, v := range ps[0].Provides {
			r.provides[v.Name] = append(r.provides[v.Name], provider{ps[0], v.Version})
		}
	}
	for _, ps := range r.provides {
		slices.SortFunc(ps, func(a, b provider) int {
			return cmp.Or(cmp.Compare(rank(a.p), rank(b.p)), cmp.Compare(a.p.Name, b.p.Name))
		})
	}
	return r
}

func rank(p *Package) int {
	i := slices.Index([]string{"required", "important", "standard", "optional"}, p.Priority)
	if i < 0 {
		return 9
	}
	return i
}

// Base returns the names of all packages that are Essential or of priority required, sorted: what
// debootstrap's minbase starts from.
func (r *Resolver) Base() []string {
	var names []string
	for name, ps := range r.byName {
		if ps[0].Essential || ps[0].Priority == "required" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A state is one resolution under way.
type state struct {
	*Resolver
	chosen map[string]*Package
	have   map[string][]provider // virtual names provided by chosen packages
	order  []*Package
}

// Resolve returns the packages that roots need, roots included, sorted by name. Recommends are not
// followed. A name that nothing satisfies and a conflict between two chosen packages are errors.
func (r *Resolver) Resolve(roots []string) ([]*Package, error) {
	s := &state{Resolver: r, chosen: map[string]*Package{}, have: map[string][]provider{}}
	type want struct {
		alts []Relation
		by   string
	}
	var queue []want
	for _, name := range roots {
		queue = append(queue, want{[]Relation{{Name: name}}, "the spec"})
	}
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		if s.satisfied(w.alts) {
			continue
		}
		p := s.choose(w.alts)
		if p == nil {
			return nil, fmt.Errorf("package %s, wanted by %s, is in none of the suites", joinAlts(w.alts), w.by)
		}
		if old := s.chosen[p.Name]; old != nil {
			return nil, fmt.Errorf("package %s, wanted by %s: version %s is already chosen", joinAlts(w.alts), w.by, old.Version)
		}
		s.add(p)
		for _, d := range p.Depends {
			queue = append(queue, want{d, "package " + p.Name})
		}
	}
	if err := s.conflicts(); err != nil {
		return nil, err
	}
	slices.SortFunc(s.order, func(a, b *Package) int { return cmp.Compare(a.Name, b.Name) })
	return s.order, nil
}

func joinAlts(alts []Relation) string {
	var parts []string
	for _, a := range alts {
		parts = append(parts, a.String())
	}
	return strings.Join(parts, " | ")
}

func (s *state) add(p *Package) {
	s.chosen[p.Name] = p
	s.order = append(s.order, p)
	for _, v := range p.Provides {
		s.have[v.Name] = append(s.have[v.Name], provider{p, v.Version})
	}
}

func (s *state) satisfied(alts []Relation) bool {
	for _, a := range alts {
		if p := s.chosen[a.Name]; p != nil && a.satisfiedBy(p.Version) {
			return true
		}
		for _, v := range s.have[a.Name] {
			if a.satisfiedBy(v.version) {
				return true
			}
		}
	}
	return false
}

// choose returns the package for the first alternative that exists.
func (s *state) choose(alts []Relation) *Package {
	for _, a := range alts {
		for _, p := range s.byName[a.Name] {
			if a.satisfiedBy(p.Version) {
				return p
			}
		}
		for _, v := range s.provides[a.Name] {
			if a.satisfiedBy(v.version) {
				return v.p
			}
		}
	}
	return nil
}

// conflicts names two chosen packages that exclude each other.
func (s *state) conflicts() error {
	for _, p := range s.order {
		for _, alts := range p.Conflicts {
			for _, a := range alts {
				if q := s.chosen[a.Name]; q != nil && q != p && a.satisfiedBy(q.Version) {
					return fmt.Errorf("package %s conflicts with package %s %s", p.Name, q.Name, q.Version)
				}
				for _, v := range s.have[a.Name] {
					if v.p != p && a.satisfiedBy(v.version) {
						return fmt.Errorf("package %s conflicts with package %s, which provides %s", p.Name, v.p.Name, a.Name)
					}
				}
			}
		}
	}
	return nil
}
