package oci

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"tally/mkimage/tree"
)

// Options are what Flatten needs besides the image.
type Options struct {
	Open     func(Blob) (io.ReadCloser, error) // the bytes of a layer; they are checked
	Scratch  func() string                     // a new file name each time: contents of the tree lie there
	Declared func(tree.Entry) bool             // device nodes that somebody else puts there and that may be skipped; nil: none
	Source   string                            // of the entries, for messages
	Limit    int64                             // bytes of all archives together, uncompressed; 0: MaxImage
}

// Flatten applies the layers of an image and returns what they make. Contents of the tree refer to the
// scratch files, which must stay. On error scratch files are left to the caller.
func Flatten(ctx context.Context, layers []Layer, o Options) (*tree.Tree, error) {
	f := &flat{root: &node{kids: map[string]*node{}}, left: tree.MaxEntries}
	if o.Limit == 0 {
		o.Limit = MaxImage
	}
	entries := 0
	for i, l := range layers {
		c, size, err := o.read(ctx, l)
		o.Limit -= size
		if err == nil {
			if entries += len(c.entries); entries > tree.MaxEntries {
				err = fmt.Errorf("more than %d entries with those of the layers below", tree.MaxEntries)
			} else {
				err = f.apply(i+1, c)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i, l.Digest, err)
		}
	}
	return f.tree(o.Source)
}

// read unpacks and reads one layer, of which it also returns the uncompressed size in bytes.
func (o Options) read(ctx context.Context, l Layer) (*change, int64, error) {
	r, err := o.Open(l.Blob)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	name := o.Scratch()
	f, err := l.unpackTo(ctx, name, r, min(o.Limit, MaxLayer))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	c, err := readLayer(ctx, f, name, o.Source, o.Declared)
	return c, fi.Size(), err
}

// A node is one name. Two names of a file share the entry.
type node struct {
	e        *tree.Entry      // nil: a directory that only a path below it implies
	kids     map[string]*node // of a directory, else nil
	touched  int              // the layer, from 1, that last put something at or below this name
	explicit int              // the layer, from 1, that last described this name
}

func (n *node) kind() tree.Kind {
	if n.e == nil {
		return tree.Dir
	}
	return n.e.Kind
}

// A flat is the state after some layers.
type flat struct {
	root *node
	left int // directories that may still be made because a path implies them
}

