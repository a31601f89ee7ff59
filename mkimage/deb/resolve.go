package deb

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// A Resolver chooses packages as apt does for a machine on which nothing is installed: as the apt of Debian 13,
// 3.0, with its defaults, but without recommended packages (depcache.cc, algorithms.cc, solver3.cc, apt_preferences(5)). The
// apt of Debian 12 gives the same answers, but has no second solver. It is deterministic:
//
//   - Each name has one candidate, that of the highest priority and then of the highest version. Nothing
//     else is ever chosen.
//   - Dependencies are followed depth first, in the order in which they are written. What is satisfied by a
//     package chosen before is left alone.
//   - Among alternatives, and for each the package of that name before those that provide it, the first that
//     can be chosen wins. Providers are ordered: essential, important, by the field Priority, and last
//     by where the package lists first name them: later first.
//   - A package that a root needs without any alternative is settled. A conflict removes what is not
//     settled; a package that cannot be had is given up, with what wanted it, unless that is settled.
//   - When something is broken then, the problem resolver mends it if it can: packages of a high score, which
//     comes from their priority and from what depends on them, drive out those of a low one, which are then
//     replaced by an alternative or left out with what needed them. It is apt's, down to the order of packages
//     of equal score, and ends after 20 rounds.
//   - If it cannot, apt 3.0 starts again with its second solver, solver3, and so do we: it chooses
//     among alternatives, the most urgent first, draws conclusions, and takes the last choice back when two of
//     them contradict each other.
//   - What nothing needs, recommends or suggests any more at the end is left out.
//
// Where both find nothing, this is an error that names the two packages that stand in each other's way, as
// marking left them: naming more packages in the spec decides it. In three ways this is not apt: an answer that is
// not whole, which apt gives when it has lost count of what it gave up, is a refusal; so is what takes more than 16
// million steps, where apt goes by the clock; and no package is kept for the sake of the
// configuration APT::NeverAutoRemove.
type Resolver struct {
	byName   map[string]candidate
	universe func() *universe
	order    func() []*name // the names as apt's table has them
	once     bool           // for tests against the apt of Debian 12: leave the second solver out
}

// A candidate is what a name stands for.
type candidate struct {
	*Package
	pin int
}

// NewResolver indexes packages for one architecture; others but "all" are left out. pin is the priority of
// a package in the sense of apt_preferences(5): greater than 0. Earlier entries win over later ones of the
// same name, version and priority.
func NewResolver(packages []*Package, arch string, pin func(*Package) int) *Resolver {
	r := &Resolver{byName: map[string]candidate{}}
	var all []*Package
	for _, p := range packages {
		if p.Arch != arch && p.Arch != "all" {
			continue
		}
		all = append(all, p)
		c := candidate{p, pin(p)}
		if old, ok := r.byName[p.Name]; !ok || cmp.Or(cmp.Compare(c.pin, old.pin), p.Version.Compare(old.Version)) > 0 {
			r.byName[p.Name] = c
		}
	}
	r.universe = sync.OnceValue(func() *universe {
		return newUniverse(all, arch, pin, func(p *Package) bool { return r.byName[p.Name].Package == p })
	})
	r.order = sync.OnceValue(func() []*name { return tableOrder(r.universe().names) })
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

// rank numbers the field Priority (Debian Policy 2.5).
func rank(p *Package) int {
	if p.Priority == "" {
		return 0
	}
	i := slices.Index([]string{"required", "important", "standard", "optional"}, strings.ToLower(p.Priority))
	if i < 0 {
		return 5
	}
	return i + 1
}
