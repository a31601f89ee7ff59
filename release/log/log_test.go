package log_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
)

var quiet = slog.New(slog.DiscardHandler)

func create(t testing.TB) (dir, key string) {
	t.Helper()
	base := t.TempDir()
	dir, key = filepath.Join(base, "pub"), filepath.Join(base, "pub.key")
	if _, err := log.Create(t.Context(), dir, options(key)); err != nil {
		t.Fatal(err)
	}
	return dir, key
}

func options(key string) log.CreateOptions {
	return log.CreateOptions{Origin: "log.tally.example", KeyFile: key, Rand: rand.Reader, Now: time.Unix(1767225600, 0), Logger: quiet}
}

func open(t *testing.T, dir, key string) *log.Log {
	t.Helper()
	l, err := log.Open(t.Context(), dir, key, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func check(e *release.Entry) error {
	var p tlog.RecordProof
	for _, h := range e.Proof {
		p = append(p, h)
	}
	return tlog.CheckRecord(p, e.TreeSize, e.RootHash, e.Index, tlog.RecordHash(e.Body))
}

func TestCreate(t *testing.T) {
	dir, key := create(t)
	st, err := os.Stat(key)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, mode %v", err, st.Mode())
	}
	k, err := log.ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := k.OpenCheckpoint(text); err != nil || tree.N != 0 {
		t.Errorf("checkpoint of the empty log: size %d, %v", tree.N, err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "PRIVATE") {
			t.Errorf("%s holds a private key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Entries across a tile border, each with a proof; the second Append of a leaf finds the first. Then an
// independent client reads the whole log through a plain static web server.
func TestAppendAndServe(t *testing.T) {
	dir, key := create(t)
	l := open(t, dir, key)
	const n = 260
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			e, err := l.Append(t.Context(), fmt.Appendf(nil, "leaf %d", i))
			if err == nil {
				err = check(e)
			}
			if err != nil {
				t.Errorf("leaf %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	again, err := l.Append(t.Context(), []byte("leaf 7"))
	if err != nil || again.TreeSize != n || check(again) != nil {
		t.Fatalf("second append of a leaf: %+v, %v", again, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{"http.FileServer": http.FileServer(http.Dir(dir)), "Handler": log.Handler(dir)} {
		t.Run(name, func(t *testing.T) { audit(t, h, dir, n) })
	}
}

// audit reads every entry with torchwood, which shares no code with the writer.
func audit(t *testing.T, h http.Handler, dir string, n int) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	text, err := os.ReadFile(filepath.Join(dir, log.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(srv.URL + "/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	signed, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := torchwood.NewTileFetcher(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, entry := range client.AllEntries(t.Context(), cp.Tree, 0) {
		seen[string(entry)] = true
	}
	if err := client.Err(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if !seen[fmt.Sprintf("leaf %d", i)] {
			t.Errorf("leaf %d is not in the log", i)
		}
	}
	if len(seen) != n {
		t.Errorf("%d entries, want %d", len(seen), n)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir, key := create(t)
	_, other := create(t)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("two\nlines\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, key, want string }{
		"other log's key": {dir, other, "is not the key of the log"},
		"no key":          {dir, filepath.Join(dir, "absent"), "no such file"},
		"key malformed":   {dir, bad, "want one line"},
		"no log":          {t.TempDir(), key, "is not a log directory"},
	} {
		if _, err := log.Open(t.Context(), c.dir, c.key, time.Now, quiet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// One writer at a time: the second waits, and gives up when its context does.
func TestOneWriter(t *testing.T) {
	dir, key := create(t)
	l := open(t, dir, key)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Open(ctx, dir, key, time.Now, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("second writer: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, key).Close(); err != nil {
		t.Error(err)
	}
}

// A damaged tile is noticed before a proof leaves the house.
func TestDamagedTile(t *testing.T) {
	dir, key := create(t)
	l := open(t, dir, key)
	for i := range 3 {
		if _, err := l.Append(t.Context(), fmt.Appendf(nil, "leaf %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	tile := filepath.Join(dir, "tile", "0", "000.p", "3")
	data, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	data[40] ^= 1 // in the hash of leaf 1
	if err := os.WriteFile(tile, data, 0o644); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, key)
	defer l.Close()
	if _, err := l.Append(t.Context(), []byte("leaf 0")); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("append over a damaged tile: %v", err)
	}
}

func TestHandlerHidesAndRefuses(t *testing.T) {
	dir, _ := create(t)
	h := log.Handler(dir)
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	if w := get("GET", "/checkpoint"); w.Code != 200 || w.Header().Get("Cache-Control") != "no-cache" || !strings.HasPrefix(w.Body.String(), "log.tally.example\n0\n") {
		t.Errorf("checkpoint: %d %v %q", w.Code, w.Header(), w.Body)
	}
	for _, path := range []string{"/.state/treeState", "/.lock", "/.pending/x", "/", "/tile/", "/../pub.key", "/absent"} {
		if w := get("GET", path); w.Code == 200 {
			t.Errorf("%s is served: %q", path, w.Body)
		}
	}
	// A browser takes nothing that is served for a page of this server's, whatever it contains.
	for _, path := range []string{"by-digest/ab", "tile/0/000", "bundles/ab.sigstore.json", "channels/a/b.json", "names/a.json", "releases/a.json", "rebuilds/a.json"} {
		file := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("<html><script>"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	immutable := "public, max-age=31536000, immutable"
	for path, want := range map[string][2]string{ // type, caching
		"by-digest/ab": {"application/octet-stream", ""}, "tile/0/000": {"application/octet-stream", immutable}, "bundles/ab.sigstore.json": {"application/json", "no-cache"},
		"channels/a/b.json": {"application/json", "no-cache"}, "names/a.json": {"application/json", "no-cache"}, "releases/a.json": {"application/json", "no-cache"},
		"rebuilds/a.json": {"application/json", "no-cache"}, log.TrustedRootFile: {"application/json", "no-cache"},
		log.CheckpointFile: {"text/plain; charset=utf-8", "no-cache"}, log.VKeyFile: {"text/plain; charset=utf-8", "no-cache"}, log.PolicyFile: {"text/plain; charset=utf-8", "no-cache"},
	} {
		w := get("HEAD", "/"+path)
		got := w.Header()
		if w.Code != http.StatusOK || got.Get("Content-Type") != want[0] || got.Get("Cache-Control") != want[1] || got.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, w.Code, got)
		}
	}
	if w := get("POST", "/checkpoint"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	dir, _ := create(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Serve(ctx, ln, dir) }()
	resp, err := http.Get("http://" + ln.Addr().String() + "/log.vkey")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil || resp.StatusCode != 200 {
		t.Errorf("serve: %v, status %d", err, resp.StatusCode)
	}
}
