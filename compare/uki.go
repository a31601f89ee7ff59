package compare

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"tally/compare/internal/pe"
)

// measured says which register parts a section of a UKI is. Others belong to the stub. Of .dtbauto and .efifw only
// those made for the machine are measured.
var measured = map[string]string{
	".linux": "uki .linux", ".initrd": "uki .initrd", ".cmdline": "uki .cmdline", ".osrel": "uki .osrel", ".uname": "uki .uname", ".sbat": "uki .sbat",
	".pcrpkey": "uki .pcrpkey", ".pcrsig": "uki .pcrsig", ".dtb": "uki .dtb", ".ucode": "uki .ucode", ".splash": "uki .splash",
	".profile": "uki .profile", ".hwids": "uki .hwids", ".dtbauto": "uki .dtbauto", ".efifw": "uki .efifw",
}

// ukis compares two PE files whose bytes differ: sections first, headers last.
func (c *comparer) ukis(where string, a, b source) error {
	p, x, errA := readPE(a)
	q, y, errB := readPE(b)
	if (errA != nil || errB != nil) && where == "" { // alone: whoever has a name for it knows what it is
		c.part("uki unread", "this program, which was not read")
	}
	switch {
	case errA != nil:
		return unread("A", errA)
	case errB != nil:
		return unread("B", errB)
	}
	isUKI := find(x, ".linux") != nil || find(y, ".linux") != nil
	if !isUKI {
		c.unread = true
		return c.kernels(where, a, b, p, q)
	}
	c.isUKI = true
	if !slices.EqualFunc(x.Covered, y.Covered, bytes.Equal) {
		c.part("uki", "bytes of the UKI")
	}
	before := len(c.all)
	base := Difference{Layer: LayerUKI, Where: where}
	if err := c.sections(base, x, y); err != nil {
		return err
	}
	c.peHeaders(base, x, y, len(c.all) > before)
	return nil
}

func readPE(s source) ([]byte, *pe.File, error) {
	b, err := readWhole(s, maxWhole)
	if err != nil {
		return nil, nil, err
	}
	f, err := pe.Parse(b)
	return b, f, err
}

func find(f *pe.File, name string) *pe.Section {
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			return &f.Sections[i]
		}
	}
	return nil
}

// sections compares sections by name and number of occurrence.
func (c *comparer) sections(base Difference, x, y *pe.File) error {
	p, q := sectionTree(x), sectionTree(y)
	c.onlyIn(base, p, q, true)
	c.onlyIn(base, q, p, false)
	for _, n := range p.nodes {
		m := q.byPath[n.path]
		if m == nil {
			c.sectionPart(n.path)
			continue
		}
		d := base
		d.Path, d.Owner = n.path, c.sectionOwner(n.path)
		c.pairs(d, n.extra, m.extra)
		same, err := equal(c.ctx, n.content, m.content)
		if err != nil {
			return err
		}
		if same {
			continue
		}
		c.sectionPart(n.path)
		if err := c.section(d, n, m); err != nil {
			return err
		}
	}
	for _, m := range q.nodes {
		if p.byPath[m.path] == nil {
			c.sectionPart(m.path)
		}
	}
	c.order(base, p, q)
	return nil
}

func (c *comparer) sectionPart(name string) {
	if part, ok := measured[name]; ok {
		c.part(part, "section "+name)
	}
}

// sectionOwner is the input that a section comes from, where the lock says it.
func (c *comparer) sectionOwner(name string) string {
	switch name {
	case ".linux", ".uname":
		return c.partOwner["kernel"]
	case ".initrd", ".cmdline", ".osrel":
		return ""
	}
	return c.partOwner["stub"]
}

// section explains one section that differs.
func (c *comparer) section(d Difference, n, m *node) error {
	switch n.path {
	case ".cmdline":
		c.cmdline(d, n.content, m.content)
		return nil
	case ".initrd", ".linux":
		defer func(before bool) { c.unread = before }(c.unread) // a section is measured whatever is in it
		return c.container(within(d.Where, "section "+n.path), n.content, m.content)
	}
	return c.content(d, n.content, m.content)
}

