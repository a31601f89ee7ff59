package release_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
)

// example is the worked example called name, in its one form.
func example(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name + ".example.json")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A form is a change of an example and a part of the message with which it is refused; "" where it is accepted.
type form[T any] struct {
	name string
	edit func(*T)
	want string
}

// checkForms makes each change in an example of its own.
func checkForms[T any](t *testing.T, read func(t testing.TB) *T, marshal func(*T) ([]byte, error), forms []form[T]) {
	t.Helper()
	for _, f := range forms {
		s := read(t)
		f.edit(s)
		if _, err := marshal(s); f.want == "" && err != nil || f.want != "" && (err == nil || !strings.Contains(err.Error(), f.want)) {
			t.Errorf("%s: %v, want %q", f.name, err, f.want)
		}
	}
}

func exampleStatement(t testing.TB) *release.Statement {
	return must(release.ParseStatement(example(t, "statement")))
}

// resubject gives the subject and artifact called name another digest.
func resubject(s *release.Statement, name string, content []byte) {
	d := release.Digest(sha256.Sum256(content))
	for i := range s.Subject {
		if s.Subject[i].Name == name {
			s.Subject[i].Digest.SHA256 = d
		}
	}
	for i := range s.Predicate.Artifacts {
		if s.Predicate.Artifacts[i].Name == name {
			s.Predicate.Artifacts[i].SHA256 = d
		}
	}
}

func cmdline(text string) func(*release.Statement) {
	return func(s *release.Statement) {
		s.Predicate.Cmdline = strings.ReplaceAll(text, "HASH", s.Predicate.Verity.RootHash.String())
		resubject(s, "cmdline", []byte(s.Predicate.Cmdline))
	}
}

func renamed(to string) func(*release.Statement) {
	return func(s *release.Statement) { // uki.efi, which nothing else speaks of
		for i := range s.Subject {
			if s.Subject[i].Name == "uki.efi" {
				s.Subject[i].Name = to
			}
		}
		for i := range s.Predicate.Artifacts {
			if s.Predicate.Artifacts[i].Name == "uki.efi" {
				s.Predicate.Artifacts[i].Name = to
			}
		}
	}
}

