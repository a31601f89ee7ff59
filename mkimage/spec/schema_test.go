package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"tally/internal/strictyaml"
)

// validator compiles the schema with a library that is not ours.
func validator(t testing.TB) func(text []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("image.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("image.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(text []byte) error {
		data, err := strictyaml.ToJSON(text, "image.yaml")
		if err != nil {
			return err
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return s.Validate(v)
	}
}

// beyond are parts of messages of the reader about what a JSON Schema does not say: what depends on another place
// of the file, and the finer points of some forms. Everything else that the reader refuses, the schema does too.
var beyond = []string{
	"name \"m\": want lower-case letters, digits, dots and hyphens, once", // of two models
	"name \"ovmf\": want lower-case letters, digits, dots and hyphens, once",
	"path \"b\": twice", "name \"b\": twice",
	"executable: mode says it already",
	"packages: none named, and base is not true",
	"want a pattern as a shell has it",
	"suite \"trixie\": want one of sid", "nothing in this spec names it", "\"trixie\": want a name like trixie, once",
	"stands there with other experiments",
	"variant \"a\": twice", "this spec has no variants", "root: 0 sources, want 1 to 256", "-123-b\": want lower-case",
	"is not Debian's: want a keyring", "is Debian's, whose keys tally knows",
}

// TestSchemaAgrees: what the reader takes, the schema takes; what the reader refuses, the schema refuses,
// but for the list above, of which every line is needed.
func TestSchemaAgrees(t *testing.T) {
	valid := validator(t)
	good := map[string][]byte{"minimal": []byte(minimal), "everything": []byte(everything), "several": []byte(several)}
	examples, err := filepath.Glob("../../examples/*/image*.yaml")
	if err != nil || len(examples) < 2 {
		t.Fatalf("examples %q: %v", examples, err)
	}
	for _, name := range examples {
		if good[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range good {
		if _, err := Parse(text, name, ""); err != nil {
			t.Errorf("%s: the reader: %v", name, err)
		}
		if err := valid(text); err != nil {
			t.Errorf("%s: the schema: %v", name, err)
		}
	}
	needed := map[string]bool{}
	for _, c := range refusals {
		text := []byte(strings.Replace(minimal, c.old, c.new, 1))
		_, perr := Parse(text, FileName, "")
		if perr == nil {
			t.Errorf("%q: the reader takes it", c.new)
			continue
		}
		i := slices.IndexFunc(beyond, func(s string) bool { return strings.Contains(perr.Error(), s) })
		switch err := valid(text); {
		case err == nil && i < 0:
			t.Errorf("%q: the schema takes it; the reader: %v", c.new, perr)
		case err == nil:
			needed[beyond[i]] = true
		}
	}
	for _, s := range beyond {
		if !needed[s] {
			t.Errorf("%q: the schema says it too", s)
		}
	}
}
