package compare

import (
	"bytes"
	"fmt"
	"path"
	"sort"
	"strings"
	"time"
)

// modelsFile names the root hashes of the model volumes of an image.
const modelsFile = "/etc/tally/models"

// A node is one path of a tree, whatever held it. Fields that a container does not know are zero on both sides.
type node struct {
	path, kind string // kind: file, directory, symlink, …
	perm       uint32
	uid, gid   uint32
	mtime      int64 // seconds since 1970
	nsec       uint32
	nlink      uint32
	target     string
	device     string
	xattrs     map[string]string
	content    source // of a file
	id         any    // names of one inode have equal ids; nil: has no other names
	extra      []field
}

// A field is a named value that is compared as text.
type field struct {
	name, value, cause string
}

// A fileTree is a tree with its nodes in the order in which the container stores them.
type fileTree struct {
	nodes  []*node
	byPath map[string]*node
	groups map[any][]string    // paths of each inode with more than one name
	orders map[string][]string // orders in which things are stored, by what is ordered: paths
}

func newTree(nodes []*node) *fileTree {
	t := &fileTree{nodes: nodes, byPath: make(map[string]*node, len(nodes)), groups: map[any][]string{}, orders: map[string][]string{}}
	last := map[string]int{} // number given to each name that an archive holds more than once
	for _, n := range nodes {
		for path := n.path; t.byPath[n.path] != nil; { // again: "a (2)" may be a name of its own
			last[path] = max(last[path], 1) + 1
			n.path = fmt.Sprintf("%s (%d)", path, last[path])
		}
		t.byPath[n.path] = n
		if n.id != nil {
			t.groups[n.id] = append(t.groups[n.id], n.path)
		}
	}
	for id, paths := range t.groups {
		if len(paths) < 2 {
			delete(t.groups, id)
		}
		sort.Strings(paths)
	}
	return t
}

// others are the names of n's inode, n's own included; nil when it has one only.
func (t *fileTree) others(n *node) []string {
	if n.id == nil {
		return nil
	}
	return t.groups[n.id]
}

// trees compares two trees. base is what every difference has in common: layer and container.
func (c *comparer) trees(base Difference, a, b *fileTree) error {
	c.onlyIn(base, a, b, true)
	c.onlyIn(base, b, a, false)
	if err := c.ctx.Err(); err != nil {
		return err
	}
	linked := map[string]bool{}
	for _, x := range a.nodes {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		y := b.byPath[x.path]
		if y == nil {
			continue
		}
		d := base
		d.Path, d.Owner = x.path, c.owner(base, x.path)
		if x.kind != y.kind {
			c.add(d, "type", x.kind, y.kind, "another type of file")
			continue
		}
		c.fields(d, x, y)
		c.links(d, a, b, x, y, linked)
		if err := c.contents(d, x, y); err != nil {
			return err
		}
	}
	c.order(base, a, b)
	return nil
}

// onlyIn reports what is in a alone: the top of each subtree, with the number of entries below it.
func (c *comparer) onlyIn(base Difference, a, b *fileTree, isA bool) {
	below := map[string]int{}
	var tops []*node
	for _, n := range a.nodes {
		if c.ctx.Err() != nil {
			return // to a caller that asks, too
		}
		if b.byPath[n.path] != nil {
			continue
		}
		top := n.path
		for p := parent(top); p != "" && p != "/" && b.byPath[p] == nil && a.byPath[p] != nil; p = parent(p) {
			top = p
		}
		if top == n.path {
			tops = append(tops, n)
		} else {
			below[top]++
		}
	}
	for _, n := range tops {
		d := base
		d.Path, d.Owner = n.path, c.owner(base, n.path)
		text := describe(n)
		if k := below[n.path]; k > 0 {
			text += fmt.Sprintf(", and %d entries below", k)
		}
		if isA {
			c.add(d, "entry", text, "", "only in A")
		} else {
			c.add(d, "entry", "", text, "only in B")
		}
	}
}