func TestStatementForm(t *testing.T) {
	type S = release.Statement
	long := strings.Repeat("x", 1024)
	forms := []form[S]{
		{"nothing", func(*S) {}, ""},
		{"type", func(s *S) { s.Type = "x" }, `type "x"`},
		{"predicate type", func(s *S) { s.PredicateType = "x" }, `predicate "x"`},
		{"no name", func(s *S) { s.Predicate.Release.Name = "" }, "want a name"},
		{"no version", func(s *S) { s.Predicate.Release.Version = "" }, "want a name"},
		{"no sequence", func(s *S) { s.Predicate.Release.Sequence = 0 }, "want a name"},
		{"long name", func(s *S) { s.Predicate.Release.Name = long }, ""},
		{"too long a name", func(s *S) { s.Predicate.Release.Name = long + "x" }, "1024 printable"},
		{"version with a line", func(s *S) { s.Predicate.Release.Version = "1\n" }, "1024 printable"},
		{"version that reads backwards", func(s *S) { s.Predicate.Release.Version = "1\u202e2" }, "1024 printable"},
		{"version with a space", func(s *S) { s.Predicate.Release.Version = "1 ~" }, ""},
		{"repository with a DEL", func(s *S) { s.Predicate.Release.SourceRepository = "\x7f" }, "1024 printable"},
		{"no commit", func(s *S) { s.Predicate.Release.SourceCommit = "" }, ""},
		{"commit of SHA-256", func(s *S) { s.Predicate.Release.SourceCommit = strings.Repeat("ab", 32) }, ""},
		{"commit cut", func(s *S) { s.Predicate.Release.SourceCommit = strings.Repeat("a", 39) }, "source commit"},
		{"commit in capitals", func(s *S) { s.Predicate.Release.SourceCommit = strings.Repeat("A", 40) }, "source commit"},
		{"too many subjects", func(s *S) {
			for i := len(s.Subject); i <= 4096; i++ {
				s.Subject = append(s.Subject, release.Subject{Name: fmt.Sprint("x", i)})
			}
		}, "want at most 4096"},
		{"most subjects", func(s *S) {
			for i := len(s.Subject); i < 4096; i++ {
				s.Subject = append(s.Subject, release.Subject{Name: fmt.Sprint("x", i)})
			}
		}, "4096 subjects for"},
		{"a subject more", func(s *S) { s.Subject = append(s.Subject, release.Subject{Name: "x"}) }, "subjects for"},
		{"a subject twice", func(s *S) { s.Subject = append(s.Subject, s.Subject[0]) }, "each once"},
		{"no manifest", func(s *S) { s.Subject = s.Subject[:6] }, `no subject "manifest.json"`},
		{"an artifact twice", func(s *S) { s.Predicate.Artifacts = append(s.Predicate.Artifacts, s.Predicate.Artifacts[0]) }, "each once"},
		{"an artifact of another digest", func(s *S) { s.Predicate.Artifacts[1].SHA256[0]++ }, "same digest"},
		{"an artifact that is none", func(s *S) { s.Predicate.Artifacts[1].Name = "dusk.raw" }, "same digest"},
		{"an artifact of no size", func(s *S) { s.Predicate.Artifacts[1].Size = 0 }, ""},
		{"an artifact below that", func(s *S) { s.Predicate.Artifacts[1].Size = -1 }, "same digest"},
		{"another spec", func(s *S) { s.Predicate.Inputs.Spec[0]++ }, "inputs.spec"},
		{"another lock", func(s *S) { s.Predicate.Inputs.Lock[0]++ }, "inputs.lock"},
		{"no sources", func(s *S) { s.Predicate.Artifacts[6].Role = "x" }, "inputs.sources"},
		{"no sources and none named", func(s *S) { s.Predicate.Artifacts[6].Role, s.Predicate.Inputs.Sources = "x", release.Digest{} }, "inputs.sources"},
		{"another cmdline", func(s *S) { s.Predicate.Cmdline += " x" }, "cmdline has digest"},
		{"a cmdline of the hash alone", cmdline("roothash=HASH"), ""},
		{"a cmdline with the hash at its end", cmdline("x roothash=HASH"), ""},
		{"a cmdline with another word like it", cmdline("roothash=HASH xroothash=0"), ""},
		{"a cmdline without", cmdline("x"), "want one"},
		{"a cmdline with two", cmdline("roothash=HASH roothash=HASH"), "want one"},
		{"a cmdline with two, by a tab", cmdline("roothash=HASH x\troothash=00"), "want one"},
		{"a cmdline with a longer hash", cmdline("roothash=HASH0"), "want one"},
		{"a cmdline with something like it", cmdline("xroothash=HASH"), "want one"},
		{"no values", func(s *S) { s.Predicate.ReferenceValues = json.RawMessage(`[]`) }, "want a JSON object"},
		{"empty values", func(s *S) { s.Predicate.ReferenceValues = nil }, "want a JSON object"},
		{"broken values", func(s *S) { s.Predicate.ReferenceValues = json.RawMessage(`{`) }, "referenceValues"},
		{"other values", func(s *S) { s.Predicate.ReferenceValues = json.RawMessage(`{}`) }, "referenceValues has digest"},
		{"large values", func(s *S) {
			s.Predicate.ReferenceValues = json.RawMessage(`{"a":"` + strings.Repeat("x", release.MaxStatement) + `"}`)
			resubject(s, release.ReferenceValues, must(release.ReferenceFile(s.Predicate.ReferenceValues)))
		}, "want at most"},
		{"no beginning", func(s *S) { s.Predicate.Validity.NotBefore = time.Time{} }, "want a time"},
		{"part of a second", func(s *S) { s.Predicate.Validity.NotBefore = s.Predicate.Validity.NotBefore.Add(1) }, "want a time"},
		{"zone", func(s *S) { s.Predicate.Validity.NotBefore = s.Predicate.Validity.NotBefore.In(time.FixedZone("", 60)) }, "want a time"},
		{"an end that is none", func(s *S) { s.Predicate.Validity.NotAfter = new(time.Time) }, "want a time"},
		{"no end", func(s *S) { s.Predicate.Validity.NotAfter = nil }, ""},
		{"ends at its beginning", func(s *S) { s.Predicate.Validity.NotAfter = &s.Predicate.Validity.NotBefore }, "before it begins"},
	}
	for _, name := range []string{"", ".", "..", "../x", "a/../b", "a//b", "a/", "/x", `a\b`, "a\nb", "a\rb", "a\x00b", "a\x1b[2Jb", "a\x7fb", "a\u009b2Jb", "a\u202egpj.efi"} {
		forms = append(forms, form[S]{fmt.Sprintf("name %q", name), renamed(name), "clean relative path"})
	}
	for _, name := range []string{"a/b", "..x", "...", "a..b", "é", " "} {
		forms = append(forms, form[S]{fmt.Sprintf("name %q", name), renamed(name), ""})
	}
	checkForms(t, exampleStatement, (*S).Marshal, forms)
	if _, err := release.ParseStatement(append(example(t, "statement"), bytes.Repeat([]byte(" "), release.MaxStatement)...)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("a large one: %v", err)
	}
}

