package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/compare"
)

// explained compares a release of three files with a rebuild, when the released files in hand are at hand, by name.
func explained(t *testing.T, hand map[string]string) *Report {
	t.Helper()
	out, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"cmdline": "a=1 quiet", "same": "same", "extra": "x"} {
		if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range hand {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Compare(t.Context(), []Subject{{"cmdline", sum("a=2 quiet")}, {"same", sum("same")}, {"gone", sum("gone")}}, os.DirFS(out))
	if err != nil {
		t.Fatal(err)
	}
	find := func(name, _ string) (string, error) {
		if _, ok := hand[name]; !ok {
			return "", fs.ErrNotExist
		}
		return filepath.Join(dir, name), nil
	}
	if err := Explain(t.Context(), r, out, find, compare.Options{}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExplain(t *testing.T) {
	r := explained(t, map[string]string{"cmdline": "a=2 quiet", "gone": "gone"})
	if r.Explanation == nil {
		t.Fatalf("%+v", r)
	}
	want := []compare.Artifact{{Name: "cmdline", Status: compare.Differ, SizeA: 9, SizeB: 9}, {Name: "extra", Status: compare.OnlyB, SizeB: 1},
		{Name: "gone", Status: compare.OnlyA, SizeA: 4}, {Name: "same", Status: compare.Match, SizeA: 4, SizeB: 4}}
	if d := cmp.Diff(want, r.Explanation.Artifacts); d != "" {
		t.Error(d)
	}
	if c := r.Explanation.Causes; len(c) != 3 || c[0].Cause != "changed command line" {
		t.Errorf("causes %+v", c)
	}
	if data, err := json.Marshal(r); err != nil || !strings.Contains(string(data), `"explanation":{"schema":"tally.compare/v1","equal":false`) {
		t.Errorf("%s, %v", data, err)
	}
	if regs := r.Explanation.Registers; len(regs) != 2 || regs[0].Name != "SNP launch digest" {
		t.Errorf("registers %+v", regs)
	}
}

// What is not at hand, or is something else, explains nothing; and the answer says so.
func TestExplainWithoutTheFiles(t *testing.T) {
	if r := explained(t, nil); r.Explanation != nil || len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "not at hand") {
		t.Errorf("nothing at hand: %+v", r)
	}
	r := explained(t, map[string]string{"cmdline": "a=3 quiet", "gone": "gone"})
	if r.Explanation == nil || !strings.Contains(strings.Join(r.Explanation.Notes, "\n"), "cmdline: the file at hand is not the released one") {
		t.Fatalf("another file at hand: %+v", r)
	}
	for _, a := range r.Explanation.Artifacts {
		if a.Name == "cmdline" {
			t.Error("a file that is not the released one was compared")
		}
	}
}

// A measured file that differs and is not at hand may move registers, whatever the others say.
func TestExplainSaysNothingOfRegistersUnseen(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{filepath.Join(out, "uki.efi"): "one", filepath.Join(out, "sources.tar"): "one", filepath.Join(dir, "sources.tar"): "two"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for uki, want := range map[string]bool{"one": true, "two": false} { // of the release; the rebuild has one
		r, err := Compare(t.Context(), []Subject{{"uki.efi", sum(uki)}, {"sources.tar", sum("two")}}, os.DirFS(out))
		if err != nil {
			t.Fatal(err)
		}
		find := func(name, _ string) (string, error) {
			_, err := os.Stat(filepath.Join(dir, name))
			return filepath.Join(dir, name), err
		}
		if err := Explain(t.Context(), r, out, find, compare.Options{}); err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(r.Explanation.Notes, "\n"); strings.Contains(notes, "no register moves") != want {
			t.Errorf("uki.efi is %s: notes %q", uki, notes)
		}
	}
}

// Whoever serves the released files cannot take the verdict away: what fails is a note. Only the caller's own end is an error.
func TestExplainFails(t *testing.T) {
	r, err := Compare(t.Context(), []Subject{{"gone", sum("gone")}, {"cmdline", sum("a=2 quiet")}}, os.DirFS(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	broken := func(string, string) (string, error) { return "", errors.New("HTTP status 500") }
	if err := Explain(t.Context(), r, t.TempDir(), broken, compare.Options{}); err != nil || r.Explanation != nil || r.Reproduced {
		t.Errorf("%v, %+v", err, r)
	}
	if want := []string{"cmdline: HTTP status 500: what differs in it cannot be said", "gone: HTTP status 500: what differs in it cannot be said"}; !slices.Equal(r.Notes, want) {
		t.Errorf("notes %q", r.Notes)
	}
	dir := t.TempDir() // where the file is when it is hashed, and not any more when it is compared
	gone := func(name, _ string) (string, error) {
		path := filepath.Join(dir, name)
		text := map[string]string{"gone": "gone", "cmdline": "a=2 quiet"}[name]
		return path, errors.Join(os.RemoveAll(filepath.Join(dir, "cmdline")), os.WriteFile(path, []byte(text), 0o644))
	}
	if err := Explain(t.Context(), r, t.TempDir(), gone, compare.Options{}); err != nil || r.Explanation != nil || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "explaining the difference: ") {
		t.Errorf("comparing fails: %v, %+v", err, r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Explain(ctx, r, t.TempDir(), broken, compare.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
