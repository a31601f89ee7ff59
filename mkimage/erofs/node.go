package erofs

import (
	"fmt"
	"strings"

	"tally/mkimage/tree"
)

// A node is one inode to be. Hard links have none: their directory entries lead to the node of the file.
type node struct {
	e        *tree.Entry
	ino      uint32  // number from 1, what stat shows on 32-bit systems
	nlink    uint32  //
	xattrs   []byte  // encoded, see encodeXattrs
	size     int64   // i_size
	inline   int64   // bytes of the tail in the slot
	blocks   int64   // whole blocks outside the slot
	off      int64   // of the slot in the image
	start    int64   // first of the blocks
	children []child // of a directory, in order, "." and ".." included
}

// A child is one entry of a directory.
type child struct {
	name string
	node *node
}

// head is the size of the inode with its xattrs.
func (n *node) head() int64 { return inodeSize + int64(len(n.xattrs)) }

func (n *node) nid() uint64 { return uint64(n.off) / slotSize }

// newNodes makes the nodes of t in order, linked to their parents and sized.
func newNodes(t *tree.Tree) ([]*node, error) {
	entries := t.Entries()
	byPath := make(map[string]*node, len(entries))
	nodes := make([]*node, 0, len(entries))
	for _, e := range entries {
		if e.Kind == tree.HardLink {
			continue
		}
		n := &node{e: e, ino: uint32(len(nodes) + 1)}
		var err error
		if n.xattrs, err = encodeXattrs(e); err != nil {
			return nil, err
		}
		byPath[e.Path] = n
		nodes = append(nodes, n)
	}
	for _, e := range entries {
		link(byPath, e)
	}
	for _, n := range nodes {
		if err := n.measure(); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// link enters e into its parent and counts links: for a directory its own ".", the name in its parent
// and one ".." per subdirectory.
func link(byPath map[string]*node, e *tree.Entry) {
	parent := byPath[tree.Parent(e.Path)]
	n := byPath[e.Path]
	if e.Kind == tree.HardLink {
		n = byPath[e.Link]
	}
	n.nlink++
	if e.Kind == tree.Dir {
		n.nlink++
		n.children = append(n.children, child{".", n}, child{"..", parent})
	}
	if e.Path == "" {
		return
	}
	if e.Kind == tree.Dir {
		parent.nlink++
	}
	// Entries come in order of whole paths, so siblings come in order of their names.
	parent.children = append(parent.children, child{e.Path[strings.LastIndexByte(e.Path, '/')+1:], n})
}

// measure computes size, inline and blocks.
func (n *node) measure() error {
	switch n.e.Kind {
	case tree.Dir:
		sortChildren(n.children)
		n.size = n.dirSize()
	case tree.Symlink:
		n.size = int64(len(n.e.Link))
	case tree.File:
		n.size = n.e.Size
	}
	if n.head() > BlockSize {
		return fmt.Errorf("erofs: path %q from %s: %d bytes of extended attributes, want at most %d", n.e.Path, n.e.Source, len(n.xattrs), BlockSize-inodeSize)
	}
	tail := n.size % BlockSize
	if n.e.Kind != tree.Dir {
		tail = n.size
	}
	if tail > 0 && tail <= inlineMax && n.head()+tail <= BlockSize {
		n.inline = tail
	}
	n.blocks = roundUp(n.size-n.inline, BlockSize) / BlockSize
	return nil
}
