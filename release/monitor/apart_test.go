package monitor_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// apart is a round of one who watches beside the monitor of v.o.Dir, and which file it went on from.
func (v *watch) apart(t *testing.T, own string, adopt bool) (from string) {
	t.Helper()
	m, from, err := monitor.OpenApart(v.o, own, adopt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	return from
}

// Who watches apart misses nothing that the monitor beside it has seen, takes nothing from it, and shares what clients remember.
func TestOpenApart(t *testing.T) {
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	own := filepath.Join(t.TempDir(), "own")
	for range 2 {
		if from := v.apart(t, own, false); from != "" {
			t.Errorf("went on from %s", from)
		}
	}
	if want := []string{"minimal0.1.01", "minimal0.1.01"}; !slices.Equal(v.ran, want) {
		t.Errorf("ran %q, want %q", v.ran, want)
	}
	if files := must(filepath.Glob(filepath.Join(own, "*.json"))); len(files) != 1 || filepath.Ext(files[0][:len(files[0])-5]) != ".monitor" {
		t.Errorf("in a directory of its own: %q", files)
	}
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	v.apart(t, own, false)
	v.ran = nil
	v.round(t, monitor.Unexpected)
	if want := []string{"minimal0.1.02"}; !slices.Equal(v.ran, want) {
		t.Errorf("taken away: ran %q, want %q", v.ran, want)
	}
}

// One that shared the monitor's memory goes on from there once, with what was still to be run.
func TestOpenApartAdopts(t *testing.T) {
	w := rt.New(t)
	v := newWatch(t, w)
	run := v.o.Run
	ctx, cancel := context.WithCancel(t.Context())
	v.o.Run = func(context.Context, monitor.Release, string) error { cancel(); return nil } // interrupted
	m, err := monitor.Open(v.o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Round(ctx); err == nil {
		t.Fatal("the command was not interrupted")
	}
	v.o.Run = run
	own := filepath.Join(t.TempDir(), "own")
	file := must(filepath.Glob(filepath.Join(v.o.Dir, "*.monitor.json")))[0]
	for _, want := range []string{file, ""} {
		if from := v.apart(t, own, true); from != want {
			t.Errorf("went on from %q, want %q", from, want)
		}
	}
	if want := []string{"minimal0.1.01"}; !slices.Equal(v.ran, want) {
		t.Errorf("ran %q, want %q", v.ran, want)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := monitor.OpenApart(v.o, t.TempDir(), true); err == nil {
		t.Error("a damaged file was taken for nothing")
	}
}
