package lock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/spec"
)

// A mirror is a web server with faults, one a request, in order; then it serves well.
type mirror struct {
	*httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	faults []func(w http.ResponseWriter, r *http.Request, data []byte)
	log    []string // method, path and Range of each request
	noETag bool
}

func newMirror(t *testing.T, files map[string][]byte) *mirror {
	m := &mirror{files: files}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	line := strings.TrimSpace(r.URL.Path + " " + r.Header.Get("Range"))
	if v := r.Header.Get("If-Range"); v != "" {
		line += " if " + v
	}
	m.log = append(m.log, line)
	data, ok := m.files[r.URL.Path]
	var fault func(http.ResponseWriter, *http.Request, []byte)
	if len(m.faults) > 0 {
		fault, m.faults = m.faults[0], m.faults[1:]
	}
	m.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r, data)
	case !ok:
		http.NotFound(w, r)
	default:
		if !m.noETag {
			w.Header().Set("ETag", etag(data))
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
	}
}

func etag(data []byte) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(data))[:8]) }

// dropAfter sends so many bytes of what was asked for and cuts the connection.
func dropAfter(n int) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, data []byte) {
		w.Header().Set("ETag", etag(data))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int, headers ...string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, data []byte) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// sends answers with other bytes than the file's.
func sends(data string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) { io.WriteString(w, data) }
}

// noRange ignores that only the rest was asked for.
func noRange(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("ETag", etag(data))
	w.Write(data)
}

// A rig is a fetcher whose clock only notes the pauses.
type rig struct {
	*Fetcher
	pauses []time.Duration
}

func newRig(t *testing.T, mirrors ...string) *rig {
	r := &rig{}
	r.Fetcher = &Fetcher{Store: NewStore(t.TempDir()), Places: Places{Mirrors: mirrors}, Client: Client(), Log: slog.New(slog.DiscardHandler),
		Sleep: func(ctx context.Context, d time.Duration) error { r.pauses = append(r.pauses, d); return ctx.Err() }}
	return r
}

