package compare

import (
	"fmt"
	"time"

	"tally/compare/internal/fat"
)

// esps compares two FAT file systems whose bytes differ.
func (c *comparer) esps(where string, a, b source) error {
	x, err := fat.Open(a, a.Size())
	if err != nil {
		return unread("A", err)
	}
	y, err := fat.Open(b, b.Size())
	if err != nil {
		return unread("B", err)
	}
	d := Difference{Layer: LayerESP, Where: where, Path: "boot sector"}
	before := len(c.all)
	for _, f := range bootFields(x, y) {
		if f.a != f.b {
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	if x.Clusters != y.Clusters {
		c.follows(d, "clusters", fmt.Sprint(x.Clusters), fmt.Sprint(y.Clusters), "size of the ESP")
	}
	if err := c.espFiles(where, x, y); err != nil {
		return err
	}
	if len(c.all) > before {
		return nil
	}
	diff, err := diffBytes(c.ctx, a, b, 512)
	if err == nil {
		d.Path = ""
		c.add(d, "bytes", fmt.Sprintf("0x%02x at byte %d", diff.x, diff.first), fmt.Sprintf("0x%02x, %d bytes differ", diff.y, diff.count), causeSlack)
	}
	return err
}

// bootFields are the values of the boot sectors and what comes of them.
func bootFields(x, y *fat.Volume) []pairField {
	return []pairField{
		{"FAT type", fmt.Sprint(x.Bits), fmt.Sprint(y.Bits), "another program or size"},
		{"OEM name", x.OEM, y.OEM, "another program that made the file system"},
		{"serial", fmt.Sprintf("%08x", x.Serial), fmt.Sprintf("%08x", y.Serial), "volume serial (a random one, a clock, or another name)"},
		{"label", x.Label, y.Label, "volume label"},
		{"hidden sectors", fmt.Sprint(x.Hidden), fmt.Sprint(y.Hidden), "place of the partition"},
		{"sector size", fmt.Sprint(x.SectorSize), fmt.Sprint(y.SectorSize), "options of the file system"},
		{"cluster size", fmt.Sprint(x.ClusterSize), fmt.Sprint(y.ClusterSize), "options of the file system"},
		{"media byte", fmt.Sprintf("%#x", x.Media), fmt.Sprintf("%#x", y.Media), "options of the file system"},
		{"copies of the table", fmt.Sprint(x.TablesEqual), fmt.Sprint(y.TablesEqual), "damage: the copies of the table are not equal"},
	}
}

// espFiles compares the entries, and takes apart the boot programs that differ.
func (c *comparer) espFiles(where string, x, y *fat.Volume) error {
	base := Difference{Layer: LayerESP, Where: where}
	p, q := fatTree(x), fatTree(y)
	var programs [][2]*node
	for path, n := range p.byPath {
		if m := q.byPath[path]; m != nil && n.content != nil && m.content != nil && kindOf(n.content) == kindUKI && kindOf(m.content) == kindUKI {
			programs = append(programs, [2]*node{n, m})
		}
	}
	contents := map[*node][2]source{}
	for _, pair := range programs { // contents are taken apart below, the rest is compared here
		contents[pair[0]] = [2]source{pair[0].content, pair[1].content}
		pair[0].content, pair[1].content = nil, nil
	}
	if err := c.espParts(where, p, q); err != nil {
		return err
	}
	if err := c.trees(base, p, q); err != nil {
		return err
	}
	for _, n := range p.nodes {
		pair, ok := contents[n]
		if !ok {
			continue
		}
		same, err := equal(c.ctx, pair[0], pair[1])
		if err != nil {
			return err
		}
		if same {
			continue
		}
		before := c.unread
		c.unread = false
		if err := c.container(within(where, n.path), pair[0], pair[1]); err != nil {
			return err
		}
		if n.content = pair[0]; c.unread {
			c.espPart(where, n, nil)
		}
		c.unread = before
	}
	return nil
}

// espParts names the parts of what the two do not have alike, beside the programs that are taken apart.
func (c *comparer) espParts(where string, p, q *fileTree) error {
	for _, n := range p.nodes {
		m, same := q.byPath[n.path], true
		switch {
		case m == nil:
			same = n.kind != "file" // an empty directory is nothing to anyone
		case n.kind != m.kind, shortName(n) != shortName(m):
			same = false
		case n.content != nil && m.content != nil:
			var err error
			if same, err = equal(c.ctx, n.content, m.content); err != nil {
				return err
			}
		}
		if !same {
			c.espPart(where, n, m)
		}
	}
	for _, m := range q.nodes {
		if p.byPath[m.path] == nil && m.kind == "file" {
			c.espPart(where, nil, m)
		}
	}
	return nil
}

// shortName is the other name by which a program finds an entry.
func shortName(n *node) string { return n.extra[len(n.extra)-1].value }

func fatTree(v *fat.Volume) *fileTree {
	var nodes []*node
	var stored []string
	for i := range v.Entries {
		e := &v.Entries[i]
		n := &node{path: e.Path, kind: "directory", extra: []field{
			{"written", dosTime(e.Written), "mtime (a clock or a time of unpacking)"},
			{"created", fmt.Sprintf("%s and %d/100 s", dosTime(e.Created), e.CreatedTenths), "mtime (a clock or a time of unpacking)"},
			{"accessed", dosTime(uint32(e.Accessed) << 16)[:10], "mtime (a clock or a time of unpacking)"},
			{"attributes", fmt.Sprintf("%#x", e.Attributes), "attributes"},
			{"short name", e.Short, "short name (order of files, or another program)"},
		}}
		if !e.Dir() {
			n.kind, n.content = "file", v.Content(e)
		}
		nodes = append(nodes, n)
		stored = append(stored, e.Path)
	}
	t := newTree(nodes)
	t.orders["directory entries"] = stored
	return t
}

func dosTime(t uint32) string {
	date, clock := int(t>>16), int(t&0xffff)
	return time.Date(1980+date>>9, time.Month(date>>5&15), date&31, clock>>11, clock>>5&63, clock&31*2, 0, time.UTC).Format("2006-01-02T15:04:05")
}
