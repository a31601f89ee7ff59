package gpu

import (
	"cmp"
	"errors"
	"fmt"
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

// parseXML reads a document of elements, attributes and text: what a scanner takes, and of it no attribute of the xml:
// namespace and no control character in an attribute, which canonicalization would have to care about.
func parseXML(text []byte) (*node, error) {
	if len(text) > MaxRIM || !utf8.Valid(text) {
		return nil, fmt.Errorf("%d bytes, want at most %d of UTF-8", len(text), MaxRIM)
	}
	top := &node{}
	r := &treeReader{scanner: scanner{text: string(text)}, open: top}
	err := r.declaration()
	for err == nil && r.more() {
		err = r.next()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("line %d: %w", 1+strings.Count(r.text[:r.at], "\n"), err)
	case !isText(r.text):
		return nil, errors.New("a character that XML does not allow")
	case r.open != top:
		return nil, fmt.Errorf("element %.40q does not end", r.open.name)
	}
	return documentElement(top)
}

var errOneElement = errors.New("want one element and nothing else")

func documentElement(top *node) (*node, error) {
	var root *node
	for _, c := range top.children {
		switch {
		case root != nil:
			return nil, errOneElement
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

// A treeReader makes nodes of a document.
type treeReader struct {
	scanner
	open                 *node // the innermost element that has not ended
	depth, nodes, spaces int
}

// next reads a tag or text.
func (r *treeReader) next() error {
	switch {
	case r.take("</"):
		return r.end()
	case r.take("<"):
		return r.start()
	case r.depth == 0: // where there is no text but white space, and that is none of the document's
		if !r.space() {
			return errOneElement
		}
		return nil
	}
	text, err := r.chars()
	if err != nil {
		return err
	}
	return r.add(&node{text: text, parent: r.open})
}

func (r *treeReader) add(n *node) error {
	if r.nodes++; r.nodes > maxNodes {
		return fmt.Errorf("more than %d elements and texts", maxNodes)
	}
	r.open.children = append(r.open.children, n)
	return nil
}

func (r *treeReader) start() (err error) {
	if r.more() && (r.text[r.at] == '!' || r.text[r.at] == '?') {
		return errors.New("<! or <?: want elements and text only")
	}
	n := &node{parent: r.open}
	if n.prefix, n.name, err = r.name(); err != nil {
		return fmt.Errorf("element %w", err)
	}
	if err := r.attributes(); err != nil {
		return err
	}
	if err := n.take(r.tag); err != nil {
		return err
	}
	if r.spaces += len(n.spaces); r.spaces > maxSpaces {
		return fmt.Errorf("more than %d declarations of namespaces", maxSpaces)
	}
	if err := n.resolve(); err != nil { // whose work grows with their number
		return err
	}
	if r.depth == maxDepth {
		return fmt.Errorf("elements nested deeper than %d", maxDepth)
	}
	empty := r.take("/")
	if !r.take(">") {
		return fmt.Errorf("element %.40q: want > behind its attributes", n.name)
	}
	if err := r.add(n); err != nil || empty {
		return err
	}
	r.open, r.depth = n, r.depth+1
	return nil
}

func (r *treeReader) end() error {
	prefix, name, err := r.name()
	if err != nil {
		return fmt.Errorf("end of element %w", err)
	}
	if r.depth == 0 || prefix != r.open.prefix || name != r.open.name {
		return fmt.Errorf("end of element %.40q, which is not open", name)
	}
	if r.space(); !r.take(">") {
		return fmt.Errorf("end of element %.40q: want >", name)
	}
	r.open, r.depth = r.open.parent, r.depth-1
	return nil
}

// ownSpaces have prefixes that nobody declares (Namespaces in XML 1.0, section 3).
var ownSpaces = map[string]bool{"http://www.w3.org/XML/1998/namespace": true, "http://www.w3.org/2000/xmlns/": true}

// take gives n its attributes, of which some declare namespaces.
func (n *node) take(all []attr) error {
	n.attrs = make([]attr, 0, len(all))
	for _, a := range all {
		switch {
		case control(a.value):
			return fmt.Errorf("attribute %.40q: control character", a.name)
		case a.prefix == "xml" || a.name == "xml":
			return fmt.Errorf("attribute %.40q: of the xml namespace", a.name)
		case a.prefix == "xmlns" && (a.name == "xmlns" || ownSpaces[a.value]) || a.prefix == "" && a.name == "xmlns" && ownSpaces[a.value]:
			return fmt.Errorf("attribute %.40q: a namespace of XML's own", a.name)
		case a.prefix == "xmlns" && a.value == "" || a.prefix == "" && a.name == "xmlns" && a.value == "":
			return errors.New("namespace undeclared")
		case a.prefix == "xmlns":
			n.spaces = append(n.spaces, attr{name: a.name, value: a.value})
		case a.prefix == "" && a.name == "xmlns":
			n.spaces = append(n.spaces, attr{value: a.value})
		default:
			n.attrs = append(n.attrs, a)
		}
	}
	return nil
}

func control(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' {
			return true
		}
	}
	return false
}

// resolve wants every prefix declared and every attribute once, by namespace and not by prefix, and writes down the namespaces.
func (n *node) resolve() error {
	if n.prefix == "xmlns" {
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