func TestCompactReference(t *testing.T) {
	compact := exampleStatement(t).Predicate.ReferenceValues
	file := string(must(release.ReferenceFile(compact)))
	if got, err := release.CompactReference([]byte(file)); err != nil || !bytes.Equal(got, compact) {
		t.Errorf("%s, %v", got, err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"no end": {strings.TrimSuffix(file, "\n"), "in the form"}, "two ends": {file + "\n", "in the form"}, "tabs": {strings.ReplaceAll(file, "  ", "\t"), "in the form"},
		"compact": {string(compact), "in the form"}, "a list": {"[]\n", "want a JSON object"}, "nothing": {"", "EOF"}, "two": {file + "{}", "data after"},
		"a key twice": {strings.Replace(file, `"schema"`, `"schema": "x", "schema"`, 1), "twice"}, "large": {file + strings.Repeat(" ", release.MaxStatement), "want at most"},
	} {
		if _, err := release.CompactReference([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// A statement of another kind is named before anything in it is.
	for text, want := range map[string]string{
		string(example(t, "channel")): `predicateType "tag:tallystick,2026:release-channel/v1"`, `{"_type":"x"}`: `_type "x"`, "x": "statement: invalid character",
	} {
		if _, err := release.ParseStatement([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestClaimsForm(t *testing.T) {
	type S = release.Statement
	models := func(list ...release.Model) func(*S) {
		return func(s *S) { s.Predicate.Artifacts[8].Role, s.Predicate.Models = "model", list } // vmlinuz
	}
	m := func(name, file, mount string) release.Model {
		return release.Model{Name: name, File: file, Mount: mount}
	}
	toolchains := func(list ...release.Toolchain) func(*S) {
		return func(s *S) { s.Predicate.BuildEnvironment.Toolchains = list }
	}
	tool := func(name, version string) release.Toolchain {
		return release.Toolchain{Name: name, Version: version}
	}
	rims := func(names ...string) func(*S) {
		return func(s *S) {
			s.Predicate.GPURIMs = nil
			for _, n := range names {
				s.Predicate.GPURIMs = append(s.Predicate.GPURIMs, release.RIM{Name: n})
			}
		}
	}
	tcb := func(hex string) func(*S) { return func(s *S) { s.Predicate.Floors.TDX.TEETCBSVN = hex } }
	wires := func(list ...string) func(*S) { return func(s *S) { s.Predicate.Wires = list } }
	long, longer, longest := strings.Repeat("x", 32), strings.Repeat("x", 256), strings.Repeat("x", 4096)
	checkForms(t, exampleStatement, (*S).Marshal, []form[S]{
		{"no floors", func(s *S) { s.Predicate.Floors = nil }, ""},
		{"floors of nothing", func(s *S) { s.Predicate.Floors = &release.Floors{} }, "names no platform"},
		{"floor of TDX alone", func(s *S) { s.Predicate.Floors.SNP = nil }, ""},
		{"floor of SNP alone", func(s *S) { s.Predicate.Floors.TDX = nil }, ""},
		{"SVN of 15 bytes", tcb(strings.Repeat("0", 30)), "teeTcbSvn"}, {"SVN of 17 bytes", tcb(strings.Repeat("0", 34)), "teeTcbSvn"},
		{"SVN in capitals", tcb(strings.Repeat("0A", 16)), "teeTcbSvn"}, {"SVN of no hex", tcb(strings.Repeat("0", 32) + "x"), "teeTcbSvn"},
		{"models", models(m("a", "vmlinuz", "/m"), m("b", "vmlinuz", "/n")), ""},
		{"model twice", models(m("a", "vmlinuz", "/m"), m("a", "vmlinuz", "/n")), "sorted names"},
		{"models in disorder", models(m("b", "vmlinuz", "/m"), m("a", "vmlinuz", "/n")), "sorted names"},
		{"model without name", models(m("", "vmlinuz", "/m")), "sorted names"},
		{"model of a long name", models(m(longer, "vmlinuz", "/m")), ""}, {"model of a longer one", models(m(longer+"x", "vmlinuz", "/m")), "sorted names"},
		{"model in a disk", models(m("a", "disk.raw", "/m")), "role model"}, {"model in nothing", models(m("a", "", "/m")), "role model"},
		{"mount of two lines", models(m("a", "vmlinuz", "/\n")), "mount"}, {"long mount", models(m("a", "vmlinuz", longest)), ""},
		{"longer mount", models(m("a", "vmlinuz", longest+"x")), "mount"},
		{"RIMs", rims("a", "b", longer), ""}, {"RIM twice", rims("a", "a"), "gpuRims"}, {"RIMs in disorder", rims("b", "a"), "gpuRims"},
		{"RIM without name", rims(""), "gpuRims"}, {"RIM of two lines", rims("a\n"), "gpuRims"}, {"RIM of a long name", rims(longer + "x"), "gpuRims"},
		{"wires", wires("a-1", "b", long), ""}, {"wire twice", wires("a", "a"), "wires"}, {"wires in disorder", wires("b", "a"), "wires"},
		{"empty wire", wires(""), "wires"}, {"long wire", wires(long + "x"), "wires"}, {"wire in capitals", wires("A"), "wires"}, {"wire with a dot", wires("a.b"), "wires"},
		{"supersedes", func(s *S) { s.Predicate.Supersedes = []release.Digest{{1}, {2}} }, ""},
		{"supersedes twice", func(s *S) { s.Predicate.Supersedes = []release.Digest{{1}, {1}} }, "supersedes"},
		{"supersedes in disorder", func(s *S) { s.Predicate.Supersedes = []release.Digest{{2}, {1}} }, "supersedes"},
		{"no environment", func(s *S) { s.Predicate.BuildEnvironment = nil }, ""},
		{"no layout", func(s *S) { s.Predicate.BuildEnvironment.Layout = 0 }, "buildEnvironment"},
		{"the epoch itself", func(s *S) { s.Predicate.BuildEnvironment.SourceDateEpoch = 0 }, ""},
		{"before the epoch", func(s *S) { s.Predicate.BuildEnvironment.SourceDateEpoch = -1 }, "buildEnvironment"},
		{"no list", toolchains(), "buildEnvironment"}, {"empty list", toolchains([]release.Toolchain{}...), ""},
		{"toolchains", toolchains(tool("a", "1"), tool("a", "2"), tool("b", "1"), tool(longer, longer)), ""},
		{"toolchain twice", toolchains(tool("a", "1"), tool("a", "1")), "toolchain"}, {"toolchains in disorder", toolchains(tool("a", "2"), tool("a", "1")), "toolchain"},
		{"toolchain without name", toolchains(tool("", "1")), "toolchain"}, {"toolchain of two lines", toolchains(tool("a\n", "1")), "toolchain"},
		{"toolchain of a long name", toolchains(tool(longer+"x", "1")), "toolchain"}, {"toolchain's version", toolchains(tool("a", "\x7f")), "toolchain"},
	})
}

func TestRebuildForm(t *testing.T) {
	type R = release.Rebuild
	read := func(t testing.TB) *R { return must(release.ParseRebuild(example(t, "rebuild"))) }
	checked := func(edit func(c *release.CheckedInput)) func(*R) { return func(r *R) { edit(&r.Predicate.Checked[0]) } }
	diff := func(i int, edit func(d *release.Difference)) func(*R) {
		return func(r *R) { edit(&r.Predicate.Differences[i]) }
	}
	without := func(name string) func(*R) {
		return func(r *R) {
			for i := range r.Subject {
				if r.Subject[i].Name == name {
					r.Subject[i].Name = "x"
				}
			}
		}
	}
	same := release.Digest{7}
	long, longer, longest := strings.Repeat("x", 64), strings.Repeat("x", 1024), strings.Repeat("x", 4096)
	checkForms(t, read, (*R).Marshal, []form[R]{
		{"nothing", func(*R) {}, ""},
		{"type", func(r *R) { r.Type = "x" }, `type "x"`}, {"predicate type", func(r *R) { r.PredicateType = "x" }, `predicate "x"`},
		{"a subject twice", func(r *R) { r.Subject = append(r.Subject, r.Subject[0]) }, "each once"},
		{"no manifest", without("manifest.json"), "no subject"}, {"no values", without("reference-values.json"), "no subject"},
		{"no name", func(r *R) { r.Predicate.Release.Name = "" }, "want a name"}, {"no version", func(r *R) { r.Predicate.Release.Version = "" }, "want a name"},
		{"no sequence", func(r *R) { r.Predicate.Release.Sequence = 0 }, "want a name"}, {"a name of lines", func(r *R) { r.Predicate.Release.Name = "a\n" }, "want a name"},
		{"a version of lines", func(r *R) { r.Predicate.Release.Version = "a\n" }, "want a name"},
		{"long", func(r *R) { r.Predicate.Release.Name, r.Predicate.Release.Version = longer, longer }, ""},
		{"too long a name", func(r *R) { r.Predicate.Release.Name = longer + "x" }, "want a name"},
		{"tally's version", func(r *R) { r.Predicate.Tally.Version = "\n" }, "tally:"}, {"tally's commit", func(r *R) { r.Predicate.Tally.Commit = "" }, "tally:"},
		{"an input twice", func(r *R) { r.Predicate.Checked[1] = r.Predicate.Checked[0] }, "each once"},
		{"kind", checked(func(c *release.CheckedInput) { c.Kind = "" }), "a kind and a name"}, {"kind of lines", checked(func(c *release.CheckedInput) { c.Kind = "a\n" }), "a kind and a name"},
		{"long kind", checked(func(c *release.CheckedInput) { c.Kind = long }), ""}, {"longer kind", checked(func(c *release.CheckedInput) { c.Kind = long + "x" }), "a kind and a name"},
		{"input", checked(func(c *release.CheckedInput) { c.Name = "" }), "a kind and a name"}, {"input of lines", checked(func(c *release.CheckedInput) { c.Name = "a\n" }), "a kind and a name"},
		{"long input", checked(func(c *release.CheckedInput) { c.Name = longest }), ""}, {"longer input", checked(func(c *release.CheckedInput) { c.Name = longest + "x" }), "a kind and a name"},
		{"version of lines", checked(func(c *release.CheckedInput) { c.Version = "\n" }), "a kind and a name"}, {"no version of an input", checked(func(c *release.CheckedInput) { c.Version = "" }), ""},
		{"by nothing", checked(func(c *release.CheckedInput) { c.Verified = "" }), "index or hash"}, {"by index", checked(func(c *release.CheckedInput) { c.Verified = "index" }), ""},
		{"no result", func(r *R) { r.Predicate.Result = "" }, "result"},
		{"reproduced with differences", func(r *R) { r.Predicate.Result = release.Reproduced }, "with 3 differences"},
		{"differs in nothing", func(r *R) { r.Predicate.Differences = nil }, "with 0 differences"},
		{"reproduced", func(r *R) { r.Predicate.Result, r.Predicate.Differences = release.Reproduced, nil }, ""},
		{"differs by the same", diff(0, func(d *release.Difference) { d.Want, d.Got = &same, &same }), "DIFFER, MISSING"},
		{"differs from nothing", diff(0, func(d *release.Difference) { d.Want = nil }), "DIFFER, MISSING"}, {"differs to nothing", diff(0, func(d *release.Difference) { d.Got = nil }), "DIFFER, MISSING"},
		{"extra and wanted", diff(1, func(d *release.Difference) { d.Want = &same }), "DIFFER, MISSING"}, {"extra and absent", diff(1, func(d *release.Difference) { d.Got = nil }), "DIFFER, MISSING"},
		{"missing and there", diff(2, func(d *release.Difference) { d.Got = &same }), "DIFFER, MISSING"}, {"missing and not wanted", diff(2, func(d *release.Difference) { d.Want = nil }), "DIFFER, MISSING"},
		{"another word", diff(0, func(d *release.Difference) { d.Status = "SAME" }), "DIFFER, MISSING"}, {"a name above", diff(0, func(d *release.Difference) { d.Name = "../x" }), "DIFFER, MISSING"},
		{"large", func(r *R) {
			for i := range 520 {
				r.Predicate.Checked = append(r.Predicate.Checked, release.CheckedInput{Kind: "file", Name: fmt.Sprintf("%04096d", i), Verified: "hash"})
			}
		}, "want at most"},
		{"a difference twice", func(r *R) { r.Predicate.Differences = append(r.Predicate.Differences, r.Predicate.Differences[0]) }, "DIFFER, MISSING"},
	})
	if _, err := release.ParseRebuild(append(example(t, "rebuild"), bytes.Repeat([]byte(" "), release.MaxRebuild)...)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("a large one: %v", err)
	}
}

// Lists come out sorted, and the caller's stay as they were.
func TestMarshalSorts(t *testing.T) {
	s := exampleStatement(t)
	slices.Reverse(s.Subject)
	slices.Reverse(s.Predicate.Artifacts)
	r := must(release.ParseRebuild(example(t, "rebuild")))
	slices.Reverse(r.Subject)
	slices.Reverse(r.Predicate.Checked)
	slices.Reverse(r.Predicate.Differences)
	for range 2 {
		if !bytes.Equal(must(s.Marshal()), example(t, "statement")) || !bytes.Equal(must(r.Marshal()), example(t, "rebuild")) {
			t.Error("another form")
		}
	}
	if s.Subject[0].Name != "vmlinuz" || s.Predicate.Artifacts[0].Name != "vmlinuz" || r.Subject[0].Name != "vmlinuz" || r.Predicate.Checked[0].Kind != "package" || r.Predicate.Differences[0].Name != "uki.efi" {
		t.Error("the caller's lists were sorted")
	}
}
