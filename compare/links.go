package compare

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// links compares which paths are names of one inode, once for each group of names.
// done has the paths of the groups that were compared before, and whether they are equal.
func (c *comparer) links(d Difference, a, b *fileTree, x, y *node, done map[string]bool) {
	p, q := a.others(x), b.others(y)
	equal, again := done[x.path]
	if !again {
		equal = slices.Equal(p, q)
		for _, path := range slices.Concat(p, q) {
			done[path] = equal
		}
	}
	if equal {
		if x.nlink != y.nlink && x.kind != "directory" {
			c.add(d, "link count", fmt.Sprint(x.nlink), fmt.Sprint(y.nlink), "link count")
		}
		return
	}
	if again {
		return
	}
	cause := "other hard links"
	switch {
	case q == nil:
		cause = "hard link in A, copy in B"
	case p == nil:
		cause = "copy in A, hard link in B"
	}
	c.add(d, "hard links", linkText(p), linkText(q), cause)
}

func linkText(paths []string) string {
	if paths == nil {
		return "none"
	}
	if len(paths) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(paths[:5], " "), len(paths)-5)
	}
	return strings.Join(paths, " ")
}

// order compares the orders in which the common paths are stored.
func (c *comparer) order(base Difference, a, b *fileTree) {
	var names []string
	for name := range a.orders {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		x, y := common(a.orders[name], b.byPath), common(b.orders[name], a.byPath)
		for i := range min(len(x), len(y)) {
			if x[i] != y[i] {
				d := base
				d.Path = x[i]
				c.add(d, "order of "+name, fmt.Sprintf("number %d is %s", i+1, x[i]), fmt.Sprintf("number %d is %s", i+1, y[i]),
					"order of files (of a directory listing or of parallel work)")
				break
			}
		}
	}
}

func common(paths []string, in map[string]*node) []string {
	var all []string
	for _, p := range paths {
		if in[p] != nil {
			all = append(all, p)
		}
	}
	return all
}
