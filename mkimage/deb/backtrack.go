package deb

import (
	"cmp"
	"slices"
)

// The second solver of apt 3.0 (solver3.cc, as of 3.0.4), which it asks when the first has failed. It sees names and
// versions as things that are true or not, and dependencies as clauses about them; it chooses, draws
// conclusions, and takes choices back that come to nothing. The order of tasks of equal urgency shows in the
// answers, so the heap that they are on is libstdc++'s, and clauses of which nothing follows are on it, too.

// A literal is a name, 2*id, or a version, 2*id+1; none is what the spec itself wants.
type literal int

const none literal = -1

func (n *name) literal() literal { return literal(2 * n.id) }

func (v *version) literal() literal { return literal(2*v.id + 1) }

// A truth is what is known of a literal.
type truth struct {
	value      int // 1 is true, -1 false, 0 open
	depth      int // number of choices that led to it
	discovered bool
	clauses    []*clause // about what it needs
	uses       []*clause // in which it stands
}

// A task is a clause that has yet to be satisfied.
type task struct {
	*clause
	depth  int
	size   int     // number of its solutions that are not false
	choice literal // the one that was tried
}

// A step is something that can be undone: a literal that got its value, or a task that was taken up.
type step struct {
	literal literal
	task    *task
}

// A search is one run of the second solver.
type search struct {
	*state
	versions []*version // by id
	truths   map[literal]*truth
	sources  map[string][]*version
	obsolete map[*name]bool
	tasks    []task // a heap
	done     []step
	queue    []literal // values from which no conclusions were drawn yet
	choices  []int     // indexes into done
}

// backtrack looks for packages that go together with roots. It is nil if there are none.
func (s *state) backtrack(order, roots []*name) *state {
	b := &search{state: s, truths: map[literal]*truth{}, obsolete: map[*name]bool{}}
	for _, n := range order { // only candidates are ever installed
		b.versions = append(b.versions, n.versions...)
		for _, v := range n.versions {
			if v != n.candidate {
				b.truth(v.literal()).value = -1
			}
		}
	}
	slices.SortFunc(b.versions, func(x, y *version) int { return cmp.Compare(x.id, y.id) })
	for _, n := range order {
		if slices.Contains(roots, n) && !b.assign(n.candidate.literal(), true) {
			return nil
		}
	}
	if !b.conclude() || !b.run() {
		return nil
	}
	return b.outcome(roots)
}

// outcome is what is true in the end.
func (b *search) outcome(roots []*name) *state {
	s := newState(b.universe)
	s.byName = b.byName
	for l, t := range b.truths {
		if t.value == 1 && l%2 == 1 {
			n := b.versions[l/2].of
			st := s.at(n)
			st.root = slices.Contains(roots, n)
			st.settled, st.auto = st.root, !st.root
			st.wanted, st.there = true, st.candidate
		}
	}
	if s.brokenCount() > 0 {
		return nil
	}
	return s
}

func (b *search) truth(l literal) *truth {
	t := b.truths[l]
	if t == nil {
		t = &truth{}
		b.truths[l] = t
	}
	return t
}

func (b *search) name(l literal) *name {
	if l%2 == 1 {
		return b.versions[l/2].of
	}
	return b.names[l/2]
}

// assign gives l a value. It is false if l has the other one.
func (b *search) assign(l literal, value bool) bool {
	want := -1
	if value {
		want = 1
	}
	t := b.truth(l)
	if t.value != 0 {
		return t.value == want
	}
	t.value, t.depth = want, len(b.choices)
	b.done = append(b.done, step{literal: l})
	b.queue = append(b.queue, l)
	return true
}

