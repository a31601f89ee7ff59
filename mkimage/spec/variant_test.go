package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// several is minimal with three variants.
var several = strings.NewReplacer("  - dir: {path: rootfs}\n", `  - debian: {suites: [sid], packages: [engine]}
    only: [plain]
  - dir: {path: rootfs}
  - dir: {path: both}
    only: [other, third]
`, "modules: [dm-verity]\n", `modules: [dm-verity]
config: {path: plain.json}
suites: [{name: sid, valid-until: ignore}]
steps:
  - {name: a, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x}], only: [third]}
  - {name: b, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/y, target: y}]}
variants:
  - {name: plain}
  - {name: other, config: {path: other.json}}
  - {name: third}
`).Replace(minimal)

// TestVariants: each variant is the spec that one would have written for it alone.
func TestVariants(t *testing.T) {
	a := "  - {name: a, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x}]}\n"
	b := "steps:\n  - {name: b, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/y, target: y}]}\n"
	sid, both := "  - debian: {suites: [sid], packages: [engine]}\n", "  - dir: {path: both}\n"
	for variant, alone := range map[string]string{
		"":      strings.Replace(minimal, "root:\n", "root:\n"+sid, 1) + "config: {path: plain.json}\nsuites: [{name: sid, valid-until: ignore}]\n" + b,
		"plain": strings.Replace(minimal, "root:\n", "root:\n"+sid, 1) + "config: {path: plain.json}\nsuites: [{name: sid, valid-until: ignore}]\n" + b,
		"other": strings.NewReplacer("name: minimal", "name: minimal-other", "{path: rootfs}\n", "{path: rootfs}\n"+both).Replace(minimal) + "config: {path: other.json}\n" + b,
		"third": strings.NewReplacer("name: minimal", "name: minimal-third", "{path: rootfs}\n", "{path: rootfs}\n"+both).Replace(minimal) + "config: {path: plain.json}\n" + strings.Replace(b, "steps:\n", "steps:\n"+a, 1),
	} {
		got, err := Parse([]byte(several), "image.yaml", variant)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Parse([]byte(alone), "image.yaml", "")
		if err != nil {
			t.Fatalf("%s: %v", variant, err)
		}
		if name := got.Variant; name != variant && (variant != "" || name != "plain") {
			t.Errorf("%q: got %q", variant, name)
		}
		// What locks and messages call a source is its place in the document, which its reader has before them.
		names := map[string]string{"": "root.0 root.1", "plain": "root.0 root.1", "other": "root.1 root.2", "third": "root.1 root.2"}
		if name := got.SourceName(0) + " " + got.SourceName(1); name != names[variant] || want.SourceName(1) != "root.1" {
			t.Errorf("%q: sources %s, want %s", variant, name, names[variant])
		}
		got.Variant, got.Places = "", nil
		if len(got.Suites) == 0 {
			got.Suites = nil
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", variant, d)
		}
	}
	for variant, want := range map[string]string{"forth": `variant "forth": want one of plain, other, third`, "Plain": "want one of"} {
		if _, err := Parse([]byte(several), "image.yaml", variant); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", variant, err, want)
		}
	}
	if _, err := Parse([]byte(minimal), "image.yaml", "plain"); err == nil || !strings.Contains(err.Error(), `variant "plain": this spec has none`) {
		t.Errorf("a variant of none: %v", err)
	}
}