// payload returns n bytes that do not repeat, and a lock with one package of them.
func payload(n int) ([]byte, *Lock) {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	l := sample()
	l.Packages = []Package{{Name: "a", Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/a.deb", Object: Object{sha256.Sum256(data), int64(n)}}}
	return data, l
}

func TestFetchFaults(t *testing.T) {
	data, l := payload(200_000)
	tag := etag(data)
	for _, c := range []struct {
		name   string
		faults []func(http.ResponseWriter, *http.Request, []byte)
		log    []string // requests
		pauses []time.Duration
	}{
		{"clean", nil, []string{""}, nil},
		{"connection drops, resumes", []func(http.ResponseWriter, *http.Request, []byte){dropAfter(70_000)}, []string{"", "bytes=70000- if " + tag}, []time.Duration{time.Second}},
		{"drops twice", []func(http.ResponseWriter, *http.Request, []byte){dropAfter(70_000), dropAfter(70_000)},
			[]string{"", "bytes=70000- if " + tag, "bytes=70000- if " + tag}, []time.Duration{time.Second, 2 * time.Second}},
		{"no Range on the server", []func(http.ResponseWriter, *http.Request, []byte){dropAfter(70_000), noRange}, []string{"", "bytes=70000- if " + tag}, []time.Duration{time.Second}},
		{"busy", []func(http.ResponseWriter, *http.Request, []byte){status(503), status(429, "Retry-After", "7"), status(500)},
			[]string{"", "", "", ""}, []time.Duration{time.Second, 7 * time.Second, 4 * time.Second}},
		{"asks for an hour", []func(http.ResponseWriter, *http.Request, []byte){status(503, "Retry-After", "3600")}, []string{"", ""}, []time.Duration{maxPause}},
		{"too short", []func(http.ResponseWriter, *http.Request, []byte){sends("short")}, []string{"", ""}, []time.Duration{time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
			m.faults = c.faults
			r := newRig(t, m.URL+"/debian/")
			if err := r.Packages(context.Background(), l); err != nil {
				t.Fatal(err)
			}
			checkStored(t, r, data)
			var want []string
			for _, s := range c.log {
				want = append(want, strings.TrimSpace("/debian/pool/a.deb "+s))
			}
			if d := cmp.Diff(want, m.log); d != "" {
				t.Error("requests", d)
			}
			if d := cmp.Diff(c.pauses, r.pauses); d != "" {
				t.Error("pauses", d)
			}
			if err := r.Packages(context.Background(), l); err != nil || len(m.log) != len(want) {
				t.Errorf("a second time: %v, %d requests", err, len(m.log)-len(want))
			}
		})
	}
}

// TestFetchDisk: a fault of the disk is said as one at once; it is no input that is gone.
func TestFetchDisk(t *testing.T) {
	data, l := payload(200_000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	r := newRig(t, m.URL+"/debian", m.URL+"/other")
	if err := os.WriteFile(r.Store.dir+"/sha256", nil, 0o644); err != nil { // where the directory should be
		t.Fatal(err)
	}
	err := r.Packages(context.Background(), l)
	var gone *GoneError
	if err == nil || errors.As(err, &gone) || !strings.HasPrefix(err.Error(), "package a 1: ") || len(m.log) != 0 {
		t.Errorf("no directory: %v, %d requests", err, len(m.log))
	}

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if _, err := (&part{File: full}).Write(data); !isLocal(fmt.Errorf("after 0 of 1 bytes: %w", err)) {
		t.Errorf("a full disk is taken for the network's fault: %v", err)
	}
}

// checkStored wants the file in the store, and nothing beside it.
func checkStored(t *testing.T, r *rig, data []byte) {
	t.Helper()
	o := Object{sha256.Sum256(data), int64(len(data))}
	if got, err := r.Store.Read(o); err != nil || string(got) != string(data) {
		t.Fatalf("stored file: %d bytes, %v", len(got), err)
	}
	entries, err := os.ReadDir(r.Store.dir + "/sha256")
	if err != nil || len(entries) != 1 {
		t.Errorf("store holds %v, %v: want one file", entries, err)
	}
}

// TestResumeAcrossRuns: an interrupted run leaves a part that the next process continues.
func TestResumeAcrossRuns(t *testing.T) {
	data, l := payload(100_000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	ctx, cancel := context.WithCancel(context.Background())
	m.faults = append(m.faults, dropAfter(40_000))
	r := newRig(t, m.URL+"/debian")
	r.Sleep = func(ctx context.Context, d time.Duration) error { cancel(); return ctx.Err() } // Ctrl-C while waiting
	if err := r.Packages(ctx, l); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	second := &rig{Fetcher: &Fetcher{Store: r.Store, Places: r.Places, Client: Client(), Log: r.Log, Sleep: Sleep}}
	if err := second.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, second, data)
	if want := "/debian/pool/a.deb bytes=40000- if " + etag(data); m.log[1] != want {
		t.Errorf("second run asked %q, want %q", m.log[1], want)
	}
}

// TestResumeFromSecondPlace: what came from one place outlives the answer of a place before it that has no such file.
func TestResumeFromSecondPlace(t *testing.T) {
	data, l := payload(100_000)
	empty, m := newMirror(t, nil), newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	ctx, cancel := context.WithCancel(context.Background())
	m.faults = append(m.faults, dropAfter(40_000))
	r := newRig(t, empty.URL+"/debian", m.URL+"/debian")
	r.Sleep = func(ctx context.Context, d time.Duration) error { cancel(); return ctx.Err() } // Ctrl-C while waiting
	if err := r.Packages(ctx, l); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	second := &rig{Fetcher: &Fetcher{Store: r.Store, Places: r.Places, Client: Client(), Log: r.Log, Sleep: Sleep}}
	if err := second.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, second, data)
	if want := "/debian/pool/a.deb bytes=40000- if " + etag(data); len(empty.log) != 2 || m.log[1] != want {
		t.Errorf("second run asked %q, want %q; the place without the file was asked %q", m.log[1], want, empty.log)
	}
}

// TestOtherPlaceStartsAgain: a longer part of another place leaves no bytes behind an answer.
func TestOtherPlaceStartsAgain(t *testing.T) {
	data, l := payload(100_000)
	m, other := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data}), newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	r := newRig(t, m.URL+"/debian")
	path := r.Store.Path(l.Packages[0].SHA256)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path+".part", bytes.Repeat([]byte("x"), 150_000), 0o644),
		os.WriteFile(path+".from", []byte(other.URL+"/debian/pool/a.deb\n"+etag(data)+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, r, data)
}

