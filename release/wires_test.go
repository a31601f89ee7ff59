package release_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// wired has the manifest of w name the wires of a configuration.
func wired(t *testing.T, w *rt.World, wires ...string) {
	t.Helper()
	file := filepath.Join(w.Out, release.Manifest)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m["config"] = map[string]any{"path": "etc/tally/enclave.json", "sha256": strings.Repeat("ab", 32), "wires": wires}
	if data, err = json.Marshal(m); err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWires: how else an enclave is reached is in the statement, every result says it, and a policy can refuse it.
func TestWires(t *testing.T) {
	w := rt.New(t)
	plain := w.Bundle
	wired(t, w, "confer")
	named := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	says := func(r *release.Result) bool {
		return slices.ContainsFunc(r.Checks, func(c release.Check) bool {
			return c.Name == "wires" && c.Status == release.NotChecked && strings.Contains(c.Got, "reached by confer, too")
		})
	}
	r, err := release.Verify(named, w.Policy, rt.Now)
	if err != nil || !says(r) || !slices.Equal(r.Statement.Predicate.Wires, []string{"confer"}) {
		t.Errorf("%v, %+v", err, r.Checks)
	}
	if err := r.Statement.CheckWires([]string{"confer"}); err != nil {
		t.Error(err)
	}
	for _, rebuilt := range [][]string{nil, {"other"}, {"a", "confer"}} {
		if err := r.Statement.CheckWires(rebuilt); err == nil || reason(t, err) != release.BadStatement {
			t.Errorf("%q: %v", rebuilt, err)
		}
	}
	p := *w.Policy
	p.RefuseWires = true
	if r, err = release.Verify(named, &p, rt.Now); err == nil || reason(t, err) != release.OtherWires || !release.OtherWires.Policy() || r.Statement != nil {
		t.Errorf("refused: %v", err)
	}
	if r, err = release.Verify(plain, &p, rt.Now); err != nil || says(r) {
		t.Errorf("none: %v", err)
	}
	for _, bad := range [][]string{{"confer", "confer"}, {"b", "a"}, {"Confer"}, {""}, {strings.Repeat("a", 33)}} {
		wired(t, w, bad...)
		out, err := sign.ReadOut(t.Context(), w.Out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Statement(sign.Options{Sequence: 1}); err == nil || !strings.Contains(err.Error(), "wires: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
