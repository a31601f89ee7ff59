package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release/log"
)

// files is a source in memory; a file without content cannot be read.
type files map[string][]byte

func (f files) String() string { return "files" }

func (f files) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	data, ok := f[path]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case data == nil:
		return nil, errors.New("bad sector")
	case int64(len(data)) > limit:
		return nil, errors.New("too large")
	}
	return data, nil
}

func (f files) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	data, err := f.Read(ctx, path, math.MaxInt64)
	return io.NopCloser(bytes.NewReader(data)), err
}

// outcome is what an error means to who reads a log.
func outcome(err error) string {
	switch {
	case err == nil:
		return "good"
	case errors.Is(err, log.ErrDamaged):
		return "damaged"
	}
	return err.Error()
}

func TestReadTile(t *testing.T) {
	full := bytes.Repeat([]byte("0123456789abcdef0123456789abcdef"), 256)
	tile := func(level int, n int64, w int) tlog.Tile { return tlog.Tile{H: 8, L: level, N: n, W: w} }
	for name, tt := range map[string]struct {
		tile tlog.Tile
		src  files
		want string
	}{
		"partial":              {tile(0, 0, 3), files{"tile/0/000.p/3": full[:96]}, "good"},
		"of a level above":     {tile(2, 1234067, 3), files{"tile/2/x001/x234/067.p/3": full[:96]}, "good"},
		"of one hash":          {tile(0, 0, 1), files{"tile/0/000.p/1": full[:32]}, "good"},
		"full":                 {tile(1, 7, 256), files{"tile/1/007": full}, "good"},
		"longer than asked":    {tile(0, 0, 3), files{"tile/0/000.p/3": full[:128]}, "good"},
		"in the full one":      {tile(0, 0, 3), files{"tile/0/000": full}, "good"},
		"nowhere":              {tile(0, 0, 3), files{"tile/0/000.p/4": full[:128]}, "damaged"},
		"full one nowhere":     {tile(0, 0, 256), files{"tile/0/000.p/255": full[:255*32]}, "damaged"},
		"short":                {tile(0, 0, 3), files{"tile/0/000.p/3": full[:95]}, "damaged"},
		"full one short":       {tile(0, 0, 3), files{"tile/0/000": full[:95]}, "damaged"},
		"unreadable":           {tile(0, 0, 3), files{"tile/0/000.p/3": nil, "tile/0/000": full}, "bad sector"},
		"full one unreadable":  {tile(0, 0, 3), files{"tile/0/000": nil}, "bad sector"},
		"larger than any tile": {tile(0, 0, 256), files{"tile/0/000": append(full[:len(full):len(full)], 0)}, "too large"},
		"of no hash":           {tile(0, 0, 0), files{"tile/0/000.p/0": full, "tile/0/000": full}, "outside the log"},
		"of less":              {tile(0, 0, -1), files{"tile/0/000": full}, "outside the log"},
	} {
		data, err := log.ReadTile(t.Context(), tt.src, tt.tile)
		if got := outcome(err); !strings.Contains(got, tt.want) || err == nil && !bytes.Equal(data, full[:tt.tile.W*32]) || err != nil && data != nil {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(data), err, tt.want)
		}
	}
}

func TestReadEntries(t *testing.T) {
	two := []byte{0, 1, 'a', 0, 2, 'b', 'c'}
	if leaves, err := log.ReadEntries(t.Context(), files{"tile/entries/005.p/1": two[:3]}, 5, 1); err != nil || len(leaves) != 1 {
		t.Errorf("one leaf: %q, %v", leaves, err)
	}
	for name, tt := range map[string]struct {
		w    int
		src  files
		want string
	}{
		"partial":         {2, files{"tile/entries/005.p/2": two}, "good"},
		"in the full one": {2, files{"tile/entries/005": append(two[:7:7], 0, 0)}, "good"},
		"bytes after it":  {2, files{"tile/entries/005.p/2": append(two[:7:7], 0, 0)}, "damaged"},
		"cut":             {2, files{"tile/entries/005.p/2": two[:6]}, "damaged"},
		"one of two":      {2, files{"tile/entries/005.p/2": two[:3]}, "damaged"},
		"a length cut":    {2, files{"tile/entries/005.p/2": two[:4]}, "damaged"},
		"nowhere":         {2, files{}, "damaged"},
		"unreadable":      {2, files{"tile/entries/005.p/2": nil}, "bad sector"},
		"full":            {256, files{"tile/entries/005": make([]byte, 512)}, "good"},
		"largest":         {256, files{"tile/entries/005": bytes.Repeat(append([]byte{255, 255}, make([]byte, 65535)...), 256)}, "good"},
		"none":            {0, files{"tile/entries/005.p/0": nil, "tile/entries/005": two}, "outside the log"},
		"more than one":   {257, files{"tile/entries/005.p/257": make([]byte, 514)}, "outside the log"},
	} {
		leaves, err := log.ReadEntries(t.Context(), tt.src, 5, tt.w)
		if got := outcome(err); !strings.Contains(got, tt.want) || err == nil && len(leaves) != tt.w || err != nil && leaves != nil {
			t.Errorf("%s: %d leaves, %v, want %q", name, len(leaves), err, tt.want)
		}
		if err == nil && tt.w == 2 && (string(leaves[0]) != "a" || string(leaves[1]) != "bc") {
			t.Errorf("%s: %q", name, leaves)
		}
	}
}

// TestStatus: what a server says beside a file is no file, and only that it has none is that.
func TestStatus(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		status := map[string]int{"/a/gone": 410, "/a/absent": 404, "/a/broken": 500, "/a/partial": 206, "/a/empty": 204, "/a/b c": 200}[r.URL.Path]
		if status == 0 {
			t.Errorf("asked for %q", r.URL.Path)
			return
		}
		rw.WriteHeader(status)
		if status != 204 {
			fmt.Fprint(rw, "content")
		}
	}))
	defer srv.Close()
	for _, place := range []string{srv.URL + "/a", srv.URL + "/a/"} {
		src, err := log.OpenSource(place, srv.Client())
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"gone": "absent", "absent": "absent", "broken": "error", "partial": "error", "empty": "error", "b c": "content"} {
			data, err := src.Read(t.Context(), name, 7)
			got := string(data)
			if errors.Is(err, fs.ErrNotExist) {
				got = "absent"
			} else if err != nil {
				got = "error"
			}
			if got != want {
				t.Errorf("%s: %q, %v, want %s", name, got, err, want)
			}
		}
		refusesPaths(t, src)
		if _, err := src.Read(t.Context(), "b c", 6); err == nil || !strings.Contains(err.Error(), "larger than 6") {
			t.Errorf("over the limit: %v", err)
		}
	}
}

// refusesPaths: a path that leaves the directory, or that systems read differently, is not even looked for.
func refusesPaths(t *testing.T, src log.Source) {
	t.Helper()
	for _, name := range []string{"", ".", "..", "../a", "a/../b", "a//b", "/a", "a/", "a\\b", "a\x00"} {
		if _, err := src.Read(t.Context(), name, 9); err == nil || !strings.Contains(err.Error(), "not a local path") {
			t.Errorf("%s: %q: %v", src, name, err)
		}
	}
}

func TestDirPaths(t *testing.T) {
	src, err := log.OpenSource(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	refusesPaths(t, src)
	if src, err := log.OpenSource("https://log.example", nil); err != nil || src.String() != "https://log.example/" {
		t.Errorf("%v, %v", src, err)
	}
}
