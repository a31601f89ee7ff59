package strictyaml

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Path string `yaml:"path,required"`
}

type doc struct {
	Name string          `yaml:"name,required"`
	N    uint64          `yaml:"n"`
	I    int             `yaml:"i"`
	B    bool            `yaml:"b"`
	List []string        `yaml:"list"`
	Dir  *inner          `yaml:"dir"`
	Dirs []inner         `yaml:"dirs"`
	Raw  json.RawMessage `yaml:"raw"`

	Untagged string
	Ignored  string `yaml:"-"`
}

func TestUnmarshal(t *testing.T) {
	var got doc
	err := Unmarshal([]byte("name: x\nn: 0x10\ni: -3\nb: true\nlist: [a, \"1\"]\ndir: {path: p}\ndirs:\n- path: q\nraw: [{b: 1, a: 0x2, c: [true, s]}]\n"), "f", &got)
	if err != nil {
		t.Fatal(err)
	}
	want := doc{Name: "x", N: 16, I: -3, B: true, List: []string{"a", "1"}, Dir: &inner{"p"}, Dirs: []inner{{"q"}}, Raw: json.RawMessage(`[{"a":2,"b":1,"c":[true,"s"]}]`)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "f: empty document",
		"name: x\nnme: y\n":              `f:2:1: unknown key "nme", want one of name,`,
		"name: x\nname: y\n":             `f:2:1: key "name" twice (first on line 1)`,
		"n: 1\n":                         `f:1:1: document: key "name" is missing`,
		"name: 1.0\n":                    `f:1:7: name: want a string: put "1.0" in quotes`,
		"name: x\nn: -1\n":               "f:2:4: n: want a whole number within 64 bits, not negative",
		"name: x\nn: many\n":             "f:2:4: n: want a whole number",
		"name: x\nb: yes please\n":       "f:2:4: b: want true or false",
		"name: x\nb: True\n":             "f:2:4: b: want true or false",
		"name: x\nb: TRUE\n":             "f:2:4: b: want true or false",
		"name: x\nraw: {a: False}\n":     "f:2:10: value \"False\": want a string, whole number, true or false",
		"name: x\nb: \"true\"\n":         "f:2:4: b: want true or false",
		"name: x\nn: \"5\"\n":            "f:2:4: n: want a whole number",
		"name: x\ni: 0x8000000000000000": "f:2:4: i: want a whole number within 64 bits",
		"name: x\nraw: [-1, 1]\n":        "f:2:7: -1: want a whole number within 64 bits",
		"name: x\nraw: {a: [{b: -1}]}\n": "f:2:15: -1: want a whole number within 64 bits, not negative",
		"name: x\n\"\": y\n":             `f:2:1: unknown key ""`,
		"name: x\n\"-\": y\n":            `f:2:1: unknown key "-"`,
		"name: x\n1: y\n":                `f:2:1: key "1": want a plain word`,
		"name: {\n":                      "f: line 1: did not find expected node content",
		"name: x\nlist: a\n":             "f:2:7: list: want a list",
		"name: x\nlist: [1]\n":           "f:2:8: list[0]: want a string",
		"name: x\ndir: p\n":              "f:2:6: dir: want keys and values",
		"name: x\ndir: {}\n":             `f:2:6: dir: key "path" is missing`,
		"name: [x]\n":                    "f:1:7: name: want one value",
		"name: &a x\n":                   "anchors and aliases",
		"name: x\nraw: {a: &a 1, b: *a}": "anchors and aliases",
		"name: !!str x\n":                "tags are not allowed",
		"name: x\n---\nname: y\n":        "more than one document",
		"name: x\nraw: {a: 1, a: 2}\n":   `key "a" twice`,
		"name: x\nraw: 1.5\n":            "want a string, whole number",
		"name: x\nraw: ~\n":              "want a string, whole number",
		"name: x\n? [a]\n: b\n":          "want a plain word",
		"name: \tx: y\n":                 "f: ",
		"[name]":                         "want keys and values",
	} {
		var d doc
		if err := Unmarshal([]byte(in), "f", &d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
	large := "name: x\n#" + strings.Repeat("x", MaxSize-len("name: x\n#"))
	if err := Unmarshal([]byte(large), "f", new(doc)); err != nil {
		t.Errorf("document of the size that may be: %v", err)
	}
	if err := Unmarshal([]byte(large+"x"), "f", new(doc)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("document over the cap: %v", err)
	}
	if _, err := Locate([]byte("a: &x 1"), "f"); err == nil {
		t.Error("positions of a document with an anchor: no error")
	}
	if j, err := ToJSON([]byte("a: &x 1"), "f"); err == nil {
		t.Errorf("a document with an anchor as JSON: %s", j)
	}
	deep := "name: x\nraw: " + strings.Repeat("[", 100) + strings.Repeat("]", 100)
	if err := Unmarshal([]byte(deep), "f", new(doc)); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("deep document: %v", err)
	}
}

func TestPositions(t *testing.T) {
	p, err := Locate([]byte("a:\n  - b: 1\n  - c: 2\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if err := p.Error("f", "a.1.c", "bad"); !errors.As(err, &e) || e.Line != 3 || e.Column != 8 {
		t.Errorf("got %v", err)
	}
	if err := p.Error("f", "a.1.zzz.y", "bad"); !errors.As(err, &e) || e.Line != 3 {
		t.Errorf("missing key: got %v, want the enclosing value", err)
	}
	if err := (Positions{}).Error("f", "x", "bad"); err.Error() != "f: bad" {
		t.Errorf("got %v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("name: x\nlist: [a]\nraw: {a: 1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d doc
		if err := Unmarshal(b, "f", &d); err == nil && d.Raw != nil && !json.Valid(d.Raw) {
			t.Errorf("raw is not JSON: %s", d.Raw)
		}
	})
}
