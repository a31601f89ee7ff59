package publish_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
)

// What rebuilders said is found by release and rebuilder, whoever signed how much.
func TestRebuilds(t *testing.T) {
	w, a, b := rt.New(t), rt.Key(t), rt.Key(t)
	payload, _ := rt.Payload(t, w.Bundle)
	first := w.Rebuild(t, a, w.Bundle, nil)
	if again := w.Rebuild(t, a, w.Bundle, nil); !bytes.Equal(first, again) {
		t.Error("the same statement is published twice")
	}
	second := w.Rebuild(t, a, w.Bundle, func(r *release.Rebuild) { r.Predicate.Tally.Version = "2" })
	third := w.Rebuild(t, b, w.Bundle, nil)
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{rt.Key(t).Public(), a.Public(), b.Public()})
	if want := string(first) + string(second) + string(bytes.TrimSpace(third)); err != nil || string(got) != want {
		t.Errorf("%v: %d bytes, want %d", err, len(got), len(want))
	}
	if got, err := publish.Rebuilds(t.Context(), src, release.Digest{1}, []release.PublicKey{a.Public()}); err != nil || len(got) != 0 {
		t.Errorf("of another release: %q, %v", got, err)
	}
	index := filepath.Join(w.LogDir, "rebuilds", payload.String()+"-"+a.Public().ID().String())
	// Killed between log and index: the next run finds the leaf and completes the index.
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if again := w.Rebuild(t, a, w.Bundle, nil); !bytes.Equal(first, again) {
		t.Error("the same statement is logged twice")
	}
	if got, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{a.Public()}); err != nil || string(got) != string(bytes.TrimSpace(first)) {
		t.Errorf("after a kill: %v, %d bytes, want %d", err, len(got), len(first)-1)
	}
	for _, bad := range []string{"x\n", strings.Repeat(payload.String()+"\n", 33), "0" + payload.String() + "\n"} {
		if err := os.WriteFile(index, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := publish.Rebuilds(t.Context(), src, payload, []release.PublicKey{a.Public()}); err == nil {
			t.Errorf("%.80q is read as an index", bad)
		}
	}
}

// many is a place where every rebuilder said as much as an index has room for.
type many struct{ bundle []byte }

func (many) String() string { return "many" }

func (m many) Read(_ context.Context, name string, limit int64) ([]byte, error) {
	if strings.HasPrefix(name, "rebuilds/") {
		return bytes.Repeat([]byte(release.Digest{1}.String()+"\n"), 32), nil
	}
	if int64(len(m.bundle)) > limit {
		return nil, errors.New("larger than asked for")
	}
	return m.bundle, nil
}

func (many) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

// All statements together have a limit too: what a verifier refuses unread is not gathered.
func TestRebuildsTogether(t *testing.T) {
	const each = publish.MaxRebuilds / 64
	by := []release.PublicKey{rt.Key(t).Public(), rt.Key(t).Public()}
	if got, err := publish.Rebuilds(t.Context(), many{make([]byte, each)}, release.Digest{1}, by); err != nil || len(got) != publish.MaxRebuilds+63 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err := publish.Rebuilds(t.Context(), many{make([]byte, each+1)}, release.Digest{1}, by)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d bytes together", publish.MaxRebuilds)) {
		t.Errorf("%v", err)
	}
	if _, err := publish.Rebuilds(t.Context(), many{make([]byte, release.MaxRebuildBundle+1)}, release.Digest{1}, by); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("one that is too large: %v", err)
	}
}

// A published file is opened, not read.
func TestByDigest(t *testing.T) {
	w := rt.New(t)
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := rt.Payload(t, w.Bundle)
	f, err := publish.ByDigest(t.Context(), src, payload)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || sha256.Sum256(got) != payload {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := publish.ByDigest(t.Context(), src, release.Digest{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}
