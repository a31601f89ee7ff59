package compare

import (
	"sort"
	"strings"
)

// add records a difference. One that an input which changed owns has that as its cause.
func (c *comparer) add(d Difference, field, a, b, cause string) {
	d.Field, d.A, d.B, d.Cause = field, a, b, cause
	if in := c.changedInput(d.Owner); in != "" {
		d.Cause = in
	} else if strings.Contains(d.Owner, " -> ") {
		d.Cause = d.Owner
	}
	c.record(d, "")
}

// changedInput is the cause that an owner is, when it is an input that differs: owners begin with kind and name.
func (c *comparer) changedInput(owner string) string {
	words := strings.SplitN(owner, " ", 3)
	if len(words) < 2 {
		return ""
	}
	return c.changed[words[0]+" "+words[1]]
}

// follows records a difference that is a consequence of another.
func (c *comparer) follows(d Difference, field, a, b, cause string) {
	d.Field, d.A, d.B, d.Cause, d.Follows = field, a, b, cause, true
	c.record(d, "")
}

// followsRoot records a difference that is a consequence of the root file systems if they differ. otherwise is
// its cause if they do not.
func (c *comparer) followsRoot(d Difference, field, a, b, cause, otherwise string) {
	d.Field, d.A, d.B, d.Cause = field, a, b, cause
	c.record(d, otherwise)
}

func (c *comparer) record(d Difference, pending string) {
	if field, _, _ := strings.Cut(d.Field, " "); d.Layer == LayerTree && c.opt.Ignore[field] { // "xattr NAME"
		return
	}
	if len(c.all) >= maxDifferences {
		c.r.Omitted++
		return
	}
	c.all, c.pending = append(c.all, d), append(c.pending, pending)
}

// finish sorts, counts causes and cuts long lists.
func (c *comparer) finish(same bool) *Report {
	r := c.r
	if r.Equal = same; !same {
		r.Reason = "bytes"
	}
	for i := range c.all {
		switch {
		case c.pending[i] == "":
		case c.rootSeen:
			c.all[i].Follows = true
		default:
			c.all[i].Cause = c.pending[i]
		}
	}
	sort.SliceStable(c.all, func(i, j int) bool { return rank(c.all[i].Layer) < rank(c.all[j].Layer) })
	c.causes()
	listed := map[[4]string]int{}
	for _, d := range c.all {
		k := [4]string{d.Layer, d.Where, d.Field, d.Cause}
		if listed[k]++; c.opt.PerCause > 0 && listed[k] > c.opt.PerCause {
			r.Omitted++
			continue
		}
		r.Differences = append(r.Differences, d)
	}
	r.Registers = c.registers()
	return r
}

func rank(layer string) int {
	for i, l := range layers {
		if l == layer {
			return i
		}
	}
	return len(layers)
}

// causes counts what is no consequence. Changed inputs come first: everything else may follow from them.
func (c *comparer) causes() {
	index := map[string]int{}
	add := func(cause, example string, count int) {
		i, ok := index[cause]
		if !ok {
			i = len(c.r.Causes)
			index[cause] = i
			c.r.Causes = append(c.r.Causes, Cause{Cause: cause, Example: example})
		}
		c.r.Causes[i].Count += count
	}
	for _, in := range inputCauses(c.r.Inputs) {
		add(in, "inputs", 1)
	}
	inputs := len(c.r.Causes)
	for _, d := range c.all {
		if !d.Follows {
			add(d.Cause, strings.Trim(within(d.Where, d.Path), ", "), 1)
		}
	}
	rest := c.r.Causes[inputs:]
	sort.SliceStable(rest, func(i, j int) bool {
		if rest[i].Count != rest[j].Count {
			return rest[i].Count > rest[j].Count
		}
		return !strings.HasPrefix(rest[i].Cause, "only in") && strings.HasPrefix(rest[j].Cause, "only in")
	})
}

// owner names the input that a path comes from, on both sides when they do not agree.
func (c *comparer) owner(base Difference, path string) string {
	tree := Root
	switch {
	case base.Layer == LayerCPIO:
		tree = Initrd
	case base.Layer == LayerErofs && !c.volume, base.Layer == LayerTree && base.Where == "":
	default:
		return base.Owner
	}
	if c.opt.Owner[0] == nil || c.opt.Owner[1] == nil {
		return base.Owner
	}
	return change(c.opt.Owner[0](tree, path), c.opt.Owner[1](tree, path))
}

// change is "package x 1 -> 2" for "package x 1" and "package x 2", and both texts in full for others.
func change(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	}
	i, j := strings.LastIndexByte(a, ' '), strings.LastIndexByte(b, ' ')
	if i > 0 && j > 0 && a[:i] == b[:j] {
		return a + " -> " + b[j+1:]
	}
	return a + " -> " + b
}