// conclude draws conclusions from the new values. It is false when two of them do not go together; the rest of
// the queue stays, as in apt.
func (b *search) conclude() bool {
	for len(b.queue) > 0 {
		l := b.queue[0]
		b.queue = b.queue[1:]
		ok := true
		switch t := b.truth(l); t.value {
		case 1:
			ok = b.concludeTrue(l, t)
		case -1:
			ok = b.concludeFalse(t)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (b *search) concludeTrue(l literal, t *truth) bool {
	if b.discover(l); b.spent() {
		return false
	}
	for _, c := range t.clauses {
		if !b.add(task{clause: c, depth: len(b.choices)}) {
			return false
		}
	}
	for _, c := range t.uses {
		if c.negative && !c.optional && c.reason != none && !b.assign(c.reason, false) {
			return false
		}
	}
	return true
}

func (b *search) concludeFalse(t *truth) bool {
	for _, c := range t.uses {
		b.steps += len(c.solutions)
		if c.negative || c.reason == none || b.truth(c.reason).value == -1 {
			continue
		}
		left := b.left(c)
		ok := true
		switch {
		case left == 1 && b.truth(c.reason).value == 1 && c.optional:
			ok = b.add(task{clause: c, depth: len(b.choices)})
		case left == 1 && b.truth(c.reason).value == 1:
			for _, l := range c.solutions {
				if b.truth(l).value == 0 && !b.assign(l, true) {
					return false
				}
			}
		case left == 0 && !c.optional:
			ok = b.assign(c.reason, false)
		}
		if !ok {
			return false
		}
	}
	return true
}

// left is the number of solutions of c that are not false.
func (b *search) left(c *clause) int {
	count := 0
	for _, l := range c.solutions {
		if b.truth(l).value != -1 {
			count++
		}
	}
	return count
}

// add takes on a task: at once, if there is nothing to choose.
func (b *search) add(t task) bool {
	if t.negative {
		for _, l := range t.solutions {
			if !b.assign(l, false) {
				return false
			}
		}
		return true
	}
	if len(t.solutions) == 1 && !t.optional {
		return b.assign(t.solutions[0], true)
	}
	b.steps += 1 + len(t.solutions)
	t.size = b.left(t.clause)
	b.tasks = append(b.tasks, t)
	introsort[task]{less: less}.rise(b.tasks, len(b.tasks)-1, 0, t)
	return true
}

// run takes up tasks until none is left. It is false when no choice is left to take back.
func (b *search) run() bool {
	for {
		for !b.conclude() {
			if !b.back() {
				return false
			}
		}
		if len(b.tasks) == 0 {
			return true
		}
		if b.spent() || !b.take() {
			return false
		}
	}
}

// take takes up the most urgent task.
func (b *search) take() bool {
	last := len(b.tasks) - 1
	t := b.tasks[0]
	if last > 0 {
		introsort[task]{less: less}.adjust(b.tasks[:last], 0, b.tasks[last])
	}
	b.tasks = b.tasks[:last]
	b.done = append(b.done, step{none, &t})
	b.steps += 1 + len(t.solutions)
	if slices.ContainsFunc(t.solutions, func(l literal) bool { return b.truth(l).value == 1 }) {
		return true
	}
	for _, l := range t.solutions {
		if b.truth(l).value == -1 {
			continue
		}
		if t.size > 1 || t.optional {
			tried := t
			tried.choice = l
			b.choices = append(b.choices, len(b.done))
			b.done = append(b.done, step{none, &tried})
		}
		return b.assign(l, true) || b.back()
	}
	return t.optional || b.back()
}

// back takes back the last choice and makes it false.
func (b *search) back() bool {
	if len(b.choices) == 0 || b.spent() {
		return false
	}
	last := len(b.choices) - 1
	choice := b.done[b.choices[last]].task.choice
	for len(b.done) > b.choices[last] {
		one := b.done[len(b.done)-1]
		if one.literal != none {
			t := b.truth(one.literal)
			t.value, t.depth = 0, 0
		}
		if one.task != nil {
			b.add(*one.task)
		}
		b.done = b.done[:len(b.done)-1]
	}
	b.choices = b.choices[:last]
	b.tasks = slices.DeleteFunc(b.tasks, func(t task) bool { return t.depth > len(b.choices) })
	introsort[task]{less: less}.heapify(b.tasks)
	return b.assign(choice, false)
}
