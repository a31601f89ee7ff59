package gpu

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// library writes down the tokens of a document as encoding/xml reads it.
func library(text string) (all []string, err error) {
	d := xml.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		t, err := d.RawToken()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			all = append(all, "start "+t.Name.Space+" "+t.Name.Local)
			for _, a := range t.Attr {
				all = append(all, fmt.Sprintf("attribute %s %s %q", a.Name.Space, a.Name.Local, a.Value))
			}
		case xml.EndElement:
			all = append(all, "end "+t.Name.Space+" "+t.Name.Local)
		case xml.CharData:
			all = append(all, fmt.Sprintf("text %q", string(t)))
		case xml.ProcInst:
			if n > 0 || t.Target != "xml" {
				all = append(all, "instruction")
			}
		default:
			all = append(all, fmt.Sprintf("%T", t))
		}
	}
}

// scanned writes down the same of what the scanner reads.
func scanned(text string) (all []string, err error) {
	s := &scanner{text: text}
	if err := s.declaration(); err != nil {
		return nil, err
	}
	for s.more() {
		var part []string
		switch {
		case s.take("</"):
			part, err = s.scannedEnd()
		case s.take("<"):
			part, err = s.scannedStart()
		default:
			var text string
			text, err = s.chars()
			part = []string{fmt.Sprintf("text %q", text)}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	if !isText(text) {
		return nil, fmt.Errorf("no text")
	}
	return all, nil
}

func (s *scanner) scannedStart() (all []string, err error) {
	prefix, name, err := s.name()
	if err != nil {
		return nil, err
	}
	if err := s.attributes(); err != nil {
		return nil, err
	}
	all = []string{"start " + prefix + " " + name}
	for _, a := range s.tag {
		all = append(all, fmt.Sprintf("attribute %s %s %q", a.prefix, a.name, a.value))
	}
	if s.take("/") {
		all = append(all, "end "+prefix+" "+name)
	}
	if !s.take(">") {
		return nil, fmt.Errorf("element %q: want >", name)
	}
	return all, nil
}

func (s *scanner) scannedEnd() ([]string, error) {
	prefix, name, err := s.name()
	if s.space(); err == nil && !s.take(">") {
		err = fmt.Errorf("end of element %q: want >", name)
	}
	return []string{"end " + prefix + " " + name}, err
}

// FuzzScan: what the scanner takes, the library takes, and both see the same in it. What the library takes and the scanner
// refuses is one of the things that manifests do without.
func FuzzScan(f *testing.F) {
	for _, text := range documents {
		f.Add(text)
	}
	files, err := filepath.Glob("testdata/vectors/*/*.swidtag")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text {
			return
		}
		agree(t, text)
		root, err := parseXML([]byte(text))
		if err == nil { // the canonical form of the canonical form is itself
			form := canonical(root, nil)
			again, err := parseXML(form)
			if err != nil || !bytes.Equal(canonical(again, nil), form) {
				t.Fatalf("canonical form %s: %v", form, err)
			}
		}
	})
}

func agree(t *testing.T, text string) {
	t.Helper()
	got, err := scanned(text)
	want, theirs := library(text)
	switch {
	case err == nil && theirs != nil:
		t.Fatalf("taken as %q, which the library refuses: %v", got, theirs)
	case err == nil && !slices.Equal(got, want):
		t.Fatalf("taken as\n%q\nthe library sees\n%q", got, want)
	case err != nil && strings.Contains(err.Error(), "semicolon") && strings.Contains(strings.Join(want, ""), "\ufffd"):
		// The library takes a surrogate's number for the character that stands for none.
	case err != nil && theirs == nil && !slices.ContainsFunc(withheld, func(why string) bool { return strings.Contains(err.Error(), why) }):
		t.Fatalf("refused: %v\nthe library sees %q", err, want)
	}
}

// withheld are the reasons for which the scanner refuses what the library takes.
var withheld = []string{"no valid name", "XML declaration", "want space before an attribute"}

// documents are what the scanner must take, in every form, and what stands at its limits.
var documents = []string{
	"", "x", "<a/>", "<a />", "<a></a>", "<a></a >", "<a>x</a>", "<p:a/>", "<_-.9 _-.9='x'/>", "<azAZ_09:zaZA_90 AZaz='x'/>", "<Z a0:z9='x'/>",
	`<?xml version="1.0"?><a/>`, `<?xml version="1.0" encoding="utf-8" standalone='no' ?>` + "\n<a/>", `<?xml version = '1.0'?>`,
	"<a b='c' d=\"e\"/>", "<a\tb = 'c'\n p:d= \"'\"\r\n/>", `<a b=">"/>`, `<a b=""/>`, "<a b=' \t\r\n\r'/>",
	"<a>&lt;&gt;&amp;&quot;&apos;&#1114111;&#x10ffff;&#xA;&#13;&#9;&#32;&#xd7ff;&#xe000;&#xfffd;&#x10000;</a>", "<a b='&lt;&gt;&amp;&quot;&apos;&#9;&#x0041;'/>",
	"<a>x\ry\r\nz\r\r\n&#13;\n</a>", "<a>]]</a>", "<a>]]&gt;</a>", "<a b=']]>'/>", "<a>\ue000\ufffd\U00010000\u00a0\u007f</a>",
}

