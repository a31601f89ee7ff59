package log_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release/log"
	rt "tally/release/releasetest"
)

// sources are one directory, once as it is and once behind a web server.
func sources(t *testing.T, dir string) []log.Source {
	srv := httptest.NewServer(log.Handler(dir))
	t.Cleanup(srv.Close)
	var out []log.Source
	for _, place := range []string{dir, srv.URL} {
		src, err := log.OpenSource(place, srv.Client())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, src)
	}
	return out
}

// Proofs from every size up to one past a full tile, held against roots computed from the leaves alone.
func TestReadView(t *testing.T) {
	w := rt.New(t)
	l := w.Open(t)
	leaves := [][]byte{}
	b, err := l.Append(t.Context(), []byte("leaf"))
	if err != nil {
		t.Fatal(err)
	}
	if b.Index != 1 {
		t.Fatalf("index %d", b.Index)
	}
	var last tlog.Tree
	add := func(n int) {
		bodies := make([][]byte, n)
		for i := range bodies {
			bodies[i] = fmt.Appendf(nil, "leaf %d", len(leaves)+i)
		}
		leaves = append(leaves, bodies...)
		errs := make(chan error, n)
		for _, body := range bodies {
			go func() { _, err := l.Append(t.Context(), body); errs <- err }()
		}
		for range n {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
	}
	for len(leaves) < 260 {
		add(20)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources(t, w.LogDir) {
		v, err := log.ReadView(t.Context(), src, w.Log)
		if err != nil {
			t.Fatal(err)
		}
		if last, err = w.Log.OpenCheckpoint(v.Checkpoint); err != nil || last.N < 257 {
			t.Fatalf("tree of %d leaves, %v", last.N, err)
		}
		roots := naiveRoots(t, src, last.N)
		if roots[last.N] != last.Hash {
			t.Fatal("root of the leaves is not the checkpoint's")
		}
		for n := int64(1); n <= last.N; n++ {
			p, err := v.Prove(n)
			if err == nil {
				err = tlog.CheckTree(p, last.N, last.Hash, n, roots[n])
			}
			if err != nil {
				t.Fatalf("%s: proof from %d: %v", src, n, err)
			}
		}
	}
}

// naiveRoots hashes the leaves of the level-0 tiles without any other tile.
func naiveRoots(t *testing.T, src log.Source, size int64) map[int64]tlog.Hash {
	roots := map[int64]tlog.Hash{}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := int64(0); n < size; n++ {
		width := min(size-n/256*256, 256)
		name := fmt.Sprintf("tile/0/%03d", n/256)
		if width < 256 {
			name += fmt.Sprintf(".p/%d", width)
		}
		tile, err := src.Read(t.Context(), name, 8192)
		if err != nil {
			t.Fatal(err)
		}
		more, err := tlog.StoredHashesForRecordHash(n, tlog.Hash(tile[n%256*32:][:32]), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		if roots[n+1], err = tlog.TreeHash(n+1, reader); err != nil {
			t.Fatal(err)
		}
	}
	return roots
}

// A mirror that kept only full tiles of a part of the log serves proofs as well.
func TestFullTileForPartial(t *testing.T) {
	w := rt.New(t)
	partial := filepath.Join(w.LogDir, "tile", "0", "000.p", "1")
	data, err := os.ReadFile(partial)
	if err != nil {
		t.Fatal(err)
	}
	w.Publish(t, w.Bundle)
	if err := os.RemoveAll(filepath.Dir(partial)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.LogDir, "tile", "0", "000"), append(data, make([]byte, 255*32)...), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources(t, w.LogDir) {
		v, err := log.ReadView(t.Context(), src, w.Log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Prove(1); err != nil {
			t.Error(err)
		}
	}
}

func TestSourceRefuses(t *testing.T) {
	w := rt.New(t)
	if err := os.Symlink("/etc/hostname", filepath.Join(w.LogDir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources(t, w.LogDir) {
		for _, name := range []string{"", ".", "..", "../pub.key", "/etc/hostname", "a//b", "a\\b", "link"} {
			if data, err := src.Read(t.Context(), name, 1<<20); err == nil && (name != "link" || !strings.HasPrefix(src.String(), "http")) {
				t.Errorf("%s: %q read: %q", src, name, data)
			}
		}
		if _, err := src.Read(t.Context(), "absent", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: absent: %v", src, err)
		}
		if _, err := src.Read(t.Context(), "checkpoint", 10); err == nil || !strings.Contains(err.Error(), "larger than 10 bytes") {
			t.Errorf("%s: cap: %v", src, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := src.Read(ctx, "checkpoint", 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", src, err)
		}
	}
	for _, place := range []string{"ftp://a/", "http:///x", "https://a/?q", "https://a/#f", filepath.Join(w.LogDir, "checkpoint"), filepath.Join(w.LogDir, "absent"), "://"} {
		if _, err := log.OpenSource(place, http.DefaultClient); err == nil {
			t.Errorf("%q: opened", place)
		}
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	src, err := log.OpenSource(srv.URL, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.ReadView(t.Context(), src, w.Log); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no checkpoint: %v", err)
	}
	srv.Close()
	if _, err := log.ReadView(t.Context(), src, w.Log); err == nil {
		t.Error("no server, but a view")
	}
}

// The password of a URL is for the server alone.
func TestSourceTellsNoPassword(t *testing.T) {
	var status atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			t.Errorf("password %q", password)
		}
		w.WriteHeader(int(status.Load()))
		fmt.Fprint(w, "more than one byte")
	}))
	defer srv.Close()
	src, err := log.OpenSource(strings.Replace(srv.URL, "//", "//user:secret@", 1), srv.Client())
	if err != nil || strings.Contains(src.String(), "secret") {
		t.Fatal(src, err)
	}
	for _, code := range []int{200, 404, 500} {
		status.Store(int32(code))
		if _, err := src.Read(t.Context(), "checkpoint", 1); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "/checkpoint: ") {
			t.Errorf("%d: %v", code, err)
		}
	}
	for _, place := range []string{"https://user:secret@a/?q", "https://user:secret@a:b/", "https://user:secret@%zz/"} {
		if _, err := log.OpenSource(place, srv.Client()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
		if _, err := log.OpenRekor(place, rt.New(t).Log, srv.Client()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
	srv.Close()
	if _, err := src.Read(t.Context(), "checkpoint", 1); err == nil || strings.Contains(err.Error(), "secret") || strings.Count(err.Error(), "://") != 1 || strings.Contains(err.Error(), "redirected") {
		t.Errorf("%v", err)
	}
}

// An answer that is not whole is an error that says what was asked for, once, and where that led.
func TestSourceNamesWhatBroke(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut/checkpoint":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		case "/file/checkpoint":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		default:
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}
	}))
	defer srv.Close()
	for dir, want := range map[string]string{
		"cut":  "URL/cut/checkpoint: unexpected EOF",
		"file": `URL/file/checkpoint: redirected to "file:///etc/passwd": unsupported protocol scheme "file"`,
		"loop": `URL/loop/checkpoint: redirected to "/loop/checkpointxxxxxxxxxx": stopped after 10 redirects`,
	} {
		src, err := log.OpenSource(srv.URL+"/"+dir, srv.Client())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Read(t.Context(), "checkpoint", 1000); err == nil || strings.ReplaceAll(err.Error(), srv.URL, "URL") != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
