package deb

import (
	"cmp"
	"slices"
	"strings"
)

// The clauses of the second solver.

// A clause says what its reason needs: one of the solutions or, when negative, none of them.
type clause struct {
	reason    literal
	group     int
	solutions []literal // the best first
	optional  bool
	negative  bool
	from      *group // the dependency it stands for; nil for another
}

// The groups of clauses, the first to be satisfied first.
const (
	satisfyNew = iota
	satisfy
	satisfyObsolete
	selectVersion
)

// discover makes the clauses of l and of all that these are about, unless it is known to be false.
func (b *search) discover(l literal) {
	todo := []literal{l}
	for len(todo) > 0 && !b.spent() {
		l := todo[0]
		todo = todo[1:]
		n := b.name(l)
		if l%2 == 1 && !b.truth(n.literal()).discovered { // the name first: versions share clauses with it
			l = n.literal()
		}
		t := b.truth(l)
		if t.discovered {
			continue
		}
		t.discovered = true
		if l%2 == 0 {
			b.discoverName(n)
		} else {
			b.discoverVersion(b.versions[l/2])
		}
		for _, c := range t.clauses {
			for _, l := range c.solutions {
				if s := b.truth(l); s.value != -1 || s.depth > 0 {
					todo = append(todo, l)
				}
			}
		}
	}
}

func (b *search) register(c *clause) {
	t := b.truth(c.reason)
	t.clauses = append(t.clauses, c)
	for _, l := range c.solutions {
		s := b.truth(l)
		s.uses = append(s.uses, c)
	}
}

// discoverName: a name needs one of its versions, and what all of these need.
func (b *search) discoverName(n *name) {
	b.register(&clause{reason: n.literal(), group: selectVersion, solutions: b.sorted(n, n.versions)})
	if len(n.versions) == 0 {
		return
	}
	for _, g := range b.everything(n.versions[0]) {
		shared := true
		for _, v := range n.versions[1:] {
			shared = shared && slices.ContainsFunc(b.everything(v), g.same)
		}
		if shared {
			b.register(b.clause(g, n.literal(), n))
		}
	}
}

// discoverVersion: a version needs its name, excludes the other versions of it, and has dependencies.
func (b *search) discoverVersion(v *version) {
	b.register(&clause{reason: v.literal(), group: selectVersion, solutions: []literal{v.of.literal()}})
	for _, w := range v.of.versions {
		if w != v {
			b.register(&clause{reason: v.literal(), group: selectVersion, solutions: []literal{w.literal()}, negative: true})
		}
	}
	for _, g := range b.everything(v) {
		known := func(c *clause) bool { return c.from != nil && c.from.same(g) }
		if !slices.ContainsFunc(b.truth(v.of.literal()).clauses, known) {
			b.register(b.clause(g, v.literal(), v.of))
		}
	}
}

// clause puts a dependency of by's into a clause. What is not needed becomes an empty one, which takes its place in the
// order of things.
func (b *search) clause(g group, reason literal, by *name) *clause {
	if g.kind >= weak {
		return &clause{reason: reason, group: satisfy, optional: true}
	}
	c := &clause{reason: reason, group: satisfyNew, negative: g.negative(), from: &g}
	for _, a := range g.alts {
		all := a.to.versions
		whole := func(v *version) bool { return a.satisfiedBy(v.Version) }
		if !g.negative() && len(a.to.providers) == 0 && len(all) > 0 && !slices.ContainsFunc(all, func(v *version) bool { return !whole(v) }) {
			c.solutions = append(c.solutions, a.to.literal())
			continue
		}
		c.solutions = append(c.solutions, b.sorted(g.alts[0].to, b.targets(a, g.negative(), by))...) // as apt has it: the first
	}
	if slices.ContainsFunc(c.solutions, func(l literal) bool { return b.isObsolete(b.name(l)) }) {
		c.group = satisfyObsolete
	}
	return c
}

// sorted puts versions that satisfy a dependency on target in order.
func (b *search) sorted(target *name, all []*version) []literal {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(x, y *version) int {
		if x.of == y.of {
			return cmp.Or(cmp.Compare(y.pin, x.pin), y.Version.Compare(x.Version))
		}
		return cmp.Or(first(x.of == target, y.of == target), first(x.of.essential, y.of.essential), first(x.of.important, y.of.important),
			cmp.Compare(rank(x.Package), rank(y.Package)), strings.Compare(x.of.text, y.of.text))
	})
	ls := make([]literal, len(all))
	for i, v := range all {
		ls[i] = v.literal()
	}
	return ls
}

// isObsolete says whether another package of a newer version of n's source is to be had.
func (b *search) isObsolete(n *name) bool {
	old, ok := b.obsolete[n]
	if !ok {
		if b.sources == nil {
			b.sources = map[string][]*version{}
			for _, v := range b.versions {
				source, _ := v.from()
				b.sources[source] = append(b.sources[source], v)
			}
		}
		source, at := n.candidate.from()
		old = n.candidate.Size == 0 || slices.ContainsFunc(b.sources[source], func(v *version) bool {
			_, is := v.from()
			return v.of != n && v.pin >= n.candidate.pin && is.Compare(at) > 0
		})
		b.obsolete[n] = old
	}
	return old
}

// everything lists the dependencies of v, those that are never followed too.
func (b *search) everything(v *version) []group {
	all := slices.Clone(b.of(v))
	b.steps += 1 + len(all)
	for i := range all {
		if i < v.preDepends {
			all[i].early = true
		}
	}
	for field, text := range v.weak {
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.Join(strings.Fields(one), ""); one == "" {
				continue
			}
			all = append(all, group{kind: weak + field, text: one})
			if field == replaces { // of the package of each architecture
				for range b.twins[strings.Split(one, "(")[0]] {
					all = append(all, group{kind: weak + field, text: one + " twin"})
				}
			}
		}
	}
	return all
}

// same says whether two dependencies are: of one kind and about the same.
func (g group) same(h group) bool {
	return g.kind == h.kind && g.early == h.early && g.text == h.text && slices.Equal(g.alts, h.alts)
}

// less says whether x is less urgent than y.
func less(x, y task) bool {
	switch xUnit, yUnit := x.size < 2, y.size < 2; {
	case (!x.optional && xUnit) != (!y.optional && yUnit):
		return !y.optional && yUnit
	case x.optional != y.optional:
		return x.optional
	case x.group != y.group:
		return x.group > y.group
	case xUnit != yUnit:
		return yUnit
	}
	return x.size < 2 && y.size < 2 && len(x.solutions) < len(y.solutions)
}
