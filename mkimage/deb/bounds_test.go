package deb

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestDeepChain: a chain of dependencies has an end, and not that of the stack.
func TestDeepChain(t *testing.T) {
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("p%d 1; Depends: p%d", i, i+1))
	}
	ps := index(t, append(lines, "p5000 1")...)
	if chosen, err := NewResolver(ps, "amd64", level).Resolve([]string{"p3000"}); err != nil || len(chosen) != 2001 {
		t.Errorf("%d packages, %v", len(chosen), err)
	}
	// Marking ends at 3,000, and the problem resolver goes on from there: so does apt's.
	if chosen, err := NewResolver(ps, "amd64", level).Resolve([]string{"p0"}); err != nil || len(chosen) != 5001 {
		t.Errorf("%d packages, %v", len(chosen), err)
	}
	lines = nil
	for i := range maxNested + 10_000 {
		lines = append(lines, fmt.Sprintf("p%d 1; Depends: p%d", i, i+1))
	}
	if _, err := resolve(index(t, lines...), "p0"); err == nil || err.Error() != "the dependencies are nested deeper than 20000" {
		t.Errorf("%d deep: %v", len(lines), err)
	}
}

// TestLongStory: an error that has many causes behind it names the first and the last.
func TestLongStory(t *testing.T) {
	lines := []string{"aa 1; Depends: p0 | zz", "zz 1; Conflicts: aa"}
	for i := range 12 {
		lines = append(lines, fmt.Sprintf("p%d 1; Depends: p%d", i, i+1))
	}
	_, err := resolve(index(t, append(lines, "p12 1; Conflicts: aa")...), "aa")
	want := "package p0 | zz, wanted by package aa: package p1, wanted by package p0: package p2, wanted by package p1: package p3, wanted by package p2: (7 more): " +
		"package p11, wanted by package p10: package p12, wanted by package p11: package p12 conflicts with package aa 1"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if e := Root(err); e == nil || e.By != "p12" || e.Other != "aa" {
		t.Errorf("root %+v", e)
	}
}

// TestTooManySteps: an index made to be hard is refused, soon.
func TestTooManySteps(t *testing.T) {
	lines := []string{"aa 1; Depends: vv (>= 3)"}
	for i := range 6_000 {
		lines = append(lines, fmt.Sprintf("p%d 1; Provides: vv (= 1), ww%d; Depends: vv (>= 2)", i, i))
		lines[0] += fmt.Sprintf(", ww%d", i)
	}
	_, err := resolve(index(t, append(lines, "zz 1; Provides: vv (= 3)")...), "aa")
	if want := "the dependencies take more than 16777216 steps to try: name more of the packages that are to meet them"; err == nil || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
}

// FuzzResolve builds an index from bytes, three for a relation of one of eight packages, and resolves two of them.
func FuzzResolve(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 3, 2, 3, 1, 1})
	f.Add([]byte("The quick brown fox jumps over the lazy dog; the dog is not pleased and barks."))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields := []string{"Depends", "Conflicts", "Breaks", "Provides", "Pre-Depends", "Recommends"}
		lines := make([]map[string]string, 8)
		for ; len(b) >= 3; b = b[3:] {
			n := &lines[b[0]%8]
			if *n == nil {
				*n = map[string]string{}
			}
			field := fields[int(b[1]/8)%len(fields)]
			relation := "p" + string('0'+b[2]%10)
			if b[2] >= 128 && field != "Provides" {
				relation += " (= 1)"
			}
			switch old := (*n)[field]; {
			case old == "":
				(*n)[field] = relation
			case b[1]%2 == 0 && strings.HasSuffix(field, "epends"):
				(*n)[field] = old + " | " + relation
			default:
				(*n)[field] = old + ", " + relation
			}
		}
		var all []string
		for i, fields := range lines {
			line := fmt.Sprintf("p%d 1", i)
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				line += "; " + field + ": " + fields[field]
			}
			all = append(all, line)
		}
		r := NewResolver(index(t, all...), "amd64", level)
		ps, err := r.Resolve([]string{"p0", "p1"})
		if err != nil {
			if len(ps) != 0 || err.Error() == "" {
				t.Errorf("%v and %d packages", err, len(ps))
			}
			return
		}
		closed(t, ps)
		for _, name := range []string{"p0", "p1"} {
			if !slices.Contains(render(ps), name+"=1") {
				t.Errorf("%s is not in %v", name, render(ps))
			}
		}
	})
}

// TestMuchGarbage: packages that were wanted for another that was given up are left out one by one, in bounded time.
func TestMuchGarbage(t *testing.T) {
	lines := []string{"aa 1; Depends: bb | cc", "cc 1", "bb 1; Depends: p0, none | gg", "gg 1; Depends: none"}
	for i := range 2500 {
		lines = append(lines, fmt.Sprintf("p%d 1; Depends: p%d, q%d, r%d", i, i+1, i, i), fmt.Sprintf("q%d 1; Depends: s%d", i, i), fmt.Sprintf("r%d 1", i), fmt.Sprintf("s%d 1; Depends: q%d", i, i))
	}
	lines = append(lines, "p2500 1")
	if got, err := resolve(index(t, lines...), "aa"); got != "aa=1 cc=1" {
		t.Errorf("%s, %v", got, err)
	}
}
