package gpu

import (
	"fmt"
	"strings"
	"testing"
)

// TestCanonical compares with forms worked out by hand from Canonical XML 1.1, sections 2.3 and 3.
func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`<a/>`: `<a></a>`,
		"<?xml version=\"1.0\"?>\n<a  b = '1'\n>\r\n</a >\n": "<a b=\"1\">\n</a>",
		// Namespaces before attributes, each by its order; attributes by namespace, of which none comes first.
		`<a xmlns:z="u:1" xmlns:b="u:2" xmlns="u:3" b:a="1" z:b="2" z:a="3" y="4" x="5"/>`: `<a xmlns="u:3" xmlns:b="u:2" xmlns:z="u:1" x="5" y="4" z:a="3" z:b="2" b:a="1"></a>`,
		// A namespace declared again with the same meaning is not written, one with another is, and one that comes back.
		`<a xmlns="u" xmlns:p="v"><p:b xmlns:p="v" xmlns="u"><c xmlns:p="w" xmlns="x"><d xmlns:p="v"/></c></p:b><e xmlns:p="v"/></a>`: `<a xmlns="u" xmlns:p="v"><p:b><c xmlns="x" xmlns:p="w"><d xmlns:p="v"></d></c></p:b><e></e></a>`,
		// A declaration ends with its element.
		`<a><b xmlns:p="v"/><b xmlns:p="v"/></a>`: `<a><b xmlns:p="v"></b><b xmlns:p="v"></b></a>`,
		// What is escaped, and what is not.
		`<a b="&lt;&gt;&amp;&quot;&apos;">&lt;&gt;&amp;&quot;&apos;&#13;&#x41;` + "\t" + `</a>`: `<a b="&lt;>&amp;&quot;'">&lt;&gt;&amp;"'&#xD;A` + "\t" + `</a>`,
	} {
		root, err := parseXML([]byte(in))
		if err != nil {
			t.Fatal(in, err)
		}
		if got := string(canonical(root, nil)); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

// TestCanonicalPart: a part brings along the nearest namespaces around it, and what is skipped leaves its
// surroundings as they are.
func TestCanonicalPart(t *testing.T) {
	root, err := parseXML([]byte(`<a xmlns="u" xmlns:p="v" xmlns:q="x"><b xmlns:p="w"> <c xmlns:q="y"><d/></c> </b></a>`))
	if err != nil {
		t.Fatal(err)
	}
	b := root.elements()[0]
	c := b.elements()[0]
	for i, got := range []string{string(canonical(c, nil)), string(canonical(b, c)), string(canonical(root, b)), string(canonical(root, c))} {
		want := []string{
			`<c xmlns="u" xmlns:p="w" xmlns:q="y"><d></d></c>`, `<b xmlns="u" xmlns:p="w" xmlns:q="x">  </b>`,
			`<a xmlns="u" xmlns:p="v" xmlns:q="x"></a>`, `<a xmlns="u" xmlns:p="v" xmlns:q="x"><b xmlns:p="w">  </b></a>`,
		}[i]
		if got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
}

// TestXMLLimits shows each limit of a document, at it and beyond.
func TestXMLLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("<a>", n) + strings.Repeat("</a>", n) }
	declared := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " xmlns:x%d='u'", i)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"as long as may be": {"<a/>" + strings.Repeat(" ", MaxRIM-4), true},
		"longer":            {"<a/>" + strings.Repeat(" ", MaxRIM-3), false},
		"no UTF-8":          {"<a>\xff</a>", false},
		"deep":              {nest(maxDepth), true},
		"deeper":            {nest(maxDepth + 1), false},
		"many":              {"<a>" + strings.Repeat("<b/>", maxNodes-1) + "</a>", true},
		"more":              {"<a>" + strings.Repeat("<b/>", maxNodes) + "</a>", false},
		"spaces":            {"<a>" + strings.Repeat(`<b xmlns="u" xmlns:p="v" xmlns-p="w"/>`, maxSpaces/2) + "</a>", true},
		"more, not empty":   {"<a>" + strings.Repeat("<b></b>", maxNodes) + "</a>", false},
		"more texts":        {"<a>" + strings.Repeat("<b/>x", maxNodes/2) + "</a>", false},
		"spaces in a tag":   {"<a" + declared(maxSpaces) + "/>", true},
		"more in a tag":     {"<a" + declared(maxSpaces+1) + "/>", false},
		"more spaces":       {`<a xmlns:p="u">` + strings.Repeat(`<b xmlns="u"/>`, maxSpaces) + "</a>", false},
	} {
		if _, err := parseXML([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestXMLNames holds the reader to names and places that mean one thing only; the decoder below it is more generous.
func TestXMLNames(t *testing.T) {
	for text, want := range map[string]string{
		"": "want an element", " \n": "want an element", `<?xml version="1.0"?>`: "want an element", "x": "one element and nothing else",
		"x<a/>": "one element", "<a/>x": "one element", "<": "no valid name", "<a>]]></a>": "]]>", "<a>&x;</a>": "semicolon", `<a b="c"?>`: "behind its attributes", `<a b="c"/ >`: "behind its attributes",
		"<a></1>": "no valid name", "<a></a b='c'>": "want >", "<a>\x01</a>": "XML does not allow", "<a>&#1;</a>": "semicolon",
		"<a><!-- x --></a>": "elements and text only", "<a><![CDATA[x]]></a>": "elements and text only", "<!DOCTYPE a><a/>": "elements and text only", "<a/><b/>": "one element", "\ufeff<a/>": "one element",
		"<a>": `"a" does not end`, "<a><b></b>": `"a" does not end`, "</a>": "not open", "<a></b>": "not open", "<a/></a>": "not open",
		`<a><?xml version="1.0"?></a>`: "elements and text only", "<?x y?><a/>": "elements and text only", `<a/><?xml version="1.0"?>`: "elements and text only",
		`<?xml version="1.0" encoding="latin1"?><a/>`: "encoding",
		`<a xmlns:xml="u"/>`:                          "xml namespace", `<a xml="u"/>`: "xml namespace", `<a xml:lang="u"/>`: "xml namespace",
		`<a :b="u"/>`: "no valid name", `<a b:="u"/>`: "no valid name", "<:a/>": "no valid name", "<a:/>": "no valid name", "<a:b:c/>": "no valid name",
		`<a xmlns:p=""/>`: "undeclared", `<a xmlns=""/>`: "undeclared", `<xmlns:a/>`: "no valid name", `<a xmlns:xmlns="u"/>`: "XML's own",
		`<a xmlns:p="http://www.w3.org/XML/1998/namespace" p:base="u"/>`: "XML's own", `<a xmlns="http://www.w3.org/2000/xmlns/"/>`: "XML's own",
		"<a/>&#32;": "one element", "<a/>\u00a0": "one element", "\u2003<a/>": "one element", "<a/>\u0085": "one element", "<a/><![CDATA[x]]>": "elements and text only",
		`<a xmlns:p="u" xmlns:p="v"/>`: "twice", `<a xmlns="u" xmlns="v"/>`: "twice", `<a b="1" b="1"/>`: "twice",
		`<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="1"/>`: "twice", `<p:a/>`: "not declared", `<a p:b="1"/>`: "not declared",
		`<a><b xmlns:p="u"/><p:c/></a>`: "not declared", `<a b="&#9;"/>`: "control character",
	} {
		if _, err := parseXML([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// An attribute of the name xmlns in a namespace declares nothing, and no namespace is another than none.
	for text, want := range map[string]string{
		`<a xmlns:p="u" p:xmlns="v"><b/></a>`:       `<a xmlns:p="u" p:xmlns="v"><b></b></a>`,
		`<a b="" p:c="" xmlns:p="u"/>`:              `<a xmlns:p="u" b="" p:c=""></a>`,
		`<a xmlns:p="u" b="1" p:b="2"/>`:            `<a xmlns:p="u" b="1" p:b="2"></a>`,
		`<p:a xmlns:p="u" xmlns="v"><p:b/></p:a>`:   `<p:a xmlns="v" xmlns:p="u"><p:b></p:b></p:a>`,
		`<p:a xmlns:p="u"><p:b xmlns:p="v"/></p:a>`: `<p:a xmlns:p="u"><p:b xmlns:p="v"></p:b></p:a>`,
	} {
		root, err := parseXML([]byte(text))
		if err != nil {
			t.Fatal(text, err)
		}
		if got := string(canonical(root, nil)); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestXMLWork: declarations are counted before prefixes are looked for among them, which would take seconds.
func TestXMLWork(t *testing.T) {
	var b strings.Builder
	b.WriteString("<a")
	for i := 0; b.Len() < MaxRIM/2; i++ {
		fmt.Fprintf(&b, " xmlns:x%d='u'", i)
	}
	last := strings.Count(b.String(), "xmlns:") - 1
	for i := 0; b.Len() < MaxRIM-64; i++ {
		fmt.Fprintf(&b, " x%d:a%d=''", last, i)
	}
	b.WriteString(" nobody:a=''/>") // what looking for prefixes would complain of
	if _, err := parseXML([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "declarations of namespaces") {
		t.Errorf("%v", err)
	}
}
