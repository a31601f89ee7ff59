package monitor_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

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
