package compare

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"tally/compare/internal/gpt"
)

// Partition types (UEFI 2.10, table 5.8, and the Discoverable Partitions Specification, x86-64).
const (
	typeESP    = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRoot   = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	typeVerity = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
)

const (
	causeGUID   = "GUID (a random one, or one derived from another name)"
	causeLayout = "sizes of the partitions"
	causeSlack  = "slack (left-over bytes that nothing reads)"
)

// A part is a partition of both disks.
type part struct {
	name string
	p, q gpt.Partition
	a, b source
}

// disks compares two disks: table, then each partition that both have, then what lies between.
func (c *comparer) disks(where string, a, b source) error {
	x, err := gpt.Read(a, a.Size())
	if err != nil {
		return unread("A", err)
	}
	y, err := gpt.Read(b, b.Size())
	if err != nil {
		return unread("B", err)
	}
	defer func(volume bool) { c.volume = volume }(c.volume)
	c.volume = c.volume || !hasESP(x) && !hasESP(y) // no firmware boots from it, so none measures its table
	parts := c.tables(where, a, b, x, y)
	c.espMoved(where, x, y)
	moved := len(parts) != len(x.Partitions) || len(parts) != len(y.Partitions) || a.Size() != b.Size()
	for i := range parts {
		if err := c.partition(&parts[i], parts); err != nil {
			return err
		}
		moved = moved || parts[i].p.First != parts[i].q.First || parts[i].p.Last != parts[i].q.Last
	}
	if moved {
		return nil
	}
	return c.between(where, a, b, x)
}

func hasESP(t *gpt.Table) bool {
	return slices.ContainsFunc(t.Partitions, func(p gpt.Partition) bool { return p.Type == typeESP })
}

// espMoved names the ESP as a part when a partition is one on one side only.
func (c *comparer) espMoved(where string, x, y *gpt.Table) {
	numbers := func(t *gpt.Table) (all []int) {
		for _, p := range t.Partitions {
			if p.Type == typeESP {
				all = append(all, p.Number)
			}
		}
		return all
	}
	if !slices.Equal(numbers(x), numbers(y)) {
		c.part("esp", within(where, "an ESP that the other has not"))
	}
}

// tables compares the fields of the partition tables and returns the partitions that both have by number.
func (c *comparer) tables(where string, a, b source, x, y *gpt.Table) []part {
	c.headers(Difference{Layer: LayerGPT, Where: where}, x, y)
	d := Difference{Layer: LayerGPT, Where: where}
	var parts []part
	theirs := map[int]gpt.Partition{}
	for _, q := range y.Partitions {
		theirs[q.Number] = q
	}
	for _, p := range x.Partitions {
		d.Path = fmt.Sprintf("partition %d %s", p.Number, p.Name)
		q, ok := theirs[p.Number]
		delete(theirs, p.Number)
		if !ok {
			c.part("gpt", d.Path)
			c.add(d, "entry", p.Type, "", "only in A")
			continue
		}
		c.entries(d, p, q, hashed(a, x, p))
		parts = append(parts, part{name: within(where, "partition "+orNumber(p)), p: p, q: q, a: sub(a, x.Offset(p), x.Size(p)), b: sub(b, y.Offset(q), y.Size(q))})
	}
	for _, q := range y.Partitions {
		if _, left := theirs[q.Number]; left {
			d.Path = fmt.Sprintf("partition %d %s", q.Number, q.Name)
			c.part("gpt", d.Path)
			c.add(d, "entry", "", q.Type, "only in B")
		}
	}
	return parts
}