func sectionTree(f *pe.File) *fileTree {
	var nodes []*node
	var stored []string
	for _, s := range f.Sections {
		n := &node{path: s.Name, kind: "section", content: newSource(s.Data), extra: []field{
			{"flags", fmt.Sprintf("%#x", s.Flags), "flags of the section (another program)"},
			{"padding", fmt.Sprintf("%d zeros: %v", len(s.Padding), zero(s.Padding)), "padding of the section"},
		}}
		if zero(s.Padding) { // its length follows from the content's
			n.extra = n.extra[:1]
		}
		nodes = append(nodes, n)
	}
	t := newTree(nodes)
	for _, n := range nodes {
		stored = append(stored, n.path)
	}
	t.orders["sections"] = stored
	return t
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// peHeaders compares what is outside of the sections. Sizes and addresses follow from the sections.
func (c *comparer) peHeaders(base Difference, x, y *pe.File, sectionsDiffer bool) {
	d := base
	d.Path = "headers"
	before := len(c.all)
	for _, f := range []pairField{
		{"TimeDateStamp", fmt.Sprint(x.TimeDateStamp), fmt.Sprint(y.TimeDateStamp), "time stamp of the linker"},
		{"machine", fmt.Sprintf("%#x", x.Machine), fmt.Sprintf("%#x", y.Machine), "another architecture"},
		{"characteristics", fmt.Sprintf("%#x", x.Characteristics), fmt.Sprintf("%#x", y.Characteristics), "options of the linker"},
		{"CheckSum", fmt.Sprintf("%#x", x.CheckSum), fmt.Sprintf("%#x", y.CheckSum), "checksum written by another program"},
	} {
		switch {
		case f.a == f.b:
		case f.name == "CheckSum" && sectionsDiffer:
			c.follows(d, f.name, f.a, f.b, "checksum of other sections")
		default:
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	if !bytes.Equal(x.Rest, y.Rest) {
		c.note("%s: with Secure Boot on, the certificate that vouches for the UKI is measured, too (PCR 7, TDX RTMR0)", orThis(base.Where))
		c.unsure = true
		c.add(d, "bytes behind the sections", fmt.Sprintf("%d bytes", len(x.Rest)), fmt.Sprintf("%d bytes", len(y.Rest)), "signature, or something else appended")
	}
	if len(c.all) == before && !sectionsDiffer {
		c.add(d, "other fields", "bytes", "other bytes", "headers written by another program")
	}
}

// kernels compares two PE files that are no UKI: kernels, stubs, boot loaders.
func (c *comparer) kernels(where string, a, b source, p, q []byte) error {
	d := Difference{Layer: LayerArtifact, Where: where, Owner: c.partOwner["kernel"]}
	if x, y := kernelVersion(p), kernelVersion(q); x != "" && y != "" && x != y {
		cause := "kernel " + word(x) + " -> " + word(y)
		if word(x) == word(y) {
			cause = "kernel " + word(x) + " built at another time or place"
		}
		c.add(d, "kernel version", x, y, cause)
		return nil
	}
	return c.content(d, a, b)
}

// kernelVersion is the text in a bzImage (Linux, Documentation/arch/x86/boot.rst, kernel_version): "" for others.
func kernelVersion(b []byte) string {
	if len(b) < 0x260 || string(b[0x202:0x206]) != "HdrS" {
		return ""
	}
	off := int(b[0x20e]) | int(b[0x20f])<<8
	if off == 0 || off+0x200 >= len(b) {
		return ""
	}
	text := b[off+0x200:][:min(256, len(b)-off-0x200)]
	text, _, _ = bytes.Cut(text, []byte{0})
	if !printable(text) {
		return ""
	}
	return string(text)
}

// word is the first word of a text; a kernel whose first words are equal was built again.
func word(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}
