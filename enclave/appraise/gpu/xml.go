package gpu

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a manifest.
const (
	MaxRIM    = 256 << 10 // bytes of a manifest: samples have 18 to 26 KiB
	maxDepth  = 16
	maxNodes  = 20000
	maxSpaces = 64 // declarations of namespaces, which canonicalization keeps for every element: samples have 6
)

// A node is an element of a manifest, or text when name is empty. The tree that is read for its values is
// the tree whose canonical form was hashed: there is no second reading that could differ.
type node struct {
	prefix, name string
	uri          string // the namespace of an element or attribute; "" is none
	spaces       []attr // namespaces declared here, by prefix
	attrs        []attr
	children     []*node
	parent       *node
	text         string
}

type attr struct{ prefix, name, value, uri string }

// parseXML reads a document of elements, attributes and text. What the vendor's manifests do without and
// canonicalization would have to care about is refused: document types, instructions, comments, attributes of
// the xml: namespace, control characters in attributes.
func parseXML(text []byte) (*node, error) {
	if len(text) > MaxRIM || !utf8.Valid(text) {
		return nil, fmt.Errorf("%d bytes, want at most %d of UTF-8", len(text), MaxRIM)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	top := &node{}
	for at, depth, n, spaces := top, 0, 0, 0; ; n++ {
		t, err := d.RawToken()
		if err == io.EOF && depth == 0 {
			return documentElement(top)
		}
		spaces += declarations(t)
		switch {
		case err == nil && n == maxNodes:
			err = fmt.Errorf("more than %d elements and texts", maxNodes)
		case spaces > maxSpaces:
			err = fmt.Errorf("more than %d declarations of namespaces", maxSpaces)
		}
		if err == nil {
			at, depth, err = at.add(t, n == 0, depth)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(text[:d.InputOffset()], []byte("\n")), err)
		}
	}
}

// declarations counts the namespaces that a token declares.
func declarations(t xml.Token) (n int) {
	e, _ := t.(xml.StartElement)
	for _, a := range e.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			n++
		}
	}
	return n
}

func documentElement(top *node) (*node, error) {
	var root *node
	for _, c := range top.children {
		switch {
		case c.name == "" && strings.TrimSpace(c.text) == "":
		case c.name == "" || root != nil:
			return nil, errors.New("want one element and nothing else")
		default:
			root = c
		}
	}
	if root == nil {
		return nil, errors.New("want an element")
	}
	root.parent = nil
	return root, nil
}

func (n *node) add(t xml.Token, first bool, depth int) (*node, int, error) {
	switch t := t.(type) {
	case xml.StartElement:
		c, err := newElement(t, n)
		if err == nil && depth == maxDepth {
			err = fmt.Errorf("elements nested deeper than %d", maxDepth)
		}
		n.children = append(n.children, c)
		return c, depth + 1, err
	case xml.EndElement:
		if depth == 0 || t.Name.Space != n.prefix || t.Name.Local != n.name {
			return nil, 0, fmt.Errorf("end of element %.40q, which is not open", t.Name.Local)
		}
		return n.parent, depth - 1, nil
	case xml.CharData:
		n.children = append(n.children, &node{text: string(t), parent: n})
		return n, depth, nil
	case xml.ProcInst:
		if first && t.Target == "xml" {
			return n, depth, nil
		}
	}
	return nil, 0, fmt.Errorf("%T: want elements and text only", t)
}

func newElement(t xml.StartElement, parent *node) (*node, error) {
	n := &node{prefix: t.Name.Space, name: t.Name.Local, parent: parent, attrs: make([]attr, 0, len(t.Attr))}
	for _, a := range t.Attr {
		at := attr{prefix: a.Name.Space, name: a.Name.Local, value: a.Value}
		switch {
		case strings.ContainsFunc(a.Value, func(r rune) bool { return r < ' ' }):
			return nil, fmt.Errorf("attribute %.40q: control character", at.name)
		case at.prefix == "xml" || at.name == "xml" || strings.Contains(at.name, ":"):
			return nil, fmt.Errorf("attribute %.40q: of the xml namespace or of no valid name", at.name)
		case at.prefix == "xmlns" && at.value == "" || at.prefix == "" && at.name == "xmlns" && at.value == "":
			return nil, errors.New("namespace undeclared")
		case at.prefix == "xmlns":
			n.spaces = append(n.spaces, attr{name: at.name, value: at.value})
		case at.prefix == "" && at.name == "xmlns":
			n.spaces = append(n.spaces, attr{value: at.value})
		default:
			n.attrs = append(n.attrs, at)
		}
	}
	return n, n.resolve()
}

// resolve wants every prefix declared and every attribute once, by namespace and not by prefix, and writes down the namespaces.
func (n *node) resolve() error {
	if strings.Contains(n.name, ":") || n.prefix == "xmlns" {
		return fmt.Errorf("element %.40q: no valid name", n.name)
	}
	if again := twice(n.spaces); again != nil {
		return fmt.Errorf("attribute %.40q twice", again.name)
	}
	var ok bool
	if n.uri, ok = n.space(n.prefix); !ok {
		return fmt.Errorf("element %.40q: prefix %.40q not declared", n.name, n.prefix)
	}
	for i := range n.attrs {
		if a := &n.attrs[i]; a.prefix != "" { // the default namespace is none of an attribute's
			if a.uri, ok = n.space(a.prefix); !ok {
				return fmt.Errorf("attribute %.40q: prefix %.40q not declared", a.name, a.prefix)
			}
		}
	}
	if again := twice(n.attrs); again != nil {
		return fmt.Errorf("attribute %.40q twice", again.name)
	}
	return nil
}

// twice returns an attribute that is there again.
func twice(all []attr) *attr {
	sorted := byName(all)
	for i := 1; i < len(sorted); i++ {
		if compareNames(sorted[i-1], sorted[i]) == 0 {
			return sorted[i]
		}
	}
	return nil
}

// byName returns attributes in the order of canonicalization: by namespace, then name.
func byName(all []attr) []*attr {
	sorted := make([]*attr, len(all))
	for i := range all {
		sorted[i] = &all[i]
	}
	slices.SortFunc(sorted, compareNames)
	return sorted
}

func compareNames(x, y *attr) int {
	return cmp.Or(strings.Compare(x.uri, y.uri), strings.Compare(x.name, y.name))
}

// space returns the namespace that a prefix means at n; the default one may be none.
func (n *node) space(prefix string) (string, bool) {
	for p := n; p != nil; p = p.parent {
		if i := slices.IndexFunc(p.spaces, func(a attr) bool { return a.name == prefix }); i >= 0 {
			return p.spaces[i].value, true
		}
	}
	return "", prefix == ""
}

// is reports whether n is the named element of a namespace.
func (n *node) is(uri, name string) bool { return n.name == name && n.uri == uri }

// attr returns the value of an attribute of a namespace; "" is none.
func (n *node) attr(uri, name string) (string, bool) {
	for _, a := range n.attrs {
		if a.uri == uri && a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// elements returns the child elements.
func (n *node) elements() (all []*node) {
	for _, c := range n.children {
		if c.name != "" {
			all = append(all, c)
		}
	}
	return all
}

// content returns the text of an element that holds nothing else.
func (n *node) content() string {
	var b strings.Builder
	for _, c := range n.children {
		b.WriteString(c.text)
	}
	return b.String()
}
