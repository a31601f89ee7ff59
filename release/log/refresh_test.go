package log_test

import (
	"crypto/rand"
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

// witnessedByOne makes a log that one witness cosigns, whose clock is off by what can be changed.
func witnessedByOne(t *testing.T) (dir string, quorum release.Quorum, off *atomic.Int64) {
	t.Helper()
	base := t.TempDir()
	dir, off = filepath.Join(base, "pub"), new(atomic.Int64)
	k, err := witness.Create(filepath.Join(base, "w"), "w.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(nil)
	o := options(dir + ".key")
	o.Witnesses = []byte("witness w " + k.String() + " http://" + srv.Listener.Addr().String() + "\nquorum w\n")
	key, err := log.Create(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
	w, err := witness.Open(filepath.Join(base, "w"), witness.Options{Logs: []release.LogKey{key}, Now: now, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	srv.Config.Handler = w.Handler()
	srv.Start()
	t.Cleanup(srv.Close)
	p, err := release.ParseWitnessPolicy(o.Witnesses, "p")
	if err != nil {
		t.Fatal(err)
	}
	return dir, p.Quorum, off
}

// TestRefreshWithWrongClocks: no cosignature is replaced by an older one, nor by one that is not yet to a client; one that
// is not yet is replaced by any.
func TestRefreshWithWrongClocks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, then time.Duration
		want        string // of the error
	}{
		"slow":        {0, -3 * time.Hour, "is older than those that are there"},
		"fast":        {0, time.Hour, "ahead of the clock here"},
		"a bit fast":  {0, release.Skew - time.Minute, ""},
		"slow before": {-3 * time.Hour, -2 * time.Hour, ""},
		"fast before": {time.Hour, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, quorum, off := witnessedByOne(t)
			off.Store(int64(c.first))
			e, err := appendAt(t, func() time.Time { return time.Now().Add(c.first) }, dir, dir+".key", "one")
			if err != nil {
				t.Fatal(err)
			}
			off.Store(int64(c.then))
			at, err := log.Refresh(t.Context(), dir, dir+".key", time.Now, quiet)
			text, rerr := os.ReadFile(filepath.Join(dir, log.CheckpointFile))
			if rerr != nil {
				t.Fatal(rerr)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the checkpoint stays as it was") {
					t.Errorf("%s, %v, want %q", at, err, c.want)
				}
				if string(text) != e.Checkpoint {
					t.Error("the checkpoint is another")
				}
				return
			}
			met, merr := quorum.Met(text)
			if err != nil || merr != nil || !met.Equal(at) || met.Sub(time.Now().Add(c.then)).Abs() > time.Minute {
				t.Errorf("refreshed at %s, %v; on disk %s, %v", at, err, met, merr)
			}
		})
	}
}

// TestAppendAhead: what no client would take yet does not get its leaf published, and does when the witness's clock is right again.
func TestAppendAhead(t *testing.T) {
	t.Parallel()
	dir, quorum, off := witnessedByOne(t)
	off.Store(int64(release.Skew + time.Minute))
	if _, err := appendOne(t, dir, dir+".key", "one"); err == nil || !strings.Contains(err.Error(), "ahead of the clock here") || !strings.Contains(err.Error(), "publishing again finishes it") {
		t.Fatalf("%v", err)
	}
	off.Store(int64(release.Skew - time.Minute))
	e, err := appendOne(t, dir, dir+".key", "one")
	if err != nil {
		t.Fatal(err)
	}
	if met, err := quorum.Met([]byte(e.Checkpoint)); err != nil || met.After(time.Now().Add(release.Skew)) {
		t.Errorf("cosigned at %s, %v", met, err)
	}
}

// TestOldCopy: who put a log back to an old copy is told that its witness has cosigned another tree, or a longer one.
func TestOldCopy(t *testing.T) {
	t.Parallel()
	dir, _, _ := witnessedByOne(t)
	old := filepath.Join(filepath.Dir(dir), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ body, status string }{{"one", "422"}, {"two", "409"}} {
		if _, err := appendOne(t, dir, dir+".key", c.body); err != nil {
			t.Fatal(err)
		}
		l := open(t, old, dir+".key")
		_, err := l.Append(t.Context(), []byte("another"))
		if want := "HTTP status " + c.status + "); a witness has cosigned a longer tree, or another one"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("beside %q: %v, want %q", c.body, err, want)
		}
		l.Close()
	}
}