func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)]
}

func describe(n *node) string {
	switch {
	case n.content != nil:
		return fmt.Sprintf("%s, %d bytes", n.kind, n.content.Size())
	case n.target != "":
		return fmt.Sprintf("%s to %q", n.kind, n.target)
	}
	return n.kind
}

// fields compares everything but contents and links.
func (c *comparer) fields(d Difference, x, y *node) {
	if x.perm != y.perm {
		c.add(d, "mode", fmt.Sprintf("%04o", x.perm), fmt.Sprintf("%04o", y.perm), modeCause(x.perm, y.perm))
	}
	if x.uid != y.uid || x.gid != y.gid {
		c.add(d, "owner", fmt.Sprintf("%d:%d", x.uid, x.gid), fmt.Sprintf("%d:%d", y.uid, y.gid), "owner (the user who built)")
	}
	if x.mtime != y.mtime || x.nsec != y.nsec {
		c.add(d, "mtime", timeText(x.mtime, x.nsec), timeText(y.mtime, y.nsec), "mtime (a clock or a time of unpacking)")
	}
	if x.target != y.target {
		c.add(d, "target", x.target, y.target, "symlink target")
	}
	if x.device != y.device {
		c.add(d, "device", x.device, y.device, "device number")
	}
	c.pairs(d, x.extra, y.extra)
	for _, name := range unionKeys(x.xattrs, y.xattrs) {
		v, inA := x.xattrs[name]
		w, inB := y.xattrs[name]
		if v != w || inA != inB {
			c.add(d, "xattr "+name, hexOr(v, inA), hexOr(w, inB), "extended attribute")
		}
	}
}

// pairs compares two lists of fields with the same names in the same order.
func (c *comparer) pairs(d Difference, x, y []field) {
	for i := range min(len(x), len(y)) {
		if x[i].name == y[i].name && x[i].value != y[i].value {
			c.add(d, x[i].name, x[i].value, y[i].value, x[i].cause)
		}
	}
}

func unionKeys(a, b map[string]string) []string {
	var all []string
	for k := range a {
		all = append(all, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			all = append(all, k)
		}
	}
	sort.Strings(all)
	return all
}

func hexOr(v string, there bool) string {
	if !there {
		return ""
	}
	return fmt.Sprintf("0x%.64x", v)
}

func timeText(sec int64, nsec uint32) string {
	return time.Unix(sec, int64(nsec%1e9)).UTC().Format(time.RFC3339Nano)
}

// contents compares the bytes of two files.
func (c *comparer) contents(d Difference, x, y *node) error {
	if x.content == nil || y.content == nil {
		return nil
	}
	same, err := c.same(x.content, y.content)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %s: %w", d.Where, d.Path, err)
	case same:
		return nil
	case d.Path == modelsFile && c.models:
		c.follows(d, "content", c.digestText(x.content), c.digestText(y.content), "root hashes of model volumes that differ")
		return nil
	case d.Layer == LayerTree && path.Base(d.Path) == lockName && c.differs(lockName):
		c.follows(d, "content", c.digestText(x.content), c.digestText(y.content), "the lock differs")
		return nil
	case d.Layer == LayerTree && isImage(kindOf(x.content)) && kindOf(x.content) == kindOf(y.content):
		return c.container(within(d.Where, d.Path), x.content, y.content)
	}
	return c.content(d, x.content, y.content)
}

// same is equal for the many small files of a tree, whose bytes it reads into buffers that stay.
func (c *comparer) same(a, b source) (bool, error) {
	const small = 256 << 10
	if a.Size() != b.Size() || a.Size() > small {
		return equal(c.ctx, a, b)
	}
	if c.buffers[0] == nil {
		c.buffers = [2][]byte{make([]byte, small), make([]byte, small)}
	}
	x, y := c.buffers[0][:a.Size()], c.buffers[1][:a.Size()]
	err := readBoth(c.ctx, a, b, x, y, 0)
	return err == nil && bytes.Equal(x, y), err
}
