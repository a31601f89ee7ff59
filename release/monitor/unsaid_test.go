package monitor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"tally/release"
	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A monitor that is killed after it remembered what it found, and before anybody was told, tells it in its next report:
// in each until somebody was, and also in that of a round which finds a log that is wrong.
func TestKilledBeforeTold(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	old := copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	w.Rebuild(t, rt.Key(t), w.Bundle, func(r *release.Rebuild) {
		r.Predicate.Result = release.Differs
		r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "MISSING", Want: &release.Digest{1}}}
	})
	appendBody(t, w, []byte("nobody's")) // has no bundle, which every round says anyway
	v := newWatch(t, w)
	ran := 0
	v.o.Run = func(context.Context, monitor.Release, string) error {
		if ran++; ran == 2 {
			panic("killed")
		}
		return errors.New("no")
	}
	func() {
		defer func() { recover() }()
		must(monitor.Open(v.o)).Round(t.Context())
	}()
	if v.o.Run = nil; ran != 2 {
		t.Fatalf("ran %d commands", ran)
	}
	want := []release.Reason{monitor.Unexpected, release.Mismatch, monitor.Command}
	for place, more := range map[string]release.Reason{w.LogDir: monitor.NoBundle, old.LogDir: release.LogStale} {
		v.at(t, place)
		var got []release.Reason
		for _, a := range must(must(monitor.Open(v.o)).Round(t.Context())).Alerts {
			got = append(got, a.Reason)
		}
		if !slices.Equal(got, append(slices.Clone(want), more)) {
			t.Errorf("not told yet: %v, want %v, %s", got, want, more)
		}
	}
	v.at(t, w.LogDir)
	r := v.round(t, append(want, monitor.NoBundle)...)
	if *r.Alerts[0].Index != 1 || !strings.Contains(r.Alerts[0].Text, "0.1.0 is released a second time") {
		t.Errorf("%+v", r.Alerts[0])
	}
	v.round(t, monitor.NoBundle)
}

// What is told is not told again by a monitor that runs on, nor is a report that is none.
func TestTold(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	v := newWatch(t, w)
	m := must(monitor.Open(v.o))
	for i, want := range []int{1, 1, 1, 0} {
		r := must(m.Round(t.Context()))
		if len(r.Alerts) != want {
			t.Errorf("round %d: %+v", i, r.Alerts)
		}
		if i < 2 {
			r = nil
		}
		if err := m.Told(r); err != nil {
			t.Fatal(err)
		}
	}
	v.round(t)
}
