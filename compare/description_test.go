package compare_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/compare"
)

// TestDescriptionAlone: what describes artefacts that do not differ does not follow from them. It is a cause, with
// the lines that were changed.
func TestDescriptionAlone(t *testing.T) {
	const alone = "changed although nothing that it describes differs"
	edit := func(dir, name, from, to string) {
		t.Helper()
		file := filepath.Join(dir, name)
		data := read(t, file)
		if !bytes.Contains(data, []byte(from)) {
			t.Fatalf("%s does not hold %q", name, from)
		}
		if err := os.WriteFile(file, bytes.Replace(data, []byte(from), []byte(to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "reference-values.json"), []byte("{\n  \"mrtd\": \"aa\"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(dir string)
		at     string // "": it follows
	}{
		{"values", func(dir string) { edit(dir, "reference-values.json", "aa", "ab") }, "reference-values.json"},
		{"values and SBOM", func(dir string) {
			edit(dir, "reference-values.json", "aa", "ab")
			edit(dir, "sbom.spdx.json", "SPDX-2.3", "SPDX-2.4")
		}, "reference-values.json"},
		{"values and cmdline", func(dir string) {
			edit(dir, "reference-values.json", "aa", "ab")
			edit(dir, "cmdline", "ttyS0", "ttyS1")
		}, ""},
		{"manifest", func(dir string) { edit(dir, "manifest.json", `"role": "uki"`, `"role": "UKI"`) }, "manifest.json"},
		{"manifest and values", func(dir string) {
			edit(dir, "manifest.json", `"role": "uki"`, `"role": "UKI"`)
			edit(dir, "reference-values.json", "aa", "ab")
		}, "manifest.json"},
		{"manifest and lock", func(dir string) {
			edit(dir, "manifest.json", `"role": "uki"`, `"role": "UKI"`)
			edit(dir, "image.lock", "{}", "{ }")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := copyDir(t, base(t))
			values(a)
			b := copyDir(t, a)
			c.change(b)
			r := paths(t, a, b, compare.Options{})
			if hasCause(r, alone) != (c.at != "") {
				t.Fatalf("causes\n%s", causes(r))
			}
			i := slices.IndexFunc(r.Differences, func(d compare.Difference) bool { return d.Where == c.at })
			if c.at != "" && (r.Differences[i].Follows || !strings.Contains(r.Differences[i].Text, "\n+") || !strings.Contains(r.Differences[i].Cause, alone)) {
				t.Errorf("%+v", r.Differences[i])
			}
		})
	}
}
