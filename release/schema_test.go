package release_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"tally/release"
)

// schemaOf compiles a schema with a library that is not ours.
func schemaOf(t *testing.T, name string) func(data []byte) error {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return func(data []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return s.Validate(v)
	}
}

// A mutation is a change of the worked example that the reader refuses; alone: the schema cannot say it.
type mutation struct {
	old, new string
	alone    bool
}

// checkExample holds the worked example and its mutations against schema and reader.
func checkExample(t *testing.T, name string, parse func([]byte) error, mutations []mutation) {
	t.Helper()
	valid := schemaOf(t, name+".schema.json")
	text, err := os.ReadFile(name + ".example.json")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	example := b.String()
	if err := parse([]byte(example)); err != nil {
		t.Errorf("the reader: %v", err)
	}
	if err := valid([]byte(example)); err != nil {
		t.Errorf("the schema: %v", err)
	}
	for _, m := range mutations {
		changed := strings.Replace(example, m.old, m.new, 1)
		if changed == example {
			t.Errorf("%s is not in the example", m.old)
		}
		if err := parse([]byte(changed)); err == nil {
			t.Errorf("%s: the reader takes it", m.new)
		}
		if err := valid([]byte(changed)); (err == nil) != m.alone {
			t.Errorf("%s: the schema: %v", m.new, err)
		}
	}
}

func TestStatementSchema(t *testing.T) {
	parse := func(b []byte) error { _, err := release.ParseStatement(b); return err }
	checkExample(t, "statement", parse, []mutation{
		{`release/v1`, `release/v2`, false},
		{`"sequence":3`, `"sequence":0`, false},
		{`"sequence":3`, `"sequence":3,"more":1`, false},
		{`"name":"minimal"`, `"name":""`, false},
		{`01234567"`, `0123456Z"`, false},
		{`"spec":"`, `"spec":"A`, false},
		{`,"sources":"`, `,"source":"`, false},
		{`"name":"uki.efi"`, `"name":"/uki.efi"`, false},
		{`"name":"manifest.json"`, `"name":"manifest2.json"`, false},
		{`"name":"reference-values.json"`, `"name":"reference-values2.json"`, false},
		{`"name":"cmdline"`, `"name":"cmdlime"`, false},
		{`"name":"sources.tar"`, `"name":"oci-manifest.json"`, false},
		{`"name":"oci-manifest.json"`, `"name":"oci-manifest.jsom"`, true},
		{`"name":"uki.efi"`, `"name":"../uki.efi"`, true},
		{`roothash=`, `toorhash=`, false},
		{`roothash=ab`, `roothash=cd`, true},
		{`"microcode":213`, `"microcode":256`, false},
		{`"teeTcbSvn":"0d`, `"teeTcbSvn":"0D`, false},
		{`"gpuRims":[{`, `"gpuRims":[{"vendor":"x",`, false},
		{`"buildEnvironment":`, `"wires":[],"buildEnvironment":`, false},
		{`"buildEnvironment":`, `"wires":["Confer"],"buildEnvironment":`, false},
		{`"buildEnvironment":`, `"wires":["confer","confer"],"buildEnvironment":`, false},
		{`"buildEnvironment":`, `"wires":["confer","a"],"buildEnvironment":`, true},
		{`"layout":1`, `"layout":0`, false},
		{`"layout":1,`, ``, false},
		{`"supersedes":["bb`, `"supersedes":[],"superseded":["bb`, false},
		{`"notAfter":"2027`, `"notAfter":"2025`, true},
		{`:00:00Z"}`, `:00:00+01:00"}`, false},
		{`"size":120000`, `"size":-1`, false},
		{`"schema":"tally.reference-values/v1"`, `"schema":"other"`, true},
	})
	checkKeys(t, "statement.schema.json", reflect.TypeFor[release.Statement]())
}

// checkKeys wants each key of the types in the schema and each key of the schema in the types.
func checkKeys(t *testing.T, name string, typ reflect.Type) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	inSchema, inTypes := map[string]bool{}, map[string]bool{}
	schemaKeys(schema, inSchema)
	typeKeys(typ, inTypes)
	if d := cmp.Diff(inTypes, inSchema); d != "" {
		t.Errorf("keys of the types (-) and of the schema (+):\n%s", d)
	}
}

func schemaKeys(v any, out map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			if props, ok := sub.(map[string]any); ok && k == "properties" {
				for name := range props {
					out[name] = true
				}
			}
			schemaKeys(sub, out)
		}
	case []any:
		for _, sub := range v {
			schemaKeys(sub, out)
		}
	}
}

func typeKeys(t reflect.Type, out map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		typeKeys(t.Elem(), out)
	case reflect.Struct:
		for i := range t.NumField() {
			if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag != "" {
				out[tag] = true
				typeKeys(t.Field(i).Type, out)
			}
		}
	}
}
