package compare

import (
	"fmt"
	"slices"
	"sort"

	"tally/compare/erofs"
)

var erofsKinds = map[erofs.Kind]string{
	erofs.KindFIFO: "fifo", erofs.KindCharDev: "character device", erofs.KindDir: "directory", erofs.KindBlockDev: "block device",
	erofs.KindFile: "file", erofs.KindSymlink: "symlink", erofs.KindSocket: "socket",
}

// roots compares two EROFS images whose bytes differ.
func (c *comparer) roots(where string, a, b source) error {
	x, err := erofs.Open(a)
	if err != nil {
		return unread("A", err)
	}
	y, err := erofs.Open(b)
	if err != nil {
		return unread("B", err)
	}
	c.rootSeen = true
	base := Difference{Layer: LayerErofs, Where: where}
	before := len(c.all)
	if err := c.trees(base, erofsTree(x), erofsTree(y)); err != nil {
		return err
	}
	c.supers(base, x, y, len(c.all) > before)
	if a.Size() != b.Size() {
		return nil
	}
	seen := map[string]bool{}
	for _, d := range c.all[before:] {
		seen[d.Path] = true
	}
	return c.unexplained(base, a, b, x, y, seen)
}

// erofsTree is the tree of an image. Things are stored in the order of their inodes, and of their blocks.
func erofsTree(m *erofs.Image) *fileTree {
	var nodes []*node
	type place struct {
		path string
		at   int64
	}
	var inodes, blocks []place
	m.Walk(func(path string, n *erofs.Inode) error {
		f := &node{path: path, kind: erofsKinds[n.Kind()], perm: uint32(n.Perm()), uid: n.UID, gid: n.GID, mtime: n.MTime, nsec: n.Nsec, nlink: n.Nlink, target: n.Target, xattrs: n.Xattrs}
		switch n.Kind() {
		case erofs.KindFile:
			f.content = m.Content(n)
			f.id = n.NID
			if at := n.Data(); at > 0 {
				blocks = append(blocks, place{path, at})
			}
		case erofs.KindCharDev, erofs.KindBlockDev:
			f.device = fmt.Sprintf("%d:%d", n.Rdev>>8&0xfff, n.Rdev&0xff|n.Rdev>>12&^0xff)
		}
		inodes = append(inodes, place{path, int64(n.NID)})
		nodes = append(nodes, f)
		return nil
	})
	t := newTree(nodes)
	for name, places := range map[string][]place{"inodes": inodes, "file contents": blocks} {
		sort.SliceStable(places, func(i, j int) bool { return places[i].at < places[j].at })
		for _, p := range places {
			t.orders[name] = append(t.orders[name], p.path)
		}
	}
	return t
}

// supers compares the superblocks. Identifiers that derive from the content follow from it.
func (c *comparer) supers(base Difference, x, y *erofs.Image, treeDiffers bool) {
	d := base
	d.Path = "superblock"
	p, q := x.Super, y.Super
	if p.BuildTime != q.BuildTime || p.BuildNsec != q.BuildNsec {
		c.add(d, "build time", timeText(p.BuildTime, p.BuildNsec), timeText(q.BuildTime, q.BuildNsec), "build time (a clock, or another epoch in the spec)")
	}
	c.uuids(d, "UUID", p.UUID[:], q.UUID[:])
	for _, f := range []pairField{
		{"block size", fmt.Sprint(p.BlockSize), fmt.Sprint(q.BlockSize), "options of the file system"},
		{"label", p.Label, q.Label, "label (the image's name)"},
		{"features", fmt.Sprintf("%#x, %#x", p.Compat, p.Incompat), fmt.Sprintf("%#x, %#x", q.Compat, q.Incompat), "options of the file system, or another program that wrote it"},
		{"checksum", stands(p.ChecksumStands), stands(q.ChecksumStands), "superblock changed after it was written"},
	} {
		if f.a != f.b {
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	for _, f := range []pairField{{"inodes", fmt.Sprint(p.Inodes), fmt.Sprint(q.Inodes), ""}, {"blocks", fmt.Sprint(p.Blocks), fmt.Sprint(q.Blocks), ""}, {"root nid", fmt.Sprint(p.RootNID), fmt.Sprint(q.RootNID), ""}} {
		switch {
		case f.a == f.b:
		case treeDiffers:
			c.follows(d, f.name, f.a, f.b, "size of the tree")
		default:
			c.add(d, f.name, f.a, f.b, "another layout of the same tree (another program, version or options)")
		}
	}
}

func stands(ok bool) string {
	if ok {
		return "right"
	}
	return "wrong"
}

// uuids compares two UUIDs. Version 8 is what this project derives from the content (RFC 9562, 5.8).
func (c *comparer) uuids(d Difference, field string, x, y []byte) {
	if string(x) == string(y) {
		return
	}
	text := func(u []byte) string { return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]) }
	if x[6]>>4 == 8 && y[6]>>4 == 8 {
		c.followsRoot(d, field, text(x), text(y), "UUID made of the content", "UUID made of other content")
	} else {
		c.add(d, field, text(x), text(y), "UUID (a random one)")
	}
}

// unexplained looks for blocks that differ although no path that owns them does: padding, slack, another
// layout of the same tree. Where things lie in other places, every block may differ, and only a tree without a
// difference says something.
func (c *comparer) unexplained(base Difference, a, b source, x, y *erofs.Image, seen map[string]bool) error {
	if !sameLayout(x, y) {
		if len(seen) == 0 {
			c.add(base, "layout", "inodes and contents", "in other places", "another layout of the same tree (another program, version or options)")
		}
		return nil
	}
	diff, err := diffBytes(c.ctx, a, b, x.Super.BlockSize)
	if err != nil {
		return err
	}
	const most = 5
	said := 0
	for _, block := range diff.blocks {
		owners := x.Owner(uint64(block))
		if block == superBlock(x) && seen["superblock"] || slices.ContainsFunc(owners, func(o string) bool { return seen[o] }) {
			continue
		}
		d := base
		if d.Path = "no path"; len(owners) > 0 {
			d.Path = owners[0]
		}
		if said++; said > most {
			break
		}
		c.add(d, fmt.Sprintf("block %d", block), "bytes", "other bytes", "bytes that no reader shows (padding or slack)")
	}
	return nil
}

func superBlock(m *erofs.Image) int64 { return 1024 / m.Super.BlockSize }

// sameLayout says whether every path of both images has its inode and its contents in the same place.
func sameLayout(x, y *erofs.Image) bool {
	type place struct {
		nid        uint64
		data, size int64
	}
	places := map[string]place{}
	x.Walk(func(path string, n *erofs.Inode) error {
		places[path] = place{n.NID, n.Data(), n.Size}
		return nil
	})
	same := x.Super.BlockSize == y.Super.BlockSize
	y.Walk(func(path string, n *erofs.Inode) error {
		p, ok := places[path]
		same = same && ok && p == place{n.NID, n.Data(), n.Size}
		delete(places, path)
		return nil
	})
	return same && len(places) == 0
}
