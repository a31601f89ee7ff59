package monitor_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// What the clients share can be lost: what the monitor audited convicts the log all the same.
func TestAuditedIsRemembered(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	before, twin := copyLog(t, w), copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9}))
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3}))
	v := newWatch(t, w)
	v.o.Run = nil
	v.round(t, monitor.Unexpected)
	shared, err := filepath.Glob(filepath.Join(v.o.Dir, w.Log.Origin()+"-*[0-9a-f].json"))
	if err != nil || len(shared) != 1 {
		t.Fatalf("%v, %v", shared, err)
	}
	for full, want := range map[bool]string{false: "leaves audited before, which had", true: "when they were audited"} {
		if err := os.Remove(shared[0]); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		v.o.Full = full
		v.at(t, twin.LogDir)
		if r := v.round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, want) {
			t.Errorf("full %v: %s, want %q", full, r.Alerts[0].Text, want)
		}
	}
	v.o.Full = false
	v.at(t, w.LogDir)
	v.round(t)
	// Nor can it have fewer leaves than were audited.
	if err := os.Remove(shared[0]); err != nil {
		t.Fatal(err)
	}
	v.at(t, before.LogDir)
	if r := v.round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, "2 leaves were audited, it has 1") {
		t.Errorf("%s", r.Alerts[0].Text)
	}
}

// A log has each statement once, and each bundle speaks of its own leaf.
func TestLeafOfAnother(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	first := must(release.ParseBundle(w.Bundle))
	twin := copyLog(t, w)
	appendBody(t, w, first.Entry.Body)
	v := newWatch(t, w)
	if r := v.round(t, release.BadInclusion); len(r.Alerts) == 1 && *r.Alerts[0].Index != 1 {
		t.Errorf("%+v", r.Alerts)
	}
	// A bundle from a fork, of the same place and another leaf.
	other := copyLog(t, twin)
	mine := twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	theirs := other.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3}))
	if mine.Index != theirs.Index {
		t.Fatal("the test's logs are not what it means")
	}
	leaf := release.LeafHash(must(release.ParseBundle(mine.Bundle)).Entry.Body)
	if err := os.WriteFile(filepath.Join(twin.LogDir, publish.BundlePath(leaf)), theirs.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	v = newWatch(t, twin)
	if r := v.round(t, release.BadInclusion); len(r.Releases) != 1 {
		t.Errorf("%+v", r)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// appendBody puts one leaf into the log, whether it has it already or not.
func appendBody(t *testing.T, w *rt.World, body []byte) {
	t.Helper()
	l := must(log.OpenBulk(t.Context(), w.LogDir, w.LogKey, time.Now, slog.New(slog.DiscardHandler)))
	if err := l.AppendAll(t.Context(), [][]byte{body}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A bundle may show a tree that the log had not published when the round began: once. A log that goes on showing the
// monitor less than it shows in its bundles is said to.
func TestAhead(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	checkpoint := filepath.Join(w.LogDir, log.CheckpointFile)
	put := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	short := must(os.ReadFile(checkpoint))
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	b := must(release.ParseBundle(w.Bundle))
	l := w.Open(t)
	b.Entry = must(l.Append(t.Context(), b.Entry.Body)) // the same leaf, in the tree of two
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole := must(os.ReadFile(checkpoint))
	put(filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(b.Entry.Body))), rt.Marshal(t, b))

	v := newWatch(t, w)
	v.o.Run = nil
	put(checkpoint, short)
	if r := v.round(t); r.Bare != 1 || r.Size != 1 {
		t.Errorf("first: %+v", r)
	}
	for range 2 {
		if r := v.round(t, release.LogStale); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, "shows a tree of 2 leaves, and one of 2 in an earlier round; the log's latest has 1") {
			t.Errorf("%s", r.Alerts[0].Text)
		}
	}
	v.o.Full = true
	v.round(t, release.LogStale)
	put(checkpoint, whole)
	if r := v.round(t); r.Bare != 0 || r.Size != 2 {
		t.Errorf("whole again: %+v", r)
	}
}

// What such a bundle says is told when it is seen, and not again when the log has reached its tree.
func TestAheadIsToldOnce(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	b := must(release.ParseBundle(w.Rebuild(t, rt.Key(t), w.Bundle, nil)))
	checkpoint := filepath.Join(w.LogDir, log.CheckpointFile)
	short := must(os.ReadFile(checkpoint))
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	l := w.Open(t)
	b.Entry = must(l.Append(t.Context(), b.Entry.Body))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole := must(os.ReadFile(checkpoint))
	v := newWatch(t, w)
	for i, data := range [][]byte{short, whole, whole} {
		for path, data := range map[string][]byte{checkpoint: data, filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(b.Entry.Body))): rt.Marshal(t, b)} {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if r := v.round(t); (len(r.Rebuilds) == 1) != (i == 0) || (r.Bare == 1) != (i == 0) {
			t.Errorf("round %d: %+v", i, r)
		}
	}
}