// TestResumeWithoutValidator: what cannot be told apart is not continued.
func TestResumeWithoutValidator(t *testing.T) {
	data, l := payload(100_000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	m.noETag = true
	m.faults = append(m.faults, func(w http.ResponseWriter, r *http.Request, d []byte) {
		w.Header().Set("ETag", `W/"weak"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(d)))
		w.Write(d[:10_000])
		panic(http.ErrAbortHandler)
	})
	r := newRig(t, m.URL+"/debian")
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/debian/pool/a.deb", "/debian/pool/a.deb"}, m.log); d != "" {
		t.Error(d)
	}
}

// TestPlaces: wrong bytes and absent files send the fetcher to the next place, in order.
func TestPlaces(t *testing.T) {
	data, l := payload(1000)
	wrong := append([]byte("x"), data[1:]...)
	evil := newMirror(t, map[string][]byte{"/debian/pool/a.deb": wrong})
	empty := newMirror(t, nil)
	long := newMirror(t, map[string][]byte{"/debian/pool/a.deb": append(data[:1000:1000], 'x')})
	snap := newMirror(t, map[string][]byte{"/archive/debian/20260905T220000Z/pool/a.deb": data})
	r := newRig(t, evil.URL+"/debian", empty.URL+"/debian", long.URL+"/debian")
	r.Places.Snapshots = []string{snap.URL + "/archive/"}
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, r, data)
	if len(evil.log) != 1 || len(empty.log) != 1 || len(long.log) != 1 || len(snap.log) != 1 || len(r.pauses) != 0 {
		t.Errorf("requests %d %d %d %d, pauses %v: want one each and none", len(evil.log), len(empty.log), len(long.log), len(snap.log), r.pauses)
	}
}

func TestGone(t *testing.T) {
	data, l := payload(1000)
	evil := newMirror(t, map[string][]byte{"/debian/pool/a.deb": append([]byte("x"), data[1:]...)})
	empty := newMirror(t, nil)
	r := newRig(t, evil.URL+"/debian", empty.URL+"/debian")
	r.Places.Snapshots = []string{empty.URL + "/archive"}
	err := r.Packages(context.Background(), l)
	var gone *GoneError
	if !errors.As(err, &gone) {
		t.Fatalf("got %v, want a GoneError", err)
	}
	if len(gone.Looked) != 6 || !strings.HasPrefix(gone.Looked[0], "the cache ") || !strings.Contains(gone.Looked[1], "SHA-256 ") || !strings.Contains(gone.Looked[2], "404") {
		t.Errorf("looked %q", gone.Looked)
	}
	for _, want := range []string{"package a 1 (SHA-256 ", evil.URL + "/debian/pool/a.deb", "/archive/debian/20260905T100000Z/pool/a.deb"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
	entries, _ := os.ReadDir(r.Store.dir + "/sha256")
	for _, e := range entries {
		if fi, _ := e.Info(); strings.HasSuffix(e.Name(), ".part") && fi.Size() > 0 || !strings.Contains(e.Name(), ".") {
			t.Errorf("store holds %s of %d bytes", e.Name(), fi.Size())
		}
	}
	r.Places = Places{Offline: true, Mirrors: []string{evil.URL}}
	n := len(evil.log)
	if err := r.Packages(context.Background(), l); !errors.As(err, &gone) || !strings.Contains(err.Error(), "offline") || len(evil.log) != n {
		t.Errorf("offline: %v, %d requests", err, len(evil.log)-n)
	}
	r.Places = Places{}
	if err := r.Packages(context.Background(), l); err == nil || !strings.Contains(err.Error(), "no mirror is configured") {
		t.Errorf("no place: %v", err)
	}
}

// TestGivesUp: a place that stays busy is left after so many attempts, with growing pauses.
func TestGivesUp(t *testing.T) {
	data, l := payload(1000)
	busy := newMirror(t, nil)
	for range attempts {
		busy.faults = append(busy.faults, status(503))
	}
	good := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	r := newRig(t, busy.URL+"/debian", good.URL+"/debian")
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}, r.pauses); d != "" {
		t.Error(d)
	}
}

// TestStall: a server that stops sending does not hold a build for ever.
func TestStall(t *testing.T) {
	data, l := payload(1000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	hang := make(chan struct{})
	m.faults = append(m.faults, func(w http.ResponseWriter, r *http.Request, d []byte) {
		w.Header().Set("ETag", etag(d))
		w.Header().Set("Content-Length", fmt.Sprint(len(d)))
		w.Write(d[:100])
		w.(http.Flusher).Flush()
		<-hang
	})
	defer close(hang)
	r := newRig(t, m.URL+"/debian")
	r.Stall = 50 * time.Millisecond
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, r, data)
	if len(m.log) != 2 {
		t.Errorf("%d requests, want 2", len(m.log))
	}
}

// TestSilent: a server that takes connections and never answers is waited for aloud, tried twice and named; this holds for
// files whose hash is known and for signed indexes.
func TestSilent(t *testing.T) {
	_, l := payload(1000)
	var asked atomic.Int32
	hang := make(chan struct{})
	m := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-hang }))
	defer m.Close()
	defer close(hang)
	for name, get := range map[string]func(*rig) error{
		"package": func(r *rig) error { return r.Packages(context.Background(), l) },
		"index": func(r *rig) error {
			_, err := (&Indexer{Fetcher: r.Fetcher}).read(context.Background(), spec.Suite{Name: "trixie", Archive: "debian", Suite: "trixie"}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			r := newRig(t, m.URL+"/debian")
			var talk bytes.Buffer
			r.Stall, r.Log = 400*time.Millisecond, slog.New(slog.NewTextHandler(&talk, nil))
			err := get(r)
			if err == nil || !strings.Contains(err.Error(), m.URL+"/debian") || strings.Count(err.Error(), "no answer within 400ms") != strings.Count(err.Error(), m.URL) {
				t.Errorf("error %v, want each address once, with its silence", err)
			}
			if n := asked.Load(); n%silences != 0 || n > 2*silences || len(r.pauses) != int(n)/silences {
				t.Errorf("%d requests, pauses %v; want %d an address", n, r.pauses, silences)
			}
			if !strings.Contains(talk.String(), "waiting for an answer") || !strings.Contains(talk.String(), "trying again") {
				t.Errorf("said %q", talk.String())
			}
		})
	}
}

// TestTrickle: nor does one that sends a byte now and then.
func TestTrickle(t *testing.T) {
	data, l := payload(1000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	m.faults = append(m.faults, func(w http.ResponseWriter, r *http.Request, d []byte) {
		w.Header().Set("ETag", etag(d))
		w.Header().Set("Content-Length", fmt.Sprint(len(d)))
		for i := range d {
			w.Write(d[i : i+1])
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	r := newRig(t, m.URL+"/debian")
	r.Stall = 200 * time.Millisecond
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	checkStored(t, r, data)
	if len(m.log) != 2 || !strings.Contains(m.log[1], "bytes=") {
		t.Errorf("requests %q, want one, and one for the rest", m.log)
	}
}

// TestTwoProcesses: a part that another process holds is not touched.
func TestTwoProcesses(t *testing.T) {
	data, l := payload(5000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	r := newRig(t, m.URL+"/debian")
	other, err := r.Store.openPart(l.Packages[0].SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteString("of another"); err != nil {
		t.Fatal(err)
	}
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	private, err := r.Store.openPart(l.Packages[0].SHA256) // of a process that is killed: sweep removes it a day later
	if err != nil {
		t.Fatal(err)
	}
	private.File.Close()
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(private.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	r.Store.sweep()
	if _, err := os.Stat(private.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an abandoned private part: %v, want it gone", err)
	}
	if got, err := r.Store.Read(l.Packages[0].Object); err != nil || string(got) != string(data) {
		t.Errorf("stored file: %d bytes, %v", len(got), err)
	}
	if b, err := os.ReadFile(other.Name()); err != nil || string(b) != "of another" {
		t.Errorf("the other's part holds %q, %v", b, err)
	}
}

func TestStoreDamaged(t *testing.T) {
	s := NewStore(t.TempDir())
	o, err := s.Put([]byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(o.SHA256), []byte("dat4"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(o); !errors.Is(err, ErrDamaged) {
		t.Errorf("Read: %v", err)
	}
	if err := s.Copy(context.Background(), io.Discard, o); !errors.Is(err, ErrDamaged) {
		t.Errorf("Copy: %v", err)
	}
	if err := s.PutReader(context.Background(), strings.NewReader("dat5"), o); err == nil {
		t.Error("PutReader of other bytes: no error")
	}
	if err := s.PutReader(context.Background(), strings.NewReader("data"), o); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(o); err != nil {
		t.Error(err)
	}
}

func TestMirrorsFor(t *testing.T) {
	all := []string{"http://a.example/debian/", "http://a.example/debian-security", "http://b.example/debian"}
	if d := cmp.Diff([]string{"http://a.example/debian", "http://b.example/debian"}, mirrorsFor(all, "debian")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"http://a.example/debian-security", "http://b.example/debian-security"}, mirrorsFor(all, "debian-security")); d != "" {
		t.Error(d)
	}
}

func TestProgress(t *testing.T) {
	data, l := payload(3000)
	m := newMirror(t, map[string][]byte{"/debian/pool/a.deb": data})
	r := newRig(t, m.URL+"/debian")
	var p countProgress
	r.Progress = func(label string, total int64) Progress { p.total = total; return &p }
	if err := r.Packages(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if p.total != 3000 || p.n != 3000 || !p.ended {
		t.Errorf("progress %+v", p)
	}
}

type countProgress struct {
	total, n int64
	ended    bool
}

func (p *countProgress) Write(b []byte) (int, error) { p.n += int64(len(b)); return len(b), nil }
func (p *countProgress) End()                        { p.ended = true }

// TestClientRedirects: a server may send a client to another server, and not to a file of its machine; a file is read where it is asked
// for.
func TestClientRedirects(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	var other *httptest.Server
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			http.Redirect(w, r, "file://"+file, http.StatusFound)
			return
		}
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	defer srv.Close()
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "public") }))
	defer other.Close()
	for url, want := range map[string]string{srv.URL + "/file": "", srv.URL + "/other": "public", "file://" + file: "secret"} {
		got := ""
		resp, err := Client().Get(url)
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			got = string(b)
		}
		if got != want || want == "" && (err == nil || !strings.Contains(err.Error(), "redirects to a file of this machine")) {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
}
