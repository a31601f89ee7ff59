package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/release/rebuild"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// rebuilt compares a release with a copy of it whose initrd and manifest are others, and returns what is printed.
func rebuilt(t *testing.T, target func(out string) *target) string {
	t.Helper()
	released, out := rt.Out(t), rt.Out(t)
	setVersion(t, released, "0.1.0")
	setVersion(t, out, "0.2.0")
	if err := os.WriteFile(filepath.Join(out, "initrd"), []byte("initrd 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tg := target(released)
	r, err := rebuild.Compare(t.Context(), tg.subjects, os.DirFS(out))
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.explain(t.Context(), &env{quiet: true}, r, out, lock.NewStore(t.TempDir())); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	printWhy(&env{out: &b, stdout: &b}, r)
	return b.String()
}

// setVersion writes the manifest again, in the form that a build writes.
func setVersion(t *testing.T, out, version string) {
	t.Helper()
	name := filepath.Join(out, "manifest.json")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var m mkimage.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m.Version = version
	if data, err = m.Marshal(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, w := range lines {
		if !strings.Contains(got, w) {
			t.Errorf("no %q in\n%s", w, got)
		}
	}
}

// TestRebuildExplains: the released files are at hand in an output directory.
func TestRebuildExplains(t *testing.T) {
	got := rebuilt(t, func(out string) *target {
		tg, err := outTarget(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		return tg
	})
	want(t, got, "likely causes\n", "      -initrd", "      +initrd 2\n", "another version in the spec", "  SNP launch digest  direct boot  initrd\n")
	if strings.Contains(got, "the statement says") {
		t.Errorf("an output directory has no statement:\n%s", got)
	}
}

// TestRebuildExplainsByTheStatement: no released file is at hand, so what the statement carries must do.
func TestRebuildExplainsByTheStatement(t *testing.T) {
	got := rebuilt(t, func(out string) *target {
		w := &rt.World{Out: out}
		tg, err := outTarget(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		tg.statement = w.Statement(t, sign.Options{Sequence: 1})
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		return tg
	})
	want(t, got, "the statement says otherwise\n  release.version\n    - 0.1.0\n    + 0.2.0\n", "note the released initrd is not at hand (--from DIR)")
	if strings.Contains(got, "likely causes") || strings.Contains(got, "inputs.lock") {
		t.Errorf("said too much:\n%s", got)
	}
}

// TestOutTarget: what is in the directory counts, and the manifest for what is not.
func TestOutTarget(t *testing.T) {
	out := rt.Out(t)
	setVersion(t, out, "0.1.0")
	sums := func() map[string]string {
		tg, err := outTarget(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, s := range tg.subjects {
			all[s.Name] = s.SHA256
		}
		return all
	}
	was := sums()
	if err := os.Remove(filepath.Join(out, "disk.raw")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "initrd"), []byte("tampered"), 0o644); err != nil {
		t.Fatal(err)
	}
	is := sums()
	if is["initrd"] == was["initrd"] || is["initrd"] != sha256Hex([]byte("tampered")) || is["disk.raw"] != was["disk.raw"] || is["uki.efi"] != was["uki.efi"] {
		t.Errorf("was %v, is %v", was, is)
	}
}