// headers compares what stands in front of the entries.
func (c *comparer) headers(d Difference, x, y *gpt.Table) {
	d.Path = "protective MBR"
	if string(x.MBR[:446]) != string(y.MBR[:446]) {
		c.add(d, "boot code and disk signature", fmt.Sprintf("%x…", x.MBR[:8]), fmt.Sprintf("%x…", y.MBR[:8]), "boot sector")
	}
	if string(x.MBR[446:]) != string(y.MBR[446:]) {
		c.followsRoot(d, "partition entries", fmt.Sprintf("%x", x.MBR[446:462]), fmt.Sprintf("%x", y.MBR[446:462]), causeLayout, causeLayout)
	}
	d.Path = "header"
	for _, f := range tableFields(x, y) {
		if f.a == f.b {
			continue
		}
		c.part("gpt", "GPT header: "+f.name)
		if f.cause == causeLayout {
			c.followsRoot(d, f.name, f.a, f.b, f.cause, f.cause)
		} else {
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	if x.BackupState != y.BackupState {
		d.Path = "backup header"
		c.add(d, "state", x.BackupState, y.BackupState, "damage, or a table changed by hand")
	}
}

func orNumber(p gpt.Partition) string {
	if p.Name == "" {
		return fmt.Sprint(p.Number)
	}
	return p.Name
}

// A pairField is one field on both sides.
type pairField struct{ name, a, b, cause string }

func tableFields(x, y *gpt.Table) []pairField {
	n := func(name string, a, b uint64, cause string) pairField {
		return pairField{name, fmt.Sprint(a), fmt.Sprint(b), cause}
	}
	ok := func(name string, a, b bool) pairField {
		text := map[bool]string{true: "right", false: "wrong"}
		return pairField{name, text[a], text[b], "damage, or a table changed by hand"}
	}
	return []pairField{
		{"disk GUID", x.DiskGUID, y.DiskGUID, causeGUID},
		ok("header checksum", x.HeaderStands, y.HeaderStands), ok("entries checksum", x.ArrayStands, y.ArrayStands),
		n("sector size", uint64(x.SectorSize), uint64(y.SectorSize), "sector size"), n("revision", uint64(x.Revision), uint64(y.Revision), "GPT revision"),
		n("header size", uint64(x.HeaderSize), uint64(y.HeaderSize), "GPT revision"),
		n("own sector", x.Current, y.Current, "damage, or a table changed by hand"),
		n("backup sector", x.Backup, y.Backup, causeLayout), n("first usable sector", x.FirstUsable, y.FirstUsable, "another partitioning tool"),
		n("last usable sector", x.LastUsable, y.LastUsable, causeLayout), n("entries at sector", x.EntriesAt, y.EntriesAt, "another partitioning tool"),
		n("number of entries", uint64(x.EntryCount), uint64(y.EntryCount), "another partitioning tool"), n("entry size", uint64(x.EntrySize), uint64(y.EntrySize), "another partitioning tool"),
	}
}

// hashed says whether a partition is a hash tree or the data in front of one: their GUIDs are halves of the root
// hash or, in a model volume, made of what the root hash is made of.
func hashed(disk source, t *gpt.Table, p gpt.Partition) bool {
	for _, q := range t.Partitions {
		if (q.Number == p.Number || q.Number == p.Number+1) && isHashTree(sub(disk, t.Offset(q), t.Size(q))) {
			return true
		}
	}
	return p.Type == typeRoot || p.Type == typeVerity
}

// entries compares one entry of the tables.
func (c *comparer) entries(d Difference, p, q gpt.Partition, hashed bool) {
	if p != q {
		c.part("gpt", d.Path)
	}
	if p.GUID != q.GUID {
		if hashed {
			made := "GUID made of the root hash"
			if c.volume {
				made = "GUID made of the volume's name, files and epoch"
			}
			c.followsRoot(d, "GUID", p.GUID, q.GUID, made, causeGUID)
		} else {
			c.add(d, "GUID", p.GUID, q.GUID, causeGUID)
		}
	}
	if p.Type != q.Type {
		c.add(d, "type", p.Type, q.Type, "another partition type")
	}
	if p.Name != q.Name {
		c.add(d, "name", p.Name, q.Name, "partition name")
	}
	if p.Attributes != q.Attributes {
		c.add(d, "attributes", fmt.Sprintf("%#x", p.Attributes), fmt.Sprintf("%#x", q.Attributes), "partition attributes")
	}
	if p.First != q.First || p.Last != q.Last {
		c.followsRoot(d, "sectors", fmt.Sprintf("%d to %d", p.First, p.Last), fmt.Sprintf("%d to %d", q.First, q.Last), causeLayout, causeLayout)
	}
}

// partition compares the contents of a partition of both disks.
func (c *comparer) partition(p *part, all []part) error {
	same, err := equal(c.ctx, p.a, p.b)
	if err != nil || same {
		return err
	}
	switch {
	case isHashTree(p.a) && isHashTree(p.b):
		return c.hashTrees(p.name, p.a, p.b, before(p, all))
	case kindOf(p.a) == kindErofs && kindOf(p.b) == kindErofs:
		if err := c.fallback(p, c.roots(p.name, p.a, p.b)); err != nil {
			return err
		}
		if i := hashTreeOf(p, all); i >= 0 {
			return c.crossCheck(p, &all[i])
		}
		return nil
	case p.p.Type == typeESP && p.q.Type == typeESP:
		err := c.esps(p.name, p.a, p.b)
		if errors.Is(err, errNotRead) {
			c.part("esp", p.name+", which was not read")
		}
		return c.fallback(p, err)
	}
	before := c.unread
	c.unread = false
	err = c.container(p.name, p.a, p.b)
	c.unsure = c.unsure || c.unread // it may be a FAT that a firmware boots from
	c.unread = before
	return err
}

// before is the partition in front of p: the data, when p is a hash tree.
func before(p *part, all []part) *part {
	for i := range all {
		if all[i].p.Number == p.p.Number-1 {
			return &all[i]
		}
	}
	return nil
}

// fallback compares bytes when a partition could not be taken apart.
func (c *comparer) fallback(p *part, err error) error {
	if !errors.Is(err, errNotRead) {
		return err
	}
	c.note("%s: %v: compared as bytes", p.name, err)
	c.rootSeen = c.rootSeen || p.p.Type == typeRoot
	return c.content(Difference{Layer: LayerArtifact, Where: p.name}, p.a, p.b)
}

// hashTreeOf returns the index of the partition that holds the hash tree of p: the one behind it.
func hashTreeOf(p *part, all []part) int {
	for i := range all {
		if all[i].p.Number == p.p.Number+1 && isHashTree(all[i].a) && isHashTree(all[i].b) {
			return i
		}
	}
	return -1
}

// between looks for differences in the gaps that no partition and no table covers.
func (c *comparer) between(where string, a, b source, x *gpt.Table) error {
	used := [][2]int64{{0, int64(x.EntriesAt)*x.SectorSize + int64(x.EntryCount)*int64(x.EntrySize)}}
	for _, p := range x.Partitions {
		used = append(used, [2]int64{x.Offset(p), x.Offset(p) + x.Size(p)})
	}
	used = append(used, [2]int64{int64(x.Backup)*x.SectorSize - int64(x.EntryCount)*int64(x.EntrySize), a.Size()})
	sort.Slice(used, func(i, j int) bool { return used[i][0] < used[j][0] })
	end := int64(0)
	for _, u := range used {
		if gap := u[0] - end; gap > 0 {
			diff, err := diffBytes(c.ctx, sub(a, end, gap), sub(b, end, gap), 512)
			if err != nil {
				return err
			}
			if diff.count > 0 {
				d := Difference{Layer: LayerGPT, Where: where, Path: "outside of all partitions"}
				c.add(d, "bytes", fmt.Sprintf("0x%02x at byte %d", diff.x, end+diff.first), fmt.Sprintf("0x%02x, %d bytes differ", diff.y, diff.count), causeSlack)
			}
		}
		end = max(end, u[1])
	}
	return nil
}
