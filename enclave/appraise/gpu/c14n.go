package gpu

import (
	"bytes"
	"slices"
	"strings"
)

const usualRIM = 32 << 10 // bytes that hold a manifest: samples have 18 to 26 KiB

// canonical returns the form of the element at top that is hashed: Canonical XML 1.1 without comments
// (W3C, section 2.3). A part of a document brings along the namespaces that it inherits. skip, when not nil,
// is left out with everything in it. Documents hold no attribute of the xml namespace (parseXML), the one thing in
// which version 1.1 differs from 1.0.
func canonical(top, skip *node) []byte {
	var b bytes.Buffer
	b.Grow(usualRIM)
	inherited := map[string]string{}
	for p := top.parent; p != nil; p = p.parent {
		for _, s := range p.spaces {
			if _, nearer := inherited[s.name]; !nearer {
				inherited[s.name] = s.value
			}
		}
	}
	top.write(&b, skip, inherited, map[string]string{})
	return b.Bytes()
}

// write appends n; declared are the namespaces that the output already declares around it. inherited, for the
// topmost element only, are those of ancestors that are not part of the output.
func (n *node) write(b *bytes.Buffer, skip *node, inherited, declared map[string]string) {
	if n.name == "" {
		textEscapes.WriteString(b, n.text)
		return
	}
	if n == skip {
		return
	}
	qname := n.name
	if n.prefix != "" {
		qname = n.prefix + ":" + n.name
	}
	b.WriteByte('<')
	b.WriteString(qname)
	declared = n.writeSpaces(b, inherited, declared)
	n.writeAttrs(b)
	b.WriteString(">")
	for _, c := range n.children {
		c.write(b, skip, nil, declared)
	}
	b.WriteString("</")
	b.WriteString(qname)
	b.WriteByte('>')
}

// writeSpaces writes the namespaces that are new here, by prefix, and returns all that hold inside.
func (n *node) writeSpaces(b *bytes.Buffer, inherited, declared map[string]string) map[string]string {
	if len(inherited)+len(n.spaces) == 0 { // nearly every element
		return declared
	}
	here := map[string]string{}
	for p, uri := range inherited {
		here[p] = uri
	}
	for _, s := range n.spaces {
		here[s.name] = s.value
	}
	inside := map[string]string{}
	for p, uri := range declared {
		inside[p] = uri
	}
	var fresh []string
	for p, uri := range here {
		if old, ok := declared[p]; !ok || old != uri {
			fresh = append(fresh, p)
		}
		inside[p] = uri
	}
	slices.Sort(fresh)
	for _, p := range fresh {
		name := "xmlns"
		if p != "" {
			name += ":" + p
		}
		writeAttr(b, name, here[p])
	}
	return inside
}

// writeAttrs writes attributes by namespace, then name.
func (n *node) writeAttrs(b *bytes.Buffer) {
	for _, a := range byName(n.attrs) {
		name := a.name
		if a.prefix != "" {
			name = a.prefix + ":" + a.name
		}
		writeAttr(b, name, a.value)
	}
}

func writeAttr(b *bytes.Buffer, name, value string) {
	b.WriteByte(' ')
	b.WriteString(name)
	b.WriteString(`="`)
	attrEscapes.WriteString(b, value)
	b.WriteString(`"`)
}

var (
	textEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
	attrEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;")
)