// TestScanned: the scanner takes all documents that the fuzzer begins with, as the library does.
func TestScanned(t *testing.T) {
	for _, text := range documents {
		if _, err := scanned(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		agree(t, text)
	}
}

// TestScanRefused: each has one mistake.
func TestScanRefused(t *testing.T) {
	for text, want := range map[string]string{
		"<": "no valid name", "< a/>": "no valid name", "<1/>": "no valid name", "<-a/>": "no valid name", "<.a/>": "no valid name", "<ä/>": "no valid name", "<a:1/>": "no valid name", "<1:a/>": "no valid name",
		"<a": "want >", "<a/": "want >", "<a/ >": "want >", "<a?>": "want >", "</a": "want >", "</a b='c'>": "want >", "</>": "no valid name",
		"<aä/>": "no valid name", "<a bä='c'/>": "no valid name", "<0/>": "no valid name", `<a b="c"d="e"/>`: "want space before an attribute", `<a"/>`: "want space before an attribute",
		"<a b/>": "want = behind", "<a b c='d'/>": "want = behind", "<a b=c/>": "in quotes", "<a b=": "in quotes",
		"<a b='c": "a value that ends", `<a b='c"/>`: "a value that ends", "<a b='<'/>": "without <", `<a 1='c'/>`: "no valid name",
		"<a>]]></a>": "]]>", "]]>": "]]>",
		"<a>&</a>": "semicolon", "<a>&lt</a>": "semicolon", "<a>&LT;</a>": "semicolon", "<a>&;</a>": "semicolon", "<a>&#;</a>": "semicolon", "<a>&#x;</a>": "semicolon",
		"<a>&#X41;</a>": "semicolon", "<a>&#-1;</a>": "semicolon", "<a>&#+65;</a>": "semicolon", "<a>&#6_5;</a>": "semicolon", "<a>&#0;</a>": "semicolon", "<a>&#8;</a>": "semicolon", "<a>&#11;</a>": "semicolon", "<a>&#31;</a>": "semicolon",
		"<a>&#xd800;</a>": "semicolon", "<a>&#xdfff;</a>": "semicolon", "<a>&#xfffe;</a>": "semicolon", "<a>&#xffff;</a>": "semicolon", "<a>&#x110000;</a>": "semicolon", "<a>&#99999999999999999999;</a>": "semicolon",
		"<a b='&gpu;'/>": "semicolon", "<a>\x00</a>": "no text", "<a>\x08</a>": "no text", "<a>\x0b</a>": "no text", "<a>\x1f</a>": "no text", "<a>\ufffe</a>": "no text", "<a b='\uffff'/>": "no text",
		"<?xml": "declaration", "<?xml?>": "declaration", `<?xml version="1.1"?>`: "declaration", `<?xml version=""?>`: "declaration", `<?xml encoding="UTF-8" version="1.0"?>`: "declaration", `<?xml encoding="UTF-8"?>`: "declaration",
		`<?xml version="1.0" encoding="1.0"?>`: "declaration", `<?xml version="UTF-8"?>`: "declaration", `<?xml version="yes"?>`: "declaration", `<?xml version="1.0" standalone="UTF-8"?>`: "declaration", `<?xml version="1.0" x="yes"?>`: "declaration", `<?xml version="1.0" x="UTF-8"?>`: "declaration",
		`<?xml version="1&#46;0"?>`: "declaration", `<?xml version="1.0" standalone="no" encoding="UTF-8"?>`: "declaration", `<?xml version="1.0" x:encoding="UTF-8"?>`: "declaration",
		`<?xml version="1.0" version="1.0"?>`: "declaration", `<?xml version="1.0" encoding="UTF-8" encoding="UTF-8"?>`: "declaration", `<?xml version="1.0" encoding="UTF-16"?>`: "declaration",
		`<?xml version="1.0" standalone="x"?>`: "declaration", `<?xml version="1.0" x="y"?>`: "declaration", `<?xml x:version="1.0"?>`: "declaration", `<?xml version="1.0">`: "declaration", `<?xmls version="1.0"?>`: "declaration", `<?xml version="1.0"`: "declaration",
	} {
		if got, err := scanned(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}
