package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tally/release/log"
	"tally/release/releasetest"
)

// A fetchWorld is a published release with a channel, and the text of a policy that names both.
type fetchWorld struct {
	*releasetest.World
	policy string // file
}

func newFetchWorld(t *testing.T) *fetchWorld {
	t.Helper()
	w := &fetchWorld{World: releasetest.New(t)}
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key.pub"), w.Key.Public().PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	w.policy = filepath.Join(dir, "policy.yaml")
	w.write(t, w.policy, "")
	return w
}

// write writes a policy whose entry of the log says more besides.
func (w *fetchWorld) write(t *testing.T, file, more string) {
	t.Helper()
	text := "schema: tally.policy/v1\nrelease:\n  signers: [{file: key.pub}]\n  log: {vkey: \"" + w.Log.String() + "\", witnesses: none" + more + "}\n" +
		"  channel: {name: stable, max-age: 168h}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fetch is `tally release fetch minimal` at a time when the channel's statements hold.
func (w *fetchWorld) fetch(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	return run(t, append([]string{"release", "fetch", "minimal", "--policy", w.policy, "--at", releasetest.Now.Add(time.Minute).Format(time.RFC3339)}, args...)...)
}

// TestFetchWhileLogGrows: a log that takes an entry while a release is fetched from it was not rolled back.
func TestFetchWhileLogGrows(t *testing.T) {
	t.Parallel()
	w := newFetchWorld(t)
	inner, once, grown := log.Handler(w.LogDir), sync.Once{}, false
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(rw, r)
		if r.URL.Path == "/"+log.CheckpointFile {
			once.Do(func() { w.Channel(t, w.Key, w.Predicate(t, 2, w.Bundle)); grown = true })
		}
	}))
	defer srv.Close()
	if code, out, talk := w.fetch(t, "--from", srv.URL); code != exitOK || !grown {
		t.Errorf("exit %d, grown %v\n%s%s", code, grown, out, talk)
	}
}
