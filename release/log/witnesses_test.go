package log_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/witness"
)

// witnessed makes a log with three witnesses of our own, two of which must cosign, and returns a switch for
// each that turns it off.
func witnessed(t *testing.T) (dir, keyFile string, key release.LogKey, quorum release.Quorum, off [3]*atomic.Bool) {
	t.Helper()
	base := t.TempDir()
	dir, keyFile = filepath.Join(base, "pub"), filepath.Join(base, "pub.key")
	var policy strings.Builder
	var handlers [3]atomic.Pointer[http.Handler]
	var dirs [3]string
	for i := range dirs {
		off[i] = new(atomic.Bool)
		dirs[i] = filepath.Join(base, fmt.Sprint("w", i))
		k, err := witness.Create(dirs[i], fmt.Sprintf("w%d.example", i), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if off[i].Load() {
				http.Error(w, "off", http.StatusServiceUnavailable)
				return
			}
			(*handlers[i].Load()).ServeHTTP(w, r)
		}))
		t.Cleanup(srv.Close)
		fmt.Fprintf(&policy, "witness w%d %s %s\n", i, k, srv.URL)
	}
	policy.WriteString("group g 2 w0 w1 w2\nquorum g\n")
	key, err := log.Create(t.Context(), dir, log.CreateOptions{Origin: "log.tally.example", KeyFile: keyFile, Rand: rand.Reader, Now: time.Now(),
		Logger: slog.New(slog.DiscardHandler), Witnesses: []byte(policy.String())})
	if err != nil {
		t.Fatal(err)
	}
	for i := range dirs {
		w, err := witness.Open(dirs[i], witness.Options{Logs: []release.LogKey{key}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		h := w.Handler()
		handlers[i].Store(&h)
	}
	p, err := release.ParseWitnessPolicy([]byte(policy.String()), "p")
	if err != nil {
		t.Fatal(err)
	}
	return dir, keyFile, key, p.Quorum, off
}

func appendOne(t *testing.T, dir, keyFile, body string) (*release.Entry, error) {
	t.Helper()
	return appendAt(t, time.Now, dir, keyFile, body)
}

func appendAt(t *testing.T, now func() time.Time, dir, keyFile, body string) (*release.Entry, error) {
	t.Helper()
	l, err := log.Open(t.Context(), dir, keyFile, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e, err := l.Append(t.Context(), []byte(body))
	if cerr := l.Close(); cerr != nil && err == nil {
		t.Error(cerr)
	}
	return e, err
}

func TestWitnessedLog(t *testing.T) {
	dir, keyFile, key, quorum, off := witnessed(t)
	e, err := appendOne(t, dir, keyFile, "one")
	if err != nil {
		t.Fatal(err)
	}
	met, err := quorum.Met([]byte(e.Checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	off[1].Store(true)
	if _, err = appendOne(t, dir, keyFile, "two"); err != nil {
		t.Fatalf("two of three: %v", err)
	}
	// Two off: nothing is published, and who tries again later does not add a second leaf.
	before, err := os.ReadFile(filepath.Join(dir, log.CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	off[2].Store(true)
	_, err = appendOne(t, dir, keyFile, "three")
	if err == nil || !strings.Contains(err.Error(), "2 of (w0.example, w1.example, w2.example)") || !strings.Contains(err.Error(), "HTTP status 503") {
		t.Errorf("one of three: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, log.CheckpointFile)); string(after) != string(before) {
		t.Error("a checkpoint was published that the quorum had not cosigned")
	}
	off[1].Store(false)
	if e, err = appendOne(t, dir, keyFile, "three"); err != nil || e.Index != 2 || e.TreeSize != 3 {
		t.Fatalf("again: %+v, %v", e, err)
	}
	if _, err := quorum.Met([]byte(e.Checkpoint)); err != nil {
		t.Error(err)
	}
	// Refresh: younger cosignatures on the same tree.
	time.Sleep(time.Until(met.Add(1100 * time.Millisecond)))
	at, err := log.Refresh(t.Context(), dir, keyFile, time.Now, slog.New(slog.DiscardHandler))
	if err != nil || !at.After(met) {
		t.Errorf("refreshed at %s, before %s: %v", at, met, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, log.CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := key.OpenCheckpoint(text); err != nil || tree.N != 3 {
		t.Errorf("size %d, %v", tree.N, err)
	}
	if got, err := quorum.Met(text); err != nil || !got.Equal(at) {
		t.Errorf("on disk %s, %v", got, err)
	}
}

func TestWitnessPolicyOfALog(t *testing.T) {
	k, err := witness.Create(filepath.Join(t.TempDir(), "w"), "w.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ policy, want string }{
		{"witness w " + k.String() + "\nquorum w\n", "no URL"},
		{"quorum w\n", "want none or a name"},
		{"witness w " + k.String() + " http://127.0.0.1:1\n", "no quorum"},
	} {
		dir := filepath.Join(t.TempDir(), "pub")
		_, err := log.Create(t.Context(), dir, log.CreateOptions{Origin: "log.tally.example", KeyFile: dir + ".key", Rand: rand.Reader, Now: time.Now(),
			Logger: slog.New(slog.DiscardHandler), Witnesses: []byte(c.policy)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.policy, err, c.want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: left a directory", c.policy)
		}
	}
	// A log without witnesses has nothing to refresh, and one whose policy is gone does not open.
	dir := filepath.Join(t.TempDir(), "pub")
	if _, err := log.Create(t.Context(), dir, log.CreateOptions{Origin: "log.tally.example", KeyFile: dir + ".key", Rand: rand.Reader, Now: time.Now(), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Refresh(context.Background(), dir, dir+".key", time.Now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no witnesses") {
		t.Errorf("refresh: %v", err)
	}
	policy := filepath.Join(dir, log.PolicyFile)
	for text, want := range map[string]string{
		"quorum none\n": "does not name the log", "log sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8\nquorum none\n": "does not name the log",
		strings.Repeat("#", release.MaxWitnessPolicy+1): "want at most",
	} {
		if err := os.WriteFile(policy, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Open(t.Context(), dir, dir+".key", time.Now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("policy %.80q: %v, want %q", text, err, want)
		}
	}
	os.Remove(policy)
	if _, err := log.Open(t.Context(), dir, dir+".key", time.Now, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "must cosign") {
		t.Errorf("without policy: %v", err)
	}
}
