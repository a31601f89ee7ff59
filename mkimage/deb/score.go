package deb

import "slices"

// The scores of the problem resolver: what is missed most is given up last.

// makeScores rates every package: by its own priority, by those that depend on it and by what it provides.
func (r *solver) makeScores() {
	r.score = make([]int, len(r.names)+1)
	for id, st := range r.st {
		if st != nil && st.there != nil {
			r.rate(r.names[id], st.there)
		}
	}
	first := slices.Clone(r.score)
	for id, st := range r.st {
		if st != nil && st.there != nil && first[id] > 0 {
			r.inherit(st.there, first[id])
		}
	}
	for _, n := range r.order {
		if more := r.score[n.id] - first[n.id]; more != 0 {
			for _, p := range r.present(n, func(p provider) bool { return !p.implicit }) {
				r.score[p.id] += max(more, -more)
			}
		}
	}
	for _, n := range r.order {
		if st := r.st[n.id]; st != nil && st.root {
			r.score[n.id] += 10000
		}
		if n.essential || n.important {
			r.score[n.id] += 5000
		}
	}
}

// rate gives v its own points, and what it depends on or excludes theirs.
func (r *solver) rate(n *name, v *version) {
	if n.essential || n.important {
		r.score[n.id] += 100
	}
	if v.Size == 0 {
		r.score[n.id] += priorities[len(priorities)-1]
	} else {
		r.score[n.id] += priorities[rank(v.Package)]
	}
	for _, g := range r.of(v) {
		points := 1
		if g.negative() {
			points = -1
		}
		for _, a := range g.alts {
			r.reward(a, n, g.negative(), points)
		}
	}
	for _, alts := range v.weakly(recommends) {
		for _, a := range r.alternatives(alts) {
			r.reward(a, n, false, 1)
		}
	}
}

// priorities are the points for a rank: none, required, important, standard, optional and extra.
var priorities = []int{0, 3, 2, 1, -1, -2}

// reward gives points to what a is about.
func (r *solver) reward(a alternative, by *name, negative bool, points int) {
	if !(negative && a.to == by) {
		v := r.at(a.to).there
		if a.Op != "" && (v == nil || !a.satisfiedBy(v.Version)) {
			return
		}
		r.score[a.to.id] += points
	}
	for _, p := range r.present(a.to, func(p provider) bool { return a.satisfiedBy(p.as) && !(negative && p.of == by) }) {
		r.score[p.id] += points
	}
}

// present lists the packages that are there and provide n in a way that counts, each once.
func (r *solver) present(n *name, counts func(provider) bool) []*name {
	var all []*name
	r.steps += 1 + len(n.providers)
	for _, p := range n.providers {
		if st := r.st[p.of.id]; st != nil && st.there == p.version && counts(p) {
			all = append(all, p.of)
		}
	}
	return slices.Compact(all) // those of one package follow one another
}

// inherit passes points on to what v depends on or recommends, if that is there.
func (r *solver) inherit(v *version, points int) {
	pass := func(alts []alternative) {
		for _, a := range alts {
			if st := r.st[a.to.id]; st != nil && st.there != nil {
				r.score[a.to.id] += points
			}
		}
	}
	for _, g := range r.of(v) {
		if !g.negative() {
			pass(g.alts)
		}
	}
	for _, alts := range v.weakly(recommends) {
		pass(r.alternatives(alts))
	}
}
