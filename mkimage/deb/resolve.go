package deb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Resolver chooses packages. It is deterministic. Each name has one candidate, that of the highest
// priority and then of the highest version, and nothing else is ever chosen; among alternatives the first
// that can be satisfied wins, among providers of a virtual package the one of
// the highest priority, then the first by name. What has one answer is taken before anything that has
// several, and a package that conflicts with one taken before is passed over; nothing taken is given up
// again. So it may find no answer where a search would, and says which two packages stood in the way.
type Resolver struct {
	byName   map[string]candidate
	provides map[string][]provider
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
		c := candidate{p, pin(p)}
		if old, ok := r.byName[p.Name]; !ok || cmp.Or(cmp.Compare(c.pin, old.pin), p.Version.Compare(old.Version)) > 0 {
			r.byName[p.Name] = c
		}
	}
	for _, c := range r.byName {
		for _, v := range c.Provides {
			r.provides[v.Name] = append(r.provides[v.Name], provider{c.Package, v.Version})
		}
	}
	for _, ps := range r.provides {
		slices.SortFunc(ps, func(a, b provider) int {
			return cmp.Or(cmp.Compare(rank(a.p), rank(b.p)), cmp.Compare(a.p.Name, b.p.Name))
		})
	}
	return r
}

// Candidate returns what the name stands for, or nil.
func (r *Resolver) Candidate(name string) *Package { return r.byName[name].Package }

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
	for name, c := range r.byName {
		if c.Essential || c.Priority == "required" {
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
	must   []want // dependencies with one answer
	choice []want // dependencies with several
}

// A want is a dependency that somebody has.
type want struct {
	alts []Relation
	by   string
}

// Resolve returns the packages that roots need, roots included, sorted by name. Recommends are not
// followed. A name that nothing satisfies and a conflict between two chosen packages are errors.
func (r *Resolver) Resolve(roots []string) ([]*Package, error) {
	s := &state{Resolver: r, chosen: map[string]*Package{}, have: map[string][]provider{}}
	for _, name := range roots {
		s.push(want{[]Relation{{Name: name}}, "the spec"})
	}
	for w, ok := s.pop(); ok; w, ok = s.pop() {
		if s.satisfied(w.alts) {
			continue
		}
		p, err := s.choose(w)
		if err != nil {
			return nil, err
		}
		s.add(p)
		for _, d := range p.Depends {
			s.push(want{d, "package " + p.Name})
		}
	}
	slices.SortFunc(s.order, func(a, b *Package) int { return cmp.Compare(a.Name, b.Name) })
	return s.order, nil
}

func (s *state) push(w want) {
	if len(s.candidates(w.alts)) > 1 {
		s.choice = append(s.choice, w)
	} else {
		s.must = append(s.must, w)
	}
}

func (s *state) pop() (w want, ok bool) {
	queue := &s.must
	if len(s.must) == 0 {
		queue = &s.choice
	}
	if len(*queue) == 0 {
		return w, false
	}
	w, *queue = (*queue)[0], (*queue)[1:]
	return w, true
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

// candidates lists the packages that satisfy one of alts, the best first.
func (s *state) candidates(alts []Relation) []*Package {
	var all []*Package
	for _, a := range alts {
		if p := s.Candidate(a.Name); p != nil && a.satisfiedBy(p.Version) {
			all = append(all, p)
		}
		for _, v := range s.provides[a.Name] {
			if a.satisfiedBy(v.version) {
				all = append(all, v.p)
			}
		}
	}
	return all
}

// choose returns the best package for w that can stand beside those chosen.
func (s *state) choose(w want) (*Package, error) {
	var first error
	for _, p := range s.candidates(w.alts) {
		err := s.fits(p)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = fmt.Errorf("package %s, wanted by %s: %w", joinAlts(w.alts), w.by, err)
		}
	}
	if first == nil {
		first = s.missing(w)
	}
	return nil, first
}

// missing says why nothing satisfies w: a candidate of the wrong version is named.
func (s *state) missing(w want) error {
	for _, a := range w.alts {
		if c, ok := s.byName[a.Name]; ok {
			return fmt.Errorf("package %s, wanted by %s: the candidate is %s%s, of priority %d", joinAlts(w.alts), w.by, c.Version, ofSuite(c.Package), c.pin)
		}
	}
	return fmt.Errorf("package %s, wanted by %s, is in none of the suites", joinAlts(w.alts), w.by)
}

func ofSuite(p *Package) string {
	if p.Suite == "" {
		return ""
	}
	return " of suite " + p.Suite
}

// fits says why p cannot be added.
func (s *state) fits(p *Package) error {
	for _, q := range s.order {
		if name := excludes(p, q); name != "" {
			return fmt.Errorf("package %s conflicts with package %s%s", p.Name, q.Name, name)
		}
		if name := excludes(q, p); name != "" {
			return fmt.Errorf("package %s conflicts with package %s%s", q.Name, p.Name, name)
		}
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
