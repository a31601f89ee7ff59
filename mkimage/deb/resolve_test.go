package deb

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// index renders a Packages file from short lines: "name version; Field: value; …".
func index(t testing.TB, lines ...string) []*Package {
	t.Helper()
	ps, err := ParseIndex(strings.NewReader(stanzas(lines...)))
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func stanzas(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		parts := strings.Split(l, "; ")
		name, version, _ := strings.Cut(parts[0], " ")
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/%s.deb\nSize: 1\nSHA256: %x\n", name, version, name, sum256(l))
		for _, f := range parts[1:] {
			b.WriteString(f + "\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func resolve(ps []*Package, roots ...string) (string, error) {
	chosen, err := NewResolver(ps, "amd64", level).Resolve(roots)
	var names []string
	for _, p := range chosen {
		names = append(names, p.Name+"="+string(p.Version))
	}
	return strings.Join(names, " "), err
}

// level gives every package apt's usual priority.
func level(*Package) int { return 500 }

// A resolveCase is an index, what is wanted of it, and what should come of that. TestCasesAgainstApt asks apt.
type resolveCase struct {
	index []string
	roots []string
	want  string // the packages; of an error, a part
}

var resolveCases = map[string]resolveCase{
	"chain":                {[]string{"aa 1; Depends: bb (>= 2)", "bb 2; Pre-Depends: cc", "cc 1"}, []string{"aa"}, "aa=1 bb=2 cc=1"},
	"highest version":      {[]string{"aa 1", "aa 1.10", "aa 1.9"}, []string{"aa"}, "aa=1.10"},
	"first alternative":    {[]string{"aa 1; Depends: bb | cc", "bb 1", "cc 1"}, []string{"aa"}, "aa=1 bb=1"},
	"alternative is there": {[]string{"aa 1; Depends: bb | cc", "bb 1", "cc 1"}, []string{"cc", "aa"}, "aa=1 cc=1"},
	"missing alternative":  {[]string{"aa 1; Depends: bb | cc", "cc 1"}, []string{"aa"}, "aa=1 cc=1"},
	"provided":             {[]string{"aa 1; Depends: vv", "zz 1; Provides: vv", "yy 1; Provides: vv"}, []string{"aa"}, "aa=1 yy=1"},
	"priority decides":     {[]string{"aa 1; Depends: vv", "zz 1; Provides: vv; Priority: required", "yy 1; Provides: vv; Priority: optional"}, []string{"aa"}, "aa=1 zz=1"},
	"provider is there":    {[]string{"aa 1; Depends: vv", "zz 1; Provides: vv", "yy 1; Provides: vv"}, []string{"zz", "aa"}, "aa=1 zz=1"},
	"versioned provision":  {[]string{"aa 1; Depends: vv (>= 2)", "yy 1; Provides: vv (= 1)", "zz 1; Provides: vv (= 3)"}, []string{"aa"}, "aa=1 zz=1"},
	"cycle":                {[]string{"aa 1; Depends: bb", "bb 1; Depends: aa"}, []string{"aa"}, "aa=1 bb=1"},
	"conflict passed over": {[]string{"aa 1; Depends: dd, bb | cc", "bb 1", "cc 1", "dd 1; Conflicts: bb"}, []string{"aa"}, "aa=1 cc=1 dd=1"},
	"conflict decided":     {[]string{"aa 1; Depends: bb | cc, dd", "bb 1", "cc 1", "dd 1; Conflicts: bb"}, []string{"aa", "cc"}, "aa=1 cc=1 dd=1"},
	"in the order written": {[]string{"aa 1; Depends: bb | cc, dd", "bb 1", "cc 1", "dd 1; Depends: cc"}, []string{"aa"}, "aa=1 bb=1 cc=1 dd=1"},
	"given up":             {[]string{"aa 1; Depends: bb | cc", "bb 1; Depends: dd, ee", "cc 1", "dd 1", "ee 1; Depends: none"}, []string{"aa"}, "aa=1 cc=1"},
	"named later":          {[]string{"aa 1; Depends: vv", "xx 1; Provides: vv", "yy 1; Provides: vv; Suggests: zz", "zz 1; Provides: vv", "ww 1; Provides: vv"}, []string{"aa"}, "aa=1 ww=1"},
	"named early":          {[]string{"aa 1; Depends: vv; Suggests: ww, zz (>= 1) | none", "xx 1; Provides: vv", "zz 1; Provides: vv", "ww 1; Provides: vv"}, []string{"aa"}, "aa=1 xx=1"},
	"essential provider":   {[]string{"aa 1; Depends: vv", "xx 1; Provides: vv; Essential: yes", "yy 1; Provides: vv"}, []string{"aa"}, "aa=1 xx=1"},
	"virtual root":         {[]string{"aa 1; Provides: vv"}, []string{"vv"}, "aa=1"},
	"provides and breaks":  {[]string{"aa 2; Provides: vv; Conflicts: vv; Breaks: vv"}, []string{"aa"}, "aa=2"},
	"conflict given way":   {[]string{"aa 1; Depends: bb | cc, dd", "bb 1", "cc 1", "dd 1; Conflicts: bb"}, []string{"aa"}, "aa=1 cc=1 dd=1"},
	"native architecture":  {[]string{"aa 1; Depends: bb:native, cc:native | dd; Recommends: ee:all, ff:native; Suggests: gg:mips | hh:any", "bb 1", "cc 1; Conflicts: bb:native", "dd 1; Suggests: hh:all | ii:native, kk:all"}, []string{"aa"}, "aa=1 bb=1 dd=1"},
	"any architecture":     {[]string{"aa 1; Depends: bb:any", "bb 1; Multi-Arch: allowed"}, []string{"aa"}, "aa=1 bb=1"},
}

func TestResolve(t *testing.T) {
	for name, c := range resolveCases {
		if got, err := resolve(index(t, c.index...), c.roots...); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// refusals are cases of which nothing comes.
var refusals = map[string]resolveCase{
	"missing root":          {[]string{"bb 1"}, []string{"aa"}, "package aa, wanted by the spec, is in none"},
	"missing dependency":    {[]string{"aa 1; Depends: bb"}, []string{"aa"}, "package bb, wanted by package aa"},
	"unmet bound":           {[]string{"aa 1; Depends: bb (>= 2)", "bb 1"}, []string{"aa"}, "bb (>= 2), wanted by package aa"},
	"lower version":         {[]string{"aa 1; Depends: bb (<< 2)", "bb 2", "bb 1"}, []string{"aa"}, "package bb (<< 2), wanted by package aa: the candidate is 2, of priority 500"},
	"conflict":              {[]string{"aa 1; Depends: bb", "bb 1; Conflicts: aa"}, []string{"aa"}, "package bb conflicts with package aa"},
	"breaks":                {[]string{"aa 1; Depends: bb", "bb 1; Breaks: aa (<< 2)"}, []string{"aa"}, "conflicts"},
	"conflict by provision": {[]string{"aa 1; Depends: bb, cc", "bb 1; Provides: mta; Conflicts: mta", "cc 1; Provides: mta; Conflicts: mta"}, []string{"aa"}, "which provides mta"},
	"unversioned provision": {[]string{"aa 1; Depends: vv (>= 1)", "bb 1; Provides: vv"}, []string{"aa"}, "vv (>= 1)"},
	"conflict in between":   {[]string{"aa 1; Depends: bb | cc, dd", "bb 1", "cc 1; Depends: none", "dd 1; Conflicts: bb"}, []string{"aa"}, "package bb | cc, wanted by package aa: package dd conflicts with package bb 1"},
	"for any architecture":  {[]string{"aa 1; Depends: bb:any", "bb 1"}, []string{"aa"}, "package bb, wanted by package aa"},
	"virtual root of two":   {[]string{"bb 1; Provides: aa", "cc 1; Provides: aa"}, []string{"aa"}, "package aa, wanted by the spec, is provided by several: name one of bb, cc"},
	"the one to blame":      {[]string{"aa 1; Depends: bb, cc (>= 2)", "bb 1", "cc 1"}, []string{"aa"}, "package cc (>= 2), wanted by package aa: the candidate is 1"},
	"foreign architecture":  {[]string{"aa 1; Depends: gcc:arm64", "gcc 1"}, []string{"aa"}, "gcc:arm64"},
}

func TestResolveRefusals(t *testing.T) {
	for name, c := range refusals {
		if got, err := resolve(index(t, c.index...), c.roots...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

func TestBase(t *testing.T) {
	ps := index(t, "aa 1; Essential: yes", "bb 1; Priority: required", "cc 1; Priority: important")
	if d := cmp.Diff([]string{"aa", "bb"}, NewResolver(ps, "amd64", level).Base()); d != "" {
		t.Error(d)
	}
}

func TestIndexRefusals(t *testing.T) {
	const good = "Package: aa\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 1\nSHA256: 0000000000000000000000000000000000000000000000000000000000000001\n"
	if _, err := ParseIndex(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no field":         {"Package: aa", "Package aa", "line 1"},
		"twice":            {"Size: 1", "Size: 1\nSize: 2", `field "Size" twice`},
		"continuation":     {"Package", " x\nPackage", "continuation without a field"},
		"name":             {"Package: aa", "Package: A b", "not allowed"},
		"version":          {"Version: 1", "Version: x:1", "version"},
		"empty revision":   {"Version: 1", "Version: 1-", "version"},
		"letter first":     {"Version: 1", "Version: a", "digit first"},
		"absolute path":    {"pool/a.deb", "/etc/passwd", "clean relative path"},
		"climbing path":    {"pool/a.deb", "../../x", "clean relative path"},
		"size":             {"Size: 1", "Size: -1", "number of bytes"},
		"short hash":       {"SHA256: 00", "SHA256: 0", "64 hex digits"},
		"long hash":        {"SHA256: 00", "SHA256: 0000", "64 hex digits"},
		"dependency":       {"Size: 1", "Size: 1\nDepends: bb (~ 1)", "one of << <="},
		"open parenthesis": {"Size: 1", "Size: 1\nDepends: bb (>= 1", "closing parenthesis"},
		"long line":        {"Size: 1", "Size: 1\nX: " + strings.Repeat("x", maxLine), "longer than"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if ps, err := ParseIndex(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, ps, err, c.want)
		}
	}
}

var versions = []string{"0", "1", "1.0", "1.0-1", "1.0-1.1", "1.0~rc1-1", "1.0+b1", "1:0.5", "0:2", "2", "10", "9", "1.10", "1.9", "1.0a", "1.0-a", "1.0~~", "1.0~", "1.0~a", "00.1", "0.1", "1.0.+", "2026.08+ds-2", "6.12.117-1", "1-1-1", "1.0-0"}

// TestVersionOrder asks dpkg about every pair.
func TestVersionOrder(t *testing.T) {
	dpkg := testtool.Need(t, "dpkg")
	for _, a := range versions {
		for _, b := range versions {
			want := 0
			if exec.Command(dpkg, "--compare-versions", a, "lt", b).Run() == nil {
				want = -1
			} else if exec.Command(dpkg, "--compare-versions", a, "gt", b).Run() == nil {
				want = 1
			}
			if got := Version(a).Compare(Version(b)); got != want {
				t.Errorf("%s and %s: %d, dpkg says %d", a, b, got, want)
			}
		}
	}
}

// TestLongStanza: continuation lines cost what they are long, not that by their number.
func TestLongStanza(t *testing.T) {
	p, err := NewParagraphReader(strings.NewReader("A: b\n" + strings.Repeat(" x\n", 6<<20) + "C: d\n")).Next()
	if err == nil || !strings.Contains(err.Error(), "stanza longer than") {
		t.Errorf("%d fields, %v", len(p), err)
	}
	p, err = NewParagraphReader(strings.NewReader("A: b\n" + strings.Repeat(" x\n", 4<<20) + "C: d\n")).Next()
	if err != nil || len(p["a"]) != 1+2*4<<20 || p["c"] != "d" {
		t.Errorf("%d bytes, %v", len(p["a"]), err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add("Package: aa\nVersion: 1\nArchitecture: all\nDepends: b (>= 1) | c\nProvides: d (= 2)\nFilename: pool/a.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		ps, err := ParseIndex(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, p := range ps {
			if !filepath.IsLocal(p.Filename) || p.Size < 0 {
				t.Errorf("file %q of %d bytes", p.Filename, p.Size)
			}
		}
		r := NewResolver(ps, "amd64", level)
		if chosen, err := r.Resolve(r.Base()); err == nil && len(chosen) < len(r.Base()) {
			t.Errorf("%d packages of %d", len(chosen), len(r.Base()))
		}
	})
}

func FuzzVersion(f *testing.F) {
	f.Add("1:1.0~rc1-1", "1.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		va, err := ParseVersion(a)
		if err != nil {
			return
		}
		vb, err := ParseVersion(b)
		if err != nil {
			return
		}
		if va.Compare(vb) != -vb.Compare(va) || va.Compare(va) != 0 {
			t.Errorf("%q and %q: order is not one", a, b)
		}
	})
}

func FuzzRelations(f *testing.F) {
	f.Add("a (>= 1) | b:any, c")
	f.Fuzz(func(t *testing.T, s string) { ParseRelations(s) })
}

func TestParagraphs(t *testing.T) {
	r := NewParagraphReader(strings.NewReader("# comment\n\nA: 1\nB:\n x\n .\n  y\n\n\nC: 2"))
	var got []Paragraph
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	if d := cmp.Diff([]Paragraph{{"a": "1", "b": "\nx\n.\n y"}, {"c": "2"}}, got); d != "" {
		t.Error(d)
	}
}
