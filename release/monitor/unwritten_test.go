package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A directory that cannot remember is said, by who opens it or by the round.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	for _, gone := range []string{"queue", "state"} {
		v := newWatch(t, w)
		v.round(t)
		path := filepath.Join(v.o.Dir, "queue")
		if gone == "state" {
			path = must(filepath.Glob(filepath.Join(v.o.Dir, "*[0-9a-f].json")))[0]
		}
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte("{"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := monitor.Open(v.o); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	v := newWatch(t, w)
	m := must(monitor.Open(v.o))
	if err := os.RemoveAll(v.o.Dir); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Round(t.Context()); err == nil || len(v.ran) != 0 {
		t.Errorf("%+v, ran %v", r, v.ran)
	}
}

// A command may take its bundle away. When the queue cannot be written after it, the round says so beside what it found.
func TestQueueAfterCommand(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	for _, gone := range []string{"bundle", "bundle's place", "all"} {
		v.o.Dir = filepath.Join(t.TempDir(), "state")
		v.o.Run = func(_ context.Context, _ monitor.Release, bundle string) error {
			switch gone {
			case "bundle":
				return os.Remove(bundle)
			case "bundle's place":
				return errors.Join(os.Remove(bundle), os.MkdirAll(filepath.Join(bundle, "full"), 0o700))
			}
			return os.RemoveAll(v.o.Dir)
		}
		r, err := must(monitor.Open(v.o)).Round(t.Context())
		if (err == nil) != (gone == "bundle") || r == nil || len(r.Releases) != 1 || len(r.Alerts) != 0 {
			t.Errorf("%s: %+v, %v", gone, r, err)
		}
	}
}

// A command can say that its release must not be forgotten: it waits beside those that come, with its bundle, until it is done.
func TestKeptInQueue(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	good, bad := v.o.Run, true
	v.o.Run = func(ctx context.Context, r monitor.Release, bundle string) error {
		if bad && r.Sequence == 1 {
			return fmt.Errorf("full; %w", monitor.ErrKeep)
		}
		return good(ctx, r, bundle)
	}
	publish := func(sequence uint64) {
		t.Helper()
		s := w.Statement(t, sign.Options{Sequence: sequence})
		s.Predicate.Release.Version = fmt.Sprint(sequence)
		w.Publish(t, rt.Marshal(t, must(sign.Sign(s, w.Key))))
	}
	for sequence := range uint64(2) {
		publish(sequence + 2)
		if r := v.round(t, monitor.Command); len(v.ran) != int(sequence)+1 || !strings.HasSuffix(r.Alerts[0].Text, "full; tried again in the next round") {
			t.Errorf("%+v, ran %v", r.Alerts, v.ran)
		}
	}
	bad = false
	publish(4)
	v.round(t)
	v.round(t)
	if want := []string{"minimal22", "minimal33", "minimal0.1.01", "minimal44"}; !slices.Equal(v.ran, want) {
		t.Errorf("ran %v, want %v", v.ran, want)
	}
	if left := must(os.ReadDir(filepath.Join(v.o.Dir, "queue"))); len(left) != 0 {
		t.Errorf("left in the queue: %v", left)
	}
}

// What a round found and could not write is told by the next one that can.
func TestUnwrittenRound(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.o.Full = true
	m := must(monitor.Open(v.o))
	if _, err := m.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, path := range append(must(filepath.Glob(filepath.Join(v.o.Dir, "*.json"))), filepath.Join(v.o.Dir, "queue")) {
		s := w.Statement(t, sign.Options{Sequence: uint64(i) + 2})
		s.Predicate.Release.Version = strings.Repeat("1", i+1)
		w.Publish(t, rt.Marshal(t, must(sign.Sign(s, w.Key))))
		err := errors.Join(os.Rename(path, path+".away"), os.MkdirAll(filepath.Join(path, "full"), 0o700))
		if filepath.Ext(path) == "" {
			err = errors.Join(err, os.RemoveAll(path), os.WriteFile(path, nil, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if r, err := m.Round(t.Context()); err == nil || len(v.ran) != i+1 {
				t.Errorf("without %s: %+v, ran %v", path, r, v.ran)
			}
		}
		if err := errors.Join(os.RemoveAll(path), os.Rename(path+".away", path)); err != nil {
			t.Fatal(err)
		}
		if r, err := m.Round(t.Context()); err != nil || len(r.Releases) != 1 || r.Fresh != 1 || len(r.Alerts) != 0 || len(v.ran) != i+2 {
			t.Errorf("with %s again: %+v, %v, ran %v", path, r, err, v.ran)
		}
	}
}
