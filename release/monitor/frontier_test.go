package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
)

// tiles is a source that holds the level-0 hash tiles and those above as tlog makes them.
type tiles map[string][]byte

func (s tiles) String() string { return "tiles" }

func (s tiles) Read(_ context.Context, path string, _ int64) ([]byte, error) {
	if data, ok := s[path]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
}

func (s tiles) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	data, err := s.Read(ctx, path, 0)
	return io.NopCloser(bytes.NewReader(data)), err
}

// TestFrontier holds the tree at every size, and the tiles, against golang.org/x/mod/sumdb/tlog.
func TestFrontier(t *testing.T) {
	const most = 66000 // more than one full tile of level 1
	src := tiles{}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	f := new(frontier)
	if want, _ := tlog.TreeHash(0, reader); f.root() != want {
		t.Error("root of the empty tree")
	}
	for n := int64(0); n < most; n++ {
		leaf := tlog.RecordHash(fmt.Append(nil, n))
		more, err := tlog.StoredHashesForRecordHash(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		for _, tile := range tlog.NewTiles(height, n, n+1) {
			if tile.W == width {
				src.keep(t, tile, reader)
			}
		}
		if err := f.add(t.Context(), src, leaf); err != nil {
			t.Fatal(err)
		}
		if n < 700 || n > 65000 {
			if want, err := tlog.TreeHash(n+1, reader); err != nil || f.root() != want {
				t.Fatalf("root at %d leaves, %v", n+1, err)
			}
		}
	}
	for _, tile := range tlog.NewTiles(height, 0, most) {
		src.keep(t, tile, reader)
	}
	if err := f.checkPartial(t.Context(), src); err != nil {
		t.Error(err)
	}
	again, err := load(t.Context(), src, most, most)
	if err != nil || again.root() != f.root() {
		t.Errorf("read from tiles: another root, %v", err)
	}
}

func (s tiles) keep(t *testing.T, tile tlog.Tile, r tlog.HashReader) {
	data, err := tlog.ReadTileData(tile, r)
	if err != nil {
		t.Fatal(err)
	}
	s[path(tile)] = data
}

func path(t tlog.Tile) string {
	p := fmt.Sprintf("tile/%d/%03d", t.L, t.N)
	if t.W < width {
		p += fmt.Sprintf(".p/%d", t.W)
	}
	return p
}

// A log says as much as it likes in every round; what is said about it has an end.
func TestNamedLeaves(t *testing.T) {
	for name, tt := range map[string]struct {
		ahead int64
		size  int64 // leaves judged before
		want  string
	}{
		"never had one":  {0, 0, "7 more leaves have no bundle: nobody can tell what was logged; the first is leaf 100, the last leaf 106"},
		"lost it":        {0, 107, "7 more leaves have no bundle: it had one when it was judged; the first is leaf 100, the last leaf 106"},
		"hides its tree": {200, 0, "7 more bundles show trees that the log's latest does not reach, as in an earlier round; the first is leaf 100, the last leaf 106"},
	} {
		m := &Monitor{mem: &memory{file: memoryFile{Size: tt.size, Ahead: map[int64]int64{}}}}
		w := &walk{m: m, rep: new(Report), bare: map[int64]*bare{}}
		for i := range int64(maxNamed + 7) {
			w.bare[i], m.mem.file.Ahead[i] = &bare{ahead: tt.ahead}, tt.ahead
		}
		w.rememberBare()
		if n := len(w.rep.Alerts); n != maxNamed+1 || *w.rep.Alerts[maxNamed-1].Index != maxNamed-1 || w.rep.Alerts[maxNamed].Index != nil || w.rep.Alerts[maxNamed].Text != tt.want {
			t.Errorf("%s: %d alerts, the last %+v", name, n, w.rep.Alerts[n-1])
		}
		if f := m.mem.file; w.rep.Bare != maxNamed+7 || len(f.Bare)+len(f.Lost) != maxNamed+7 || len(f.Ahead) != int(min(tt.ahead, maxNamed+7)) {
			t.Errorf("%s: remembers %d, %d and %d", name, len(f.Bare), len(f.Lost), len(f.Ahead))
		}
		for i := range int64(7) {
			delete(w.bare, i)
		}
		w.rep.Alerts = nil
		w.rememberBare()
		if n := len(w.rep.Alerts); n != maxNamed {
			t.Errorf("%s: %d alerts of %d leaves", name, n, maxNamed)
		}
	}
}

// What could not be read again is not written over what can.
func TestMemoryLimit(t *testing.T) {
	defer func(most int) { maxMemory = most }(maxMemory)
	m := &memory{path: filepath.Join(t.TempDir(), "memory")}
	if err := m.save(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	for most, large := range map[int]bool{len(before): false, len(before) - 1: true} {
		maxMemory = most
		if _, err := openMemory(m.path, release.LogKey{}); err == nil || strings.Contains(err.Error(), "larger than") != large { // it has no schema either
			t.Errorf("%d bytes of %d: %v", len(before), most, err)
		}
	}
	maxMemory = len(before)
	if err := m.save(); err != nil {
		t.Errorf("as large as can be read: %v", err)
	}
	maxMemory--
	m.file.Size++ // other bytes, as many of them
	if err := m.save(); err == nil || !strings.Contains(err.Error(), "leaves without a bundle that holds") {
		t.Errorf("larger than can be read: %v", err)
	}
	if after, err := os.ReadFile(m.path); err != nil || string(after) != string(before) {
		t.Errorf("what was there: %s, %v", after, err)
	}
}

// A counting source counts the reads of a file and looks at each.
type counting struct {
	log.Source
	look func(name string)
}

func (c counting) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	c.look(name)
	return c.Source.Read(ctx, name, limit)
}

// What a log keeps no bundles for is in nobody's memory: neither the leaves' bodies while a round waits for bundles, nor
// more leaves than a file could remember.
func TestBareLeavesInMemory(t *testing.T) {
	defer func(most int) { maxMemory = most }(maxMemory)
	w := rt.New(t)
	l, err := log.OpenBulk(t.Context(), w.LogDir, w.LogKey, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*width - 1
	var bodies [][]byte
	for i := range n {
		bodies = append(bodies, fmt.Appendf(nil, "%60000d", i))
	}
	if err := errors.Join(l.AppendAll(t.Context(), bodies), l.Close()); err != nil {
		t.Fatal(err)
	}
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	bodies = nil
	entries, reads, before, held := 0, 0, heap(), int64(0)
	o := Options{Dir: t.TempDir(), Policy: w.Policy, Now: func() time.Time { return rt.Now }}
	o.Source = counting{src, func(name string) {
		switch {
		case strings.HasPrefix(name, "tile/entries/"):
			entries++
		case strings.HasPrefix(name, "bundles/"):
			if reads++; reads%100 == 0 { // lastly when all tiles are read, and bundles are waited for
				held = heap() - before
			}
		}
	}}
	round := func() (*Report, error) {
		m, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		entries, reads = 0, 0
		return m.Round(t.Context())
	}
	maxMemory = minBare * (width - 1)
	if _, err := round(); err == nil || !strings.Contains(err.Error(), "too many releases") || entries != 1 {
		t.Errorf("%v, after %d tiles", err, entries)
	}
	maxMemory = 256 << 20
	for range 2 {
		held = 0
		if rep, err := round(); err != nil || rep.Bare != n || held == 0 || held > 8<<20 {
			t.Errorf("%d leaves without bundle, %d bytes for them, %v", rep.Bare, held, err)
		}
	}
}