// apply applies one layer, counted from 1.
func (f *flat) apply(layer int, c *change) error {
	gone := sync.OnceValue(c.gone)
	for _, p := range c.emptied {
		dir, err := f.whitedOut(p, gone)
		if err != nil {
			return err
		}
		if dir != nil {
			clear(dir.kids)
		}
	}
	for _, p := range c.removed {
		dir, err := f.whitedOut(tree.Parent(p), gone)
		if err != nil {
			return err
		}
		if dir != nil {
			delete(dir.kids, base(p))
		}
	}
	for i := range c.entries {
		if err := f.put(layer, &c.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// gone returns the paths at which the layer has a directory or removes what is there: who replaces a file by a directory marks
// that as opaque, too, and such a whiteout has nothing below it to remove.
func (c *change) gone() map[string]bool {
	paths := map[string]bool{}
	for i := range c.entries {
		if e := &c.entries[i]; e.Kind == tree.Dir {
			paths[e.Path] = true
		}
	}
	for _, p := range c.removed {
		paths[p] = true
	}
	return paths
}

// whitedOut returns the directory at p, in which a whiteout stands; nil where there is nothing, or will be nothing of the layers below.
func (f *flat) whitedOut(p string, gone func() map[string]bool) (*node, error) {
	n, at := f.find(p)
	if n == nil || n.kids != nil {
		return n, nil
	}
	if gone()[at] {
		return nil, nil
	}
	if at != p {
		return nil, notDirectory(p, at, n)
	}
	return nil, fmt.Errorf("path %q: holds a whiteout, but is a %s", p, n.kind())
}

func notDirectory(p, at string, n *node) error {
	return fmt.Errorf("path %q: %q is a %s, not a directory", p, at, n.kind())
}

func base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// find returns the node at p and p, or nil; where something on the way is no directory, that and its path. What lies behind a link is not
// looked for.
func (f *flat) find(p string) (n *node, at string) {
	n = f.root
	for end := 0; end < len(p); {
		if n.kids == nil {
			return n, p[:max(end-1, 0)]
		}
		next := len(p)
		if i := strings.IndexByte(p[end:], '/'); i >= 0 {
			next = end + i
		}
		if n = n.kids[p[end:next]]; n == nil {
			return nil, ""
		}
		end = next + 1
	}
	return n, p
}

// put adds one entry.
func (f *flat) put(layer int, e *tree.Entry) error {
	dir, err := f.directory(layer, e.Path)
	if err != nil {
		return err
	}
	name := base(e.Path)
	old := dir.kids[name]
	if old != nil && (old.explicit == layer && !sameDir(old.e, e) || old.touched == layer && e.Kind != tree.Dir) {
		return fmt.Errorf("path %q: twice in this layer", e.Path)
	}
	n := &node{e: e, touched: layer, explicit: layer}
	switch {
	case e.Kind == tree.Dir && old != nil && old.kids != nil:
		n.kids = old.kids
	case e.Kind == tree.Dir:
		n.kids = map[string]*node{}
	case e.Kind == tree.HardLink:
		target, at := f.find(e.Link)
		if target == nil || at != e.Link {
			return fmt.Errorf("path %q: hard link to %q, which is not there", e.Path, e.Link)
		}
		if target.kids != nil {
			return fmt.Errorf("path %q: hard link to %q, which is a directory", e.Path, e.Link)
		}
		n.e = target.e
	}
	dir.kids[name] = n
	return nil
}

// sameDir says whether both describe one directory alike: some writers repeat directories.
func sameDir(a, b *tree.Entry) bool {
	return a != nil && a.Kind == tree.Dir && b.Kind == tree.Dir && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.MTime == b.MTime &&
		maps.EqualFunc(a.Xattrs, b.Xattrs, func(x, y []byte) bool { return string(x) == string(y) })
}

// directory returns the directory that p lies in, made where nothing is.
func (f *flat) directory(layer int, p string) (*node, error) {
	n := f.root
	parent := tree.Parent(p)
	if parent == "" {
		return n, nil
	}
	for i, el := range strings.Split(parent, "/") {
		kid := n.kids[el]
		if kid == nil {
			if f.left--; f.left < 0 {
				return nil, fmt.Errorf("path %.200q: more than %d directories that paths imply", p, tree.MaxEntries)
			}
			kid = &node{kids: map[string]*node{}}
			n.kids[el] = kid
		}
		if kid.kids == nil {
			return nil, fmt.Errorf("path %q: %q is a %s, and nothing is written through it", p, strings.Join(strings.Split(parent, "/")[:i+1], "/"), kid.kind())
		}
		kid.touched = layer
		n = kid
	}
	return n, nil
}

// tree lists the result. Of the names of one file the first, bytewise, is the file, the others are links.
func (f *flat) tree(source string) (*tree.Tree, error) {
	all := map[string]*tree.Entry{}
	var walk func(n *node, p string)
	walk = func(n *node, p string) {
		for name, kid := range n.kids {
			at := strings.TrimPrefix(p+"/"+name, "/")
			if all[at] = kid.e; kid.e == nil {
				all[at] = &tree.Entry{Kind: tree.Dir, Mode: 0o755, Source: source}
			}
			walk(kid, at)
		}
	}
	walk(f.root, "")
	t := tree.New()
	first := map[*tree.Entry]string{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		e := *all[p]
		e.Path = p
		if e.Kind == tree.File {
			if target, ok := first[all[p]]; ok {
				e = tree.Entry{Path: p, Kind: tree.HardLink, Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: e.MTime, Link: target, Source: e.Source}
			} else {
				first[all[p]] = p
			}
		}
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
	return t, nil
}
