package rebuild

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage"
)

func sum(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func TestCompare(t *testing.T) {
	dir := fstest.MapFS{"a": {Data: []byte("a")}, "b": {Data: []byte("B")}, "d/x": {Data: []byte("x")}}
	r, err := Compare(t.Context(), []Subject{{"a", sum("a")}, {"b", sum("b")}, {"c", sum("c")}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{{"a", Match, sum("a"), sum("a")}, {"b", Differ, sum("b"), sum("B")}, {"c", Missing, sum("c"), ""}, {"d/x", Extra, "", sum("x")}}
	if d := cmp.Diff(want, r.Subjects); d != "" || r.Reproduced || r.Reason != "bytes" {
		t.Errorf("reproduced %v, reason %q\n%s", r.Reproduced, r.Reason, d)
	}
	r, err = Compare(t.Context(), []Subject{{"a", sum("a")}, {"b", sum("B")}, {"d/x", sum("x")}}, dir)
	if err != nil || !r.Reproduced || r.Reason != "" {
		t.Errorf("equal: %+v, %v", r, err)
	}
	for _, rows := range [][]Subject{nil, {{"a", sum("a")}}, {{"a", sum("a")}, {"b", sum("B")}}} {
		if r, err := Compare(t.Context(), rows, dir); err == nil && r.Reproduced {
			t.Errorf("%v counts as reproduced", rows)
		}
	}
}

// TestStepOutputs names what a step made differently.
func TestStepOutputs(t *testing.T) {
	made := func(sum byte) *mkimage.Manifest {
		return &mkimage.Manifest{Steps: []mkimage.Step{{Name: "hello", Outputs: []mkimage.StepOutput{{Target: "usr/bin/hello", SHA256: mkimage.Digest{sum}}, {Target: "etc/same"}}}}}
	}
	got := Inputs(made(1), made(2))
	if len(got) != 1 || got[0].Kind != "step" || got[0].Name != "hello: usr/bin/hello" || !strings.HasPrefix(got[0].Was, "sha256:01") || !strings.HasPrefix(got[0].Is, "sha256:02") {
		t.Errorf("got %+v", got)
	}
	if d := Inputs(made(1), made(1)); len(d) != 0 {
		t.Errorf("equal steps differ: %+v", d)
	}
}

func TestInputs(t *testing.T) {
	in := func(kind, name, version string) mkimage.Input {
		return mkimage.Input{Kind: kind, Name: name, Version: version, SHA256: sha256.Sum256([]byte(version))}
	}
	was := &mkimage.Manifest{Inputs: []mkimage.Input{in("package", "libc6", "1"), in("package", "bash", "5"), in("go", "init", "")}}
	is := &mkimage.Manifest{Inputs: []mkimage.Input{in("package", "libc6", "2"), in("go", "init", ""), in("file", "x", "")}}
	want := []InputDiff{
		{"file", "x", "", " sha256:" + sum("")},
		{"package", "bash", "5 sha256:" + sum("5"), ""},
		{"package", "libc6", "1 sha256:" + sum("1"), "2 sha256:" + sum("2")},
	}
	if d := cmp.Diff(want, Inputs(was, is)); d != "" {
		t.Error(d)
	}
	if d := Inputs(was, was); len(d) != 0 {
		t.Errorf("equal manifests differ: %v", d)
	}
	// One module in two versions is two inputs, each of which may be the one that differs.
	two := func(versions ...string) *mkimage.Manifest {
		m := new(mkimage.Manifest)
		for _, v := range versions {
			m.Inputs = append(m.Inputs, in("module", "m", v))
		}
		return m
	}
	want = []InputDiff{{"module", "m", "1 sha256:" + sum("1") + ", 3 sha256:" + sum("3"), "2 sha256:" + sum("2") + ", 3 sha256:" + sum("3")}}
	if d := cmp.Diff(want, Inputs(two("1", "3"), two("2", "3"))); d != "" {
		t.Error(d)
	}
}
