package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A littered source has garbage in the place of every bundle but those that are whole.
type littered struct {
	log.Source
	whole map[string]bool
	pad   int // bytes of white space after those
}

func (s *littered) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	if strings.HasPrefix(name, "bundles/") && !s.whole[name] {
		return []byte("{"), nil
	}
	data, err := s.Source.Read(ctx, name, limit)
	if strings.HasPrefix(name, "bundles/") {
		data = append(data, bytes.Repeat([]byte(" "), s.pad)...)
	}
	return data, err
}

// litter puts n leaves into the log that are nobody's.
func litter(t *testing.T, w *rt.World, n int) {
	t.Helper()
	l, err := log.OpenBulk(t.Context(), w.LogDir, w.LogKey, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	for i := range n {
		bodies = append(bodies, fmt.Append(nil, i))
	}
	if err := errors.Join(l.AppendAll(t.Context(), bodies), l.Close()); err != nil {
		t.Fatal(err)
	}
}

// watchLitter are the options of a monitor that starts from nothing, and what it reads; bundles are the ones that are whole.
func watchLitter(t *testing.T, w *rt.World, bundles ...[]byte) (Options, *littered) {
	t.Helper()
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &littered{Source: src, whole: map[string]bool{}}
	for _, b := range bundles {
		s.whole[placeOf(t, b)] = true
	}
	return Options{Source: s, Dir: t.TempDir(), Policy: w.Policy, Now: func() time.Time { return rt.Now }}, s
}

func placeOf(t *testing.T, bundle []byte) string {
	t.Helper()
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return publish.BundlePath(release.LeafHash(b.Entry.Body))
}

// publishVersion publishes a release beside the world's first.
func publishVersion(t *testing.T, w *rt.World, sequence int) []byte {
	t.Helper()
	s := w.Statement(t, sign.Options{Sequence: uint64(sequence)})
	s.Predicate.Release.Version = fmt.Sprintf("%d.0.0", sequence)
	k, err := sign.Sign(s, w.Key)
	if err != nil {
		t.Fatal(err)
	}
	return w.Publish(t, rt.Marshal(t, k)).Bundle
}

func round(t *testing.T, o Options) (*Report, *memoryFile) {
	t.Helper()
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := m.Round(t.Context())
	if err := errors.Join(err, m.Told(rep)); err != nil {
		t.Fatal(err)
	}
	return rep, &m.mem.file
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A log that has garbage for every bundle costs a monitor little for each leaf, and no more than a file could remember.
func TestGarbageInMemory(t *testing.T) {
	defer func(most int) { maxMemory = most }(maxMemory)
	w := rt.New(t)
	const n, from = 60 * width, 10
	litter(t, w, n-1)
	o, src := watchLitter(t, w)
	before, held := int64(0), int64(0)
	tiles := 0
	o.Source = counting{src, func(name string) {
		if !strings.HasPrefix(name, "tile/entries/") {
			return
		}
		switch tiles++; tiles {
		case from:
			before = heap()
		case n / width:
			held = heap() - before
		}
	}}
	rep, mem := round(t, o)
	if each := held / (n - from*width); before == 0 || held == 0 || each > 64 {
		t.Errorf("%d bytes for each leaf", each)
	}
	if len(rep.Alerts) != maxNamed+1 || rep.Fresh != n || len(mem.Unheld) != n {
		t.Errorf("%d alerts, %d leaves, %d remembered", len(rep.Alerts), rep.Fresh, len(mem.Unheld))
	}
	if rep, _ := round(t, o); len(rep.Alerts) != 0 {
		t.Errorf("said again: %+v", rep.Alerts[0])
	}
	tiles, o.Dir = 0, t.TempDir()
	maxMemory = minUnheld * (2*width - maxNamed)
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := m.Round(t.Context()); err == nil || !strings.Contains(err.Error(), "without a bundle that holds") || tiles != 2 {
		t.Errorf("%+v, %v, after %d tiles", rep, err, tiles)
	}
}

// What stands among garbage is told when its bundle comes, named or not, and what is wrong has its reason.
func TestReleaseAmongGarbage(t *testing.T) {
	w := rt.New(t)
	litter(t, w, maxNamed+50)
	late := publishVersion(t, w, 2)
	stranger := rt.Key(t)
	foreign, err := w.TryPublish(t.Context(), t, w.Sign(t, stranger, sign.Options{Sequence: 3}), stranger.Public())
	if err != nil {
		t.Fatal(err)
	}
	o, src := watchLitter(t, w, w.Bundle, foreign.Bundle)
	said := func(rep *Report, rest string) {
		t.Helper()
		a := rep.Alerts
		if len(a) != maxNamed+2 || *a[0].Index != 1 || *a[maxNamed-1].Index != maxNamed || a[maxNamed].Reason != release.BadIdentity || *a[maxNamed].Index != 152 {
			t.Fatalf("%+v", a)
		}
		if l := a[maxNamed+1]; l.Reason != release.BadBundle || l.Index != nil || l.Text != rest {
			t.Errorf("%+v, want %q", l, rest)
		}
	}
	rep, mem := round(t, o)
	said(rep, "51 more leaves have a bundle that does not hold; the first is leaf 101, the last leaf 151")
	if len(rep.Releases) != 1 || len(mem.Unheld) != maxNamed+52 {
		t.Errorf("%+v, %d remembered", rep.Releases, len(mem.Unheld))
	}
	src.whole[placeOf(t, late)] = true
	o.Full = true
	rep, mem = round(t, o)
	said(rep, "50 more leaves have a bundle that does not hold; the first is leaf 101, the last leaf 150")
	if _, still := mem.Unheld[151]; still || len(rep.Releases) != 1 || rep.Releases[0].Index != 151 || len(mem.Unheld) != maxNamed+51 {
		t.Errorf("%+v, %d remembered", rep.Releases, len(mem.Unheld))
	}
}

// A round reads some of the leaves again whose bundle did not hold, all of them by turns, whoever starts the monitor.
func TestGarbageByTurns(t *testing.T) {
	w := rt.New(t)
	litter(t, w, 2*maxAgain+50)
	late := publishVersion(t, w, 2)
	o, src := watchLitter(t, w, w.Bundle)
	round(t, o)
	src.whole[placeOf(t, late)] = true
	read := map[string]bool{}
	o.Source = counting{src, func(name string) {
		if strings.HasPrefix(name, "bundles/") {
			read[name] = true
		}
	}}
	for i, releases := range []int{0, 0, 1} { // the last of them is the release
		rep, mem := round(t, o)
		if want := min((i+1)*maxAgain, 2*maxAgain+51); len(read) != want || len(rep.Releases) != releases || len(rep.Alerts) != 0 || len(mem.Unheld) != 2*maxAgain+51-releases {
			t.Errorf("round %d: read %d, want %d; %+v, %d remembered", i, len(read), want, rep, len(mem.Unheld))
		}
	}
}

// What was judged before is not what nobody was told of. Leaves come in any order, and each reason is counted by itself.
func TestKeep(t *testing.T) {
	w := &walk{m: &Monitor{mem: new(memory)}, rep: new(Report), litter: map[release.Reason]*kind{}}
	w.m.mem.file.fill()
	put := func(index int64, reason release.Reason, judged bool) {
		l := &leaf{index: index, judged: judged}
		l.alert(reason, "bad")
		w.keep(l)
	}
	for i := range int64(maxNamed) {
		put(i, release.BadBundle, false)
		put(1000+i, release.BadSignature, true)
	}
	if w.rememberGarbage(); len(w.leaves) != 2*maxNamed || len(w.rep.Alerts) != 0 {
		t.Errorf("%d leaves, %+v", len(w.leaves), w.rep.Alerts)
	}
	for _, i := range []int64{700, 500, 900, 600} {
		put(i, release.BadBundle, i == 600)
	}
	put(1200, release.BadSignature, true)
	held := &leaf{index: 1300, tree: release.SeenTree{Tree: tlog.Tree{N: 1}}}
	w.keep(held)
	w.rememberGarbage()
	want := []Alert{
		{Reason: release.BadBundle, Text: "4 more leaves have a bundle that does not hold; the first is leaf 500, the last leaf 900"},
		{Reason: release.BadSignature, Text: "1 more leaves have a bundle that does not hold; the first is leaf 1200, the last leaf 1200"},
	}
	if !slices.Equal(w.rep.Alerts, want) || len(w.leaves) != 2*maxNamed+1 || !slices.Equal(w.unheld, []int64{700, 500, 900}) || len(w.m.mem.file.Unheld) != 3 {
		t.Errorf("%+v, %d leaves, %v", w.rep.Alerts, len(w.leaves), w.unheld)
	}
}

// Of alerts that nobody was told of the file remembers the first of each reason, however often a monitor is killed.
func TestBounded(t *testing.T) {
	var all []Alert
	for round := range 3 {
		for i := range int64(maxNamed + 2) {
			all = append(all, Alert{Reason: release.Revoked, Index: &i}, Alert{Reason: release.LogFork, Index: &i})
		}
		all = bounded(append(all, Alert{Reason: Unexpected}))
		if n := 2*(maxNamed+1) + round + 1; len(all) != n || *all[1].Index != 0 || *all[2*maxNamed-1].Index != maxNamed-1 {
			t.Fatalf("round %d: %d alerts, want %d", round, len(all), n)
		}
	}
	if last := all[len(all)-1]; last.Text != "at least 103 more, of rounds that ended before anybody was told" {
		t.Errorf("%+v", last)
	}
}

// A fork is told beside what else is wrong with a leaf, in one place.
func TestForkedOnce(t *testing.T) {
	o, _ := watchLitter(t, rt.New(t))
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, alerts := range []int{0, 1} {
		w := &walk{m: m, rep: new(Report), view: new(release.LogView)}
		l := &leaf{judged: true, tree: release.SeenTree{Tree: tlog.Tree{N: 1}}}
		if alerts > 0 {
			l.alert(release.Expired, "late")
			w.keep(l)
		}
		if w.forked(l); len(w.leaves) != 1 || len(l.alerts) != alerts+1 || l.alerts[alerts].Reason != release.LogFork {
			t.Errorf("%d alerts before: %d leaves, %+v", alerts, len(w.leaves), l.alerts)
		}
	}
}

// Bundles that the command wants are in nobody's memory until it runs, and are the ones that were checked.
func TestSpooledBundles(t *testing.T) {
	w := rt.New(t)
	const n, pad = 20, 512 << 10
	all := [][]byte{w.Bundle}
	for i := 2; i <= n; i++ {
		all = append(all, publishVersion(t, w, i))
	}
	o, src := watchLitter(t, w, all...)
	src.pad = pad
	channel := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	src.whole[placeOf(t, channel)] = true
	left := func(pattern string, want int) {
		t.Helper()
		if files, err := filepath.Glob(filepath.Join(o.Dir, "round.scratch-*", pattern)); err != nil || len(files) != want {
			t.Errorf("%v, %v, want %d", files, err, want)
		}
	}
	ran := 0
	o.Run = func(_ context.Context, r Release, bundle string) error {
		left("", 0)
		data, err := os.ReadFile(bundle)
		if want := all[r.Index]; err != nil || len(data) != len(want)+pad || !bytes.HasPrefix(data, want) {
			t.Errorf("%s: %d bytes, %v", r.Version, len(data), err)
		}
		ran++
		return nil
	}
	before, held, found := int64(0), int64(0), n-1
	ctx, cancel := context.WithCancel(t.Context())
	o.Source = counting{src, func(name string) {
		if name == fmt.Sprintf("tile/0/000.p/%d", n+1) { // when all bundles have been read
			left("*", found)
			held = heap() - before
			cancel()
		}
	}}
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	// A round that ends early leaves nothing behind, and nothing of it is run.
	m.o.Wait = time.Hour
	last := filepath.Join(w.LogDir, filepath.FromSlash(placeOf(t, all[n-1])))
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	if rep, err := m.Round(ctx); !errors.Is(err, context.Canceled) || ran != 0 {
		t.Errorf("%+v, %v, ran %d", rep, err, ran)
	}
	left("", 0)
	if err := os.WriteFile(last, all[n-1], 0o644); err != nil {
		t.Fatal(err)
	}
	before, found = heap(), n
	if rep, err := m.Round(t.Context()); err != nil || len(rep.Releases) != n || ran != n || held > n*pad/2 {
		t.Errorf("%v, ran %d, %d bytes held", err, ran, held)
	}
	// A round that reads all again keeps nothing of what is known.
	m.o.Full, found = true, 0
	if rep, err := m.Round(t.Context()); err != nil || rep.Again != n+1 || ran != n {
		t.Errorf("%+v, %v, ran %d", rep, err, ran)
	}
}