// What is remembered of leaves that do not exist is a damaged file, not a panic.
func TestMemoryOfNoLeaf(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	file := must(filepath.Glob(filepath.Join(v.o.Dir, "*.monitor.json")))[0]
	data := string(must(os.ReadFile(file)))
	hash := `"` + strings.Repeat("ab", 32) + `"`
	for _, bare := range []string{`"bare": {"1": ` + hash, `"lost": {"1": ` + hash, `"bare": {"-1": ` + hash, `"bare": {"0": ` + hash, `"unheld": {"1": {}`, `"unheld": {"-1": {}`, `"unheld": {"0": {}`} {
		text := strings.Replace(data, `"root"`, bare+`}, "root"`, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := monitor.Open(v.o); (err == nil) != strings.Contains(bare, `"0"`) || err != nil && !strings.Contains(err.Error(), ", of 1 leaves: the file is damaged") {
			t.Errorf("%s: %v", bare, err)
		}
	}
}

// A round that is not full reads the tiles of what was audited, and the leaves without bundle.
func TestDamagedLater(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendBody(t, w, []byte("nobody's"))
	v := newWatch(t, w)
	v.round(t, monitor.NoBundle)
	change := func(b []byte) []byte { return append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1) }
	for _, tt := range []struct {
		file string
		edit func([]byte) []byte // nil: it is gone
		want string
	}{
		{"tile/0/000.p/2", nil, "tile/0/000.p/2"},
		{"tile/0/000.p/2", change, "its tiles give root"},
		{"tile/entries/000.p/2", nil, "tile/entries/000.p/2"},
		{"tile/entries/000.p/2", change, "leaf 1 is "},
	} {
		path := filepath.Join(w.LogDir, filepath.FromSlash(tt.file))
		whole := must(os.ReadFile(path))
		err := os.Remove(path)
		if tt.edit != nil {
			err = os.WriteFile(path, tt.edit(whole), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if r := v.round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, tt.want) {
			t.Errorf("%s: %s, want %q", tt.file, r.Alerts[0].Text, tt.want)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		v.round(t, monitor.NoBundle)
	}
}

// Leaves and tiles that agree with each other are nothing when the log has signed another tree.
func TestTreeOfAnother(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	twin := copyLog(t, w)
	appendBody(t, w, []byte("mine"))
	appendBody(t, twin, []byte("theirs"))
	signed := must(os.ReadFile(filepath.Join(twin.LogDir, log.CheckpointFile)))
	if err := os.WriteFile(filepath.Join(w.LogDir, log.CheckpointFile), signed, 0o644); err != nil {
		t.Fatal(err)
	}
	v := newWatch(t, w)
	if r := v.round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, "its 2 leaves have root") || len(r.Releases) != 0 {
		t.Errorf("%+v", r)
	}
	for _, gone := range []string{"nothing", "tile/entries/000.p/2", log.CheckpointFile} { // nor to an audit, which ends
		os.Remove(filepath.Join(w.LogDir, filepath.FromSlash(gone)))
		if tree, err := monitor.Audit(t.Context(), v.o.Source, w.Log); err == nil || errors.Is(err, log.ErrDamaged) == (gone == log.CheckpointFile) {
			t.Errorf("without %s: %v, %v", gone, tree, err)
		}
	}
}
