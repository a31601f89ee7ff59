package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	"tally/release/releasetest"
	"tally/release/sign"
)

// A fetchWorld is a published release with a channel, and a policy that names both and who revokes.
type fetchWorld struct {
	*releasetest.World
	revoker *sign.Key
	policy  string // file
}

func newFetchWorld(t *testing.T) *fetchWorld {
	t.Helper()
	w := &fetchWorld{World: releasetest.New(t), revoker: releasetest.Key(t)}
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	dir := t.TempDir()
	for name, k := range map[string]*sign.Key{"key.pub": w.Key, "revoke.pub": w.revoker} {
		if err := os.WriteFile(filepath.Join(dir, name), k.Public().PEM(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.policy = filepath.Join(dir, "policy.yaml")
	w.write(t, "")
	return w
}

// write writes the policy; from, unless it is empty, is where the log is.
func (w *fetchWorld) write(t *testing.T, from string) {
	t.Helper()
	if from != "" {
		from = ", from: " + strconv.Quote(from)
	}
	text := "schema: tally.policy/v1\nrelease:\n  signers: [{file: key.pub}]\n  log: {vkey: \"" + w.Log.String() + "\", witnesses: none" + from + "}\n" +
		"  channel: {name: stable, max-age: 168h}\n  revocation-keys: [{file: revoke.pub}]\n"
	if err := os.WriteFile(w.policy, []byte(text), 0o644); err != nil {
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

// TestFetchFromMirror: what the log that the policy names shows, a mirror does not hide; and where no log is named, or the mirror
// itself, the mirror is enough.
func TestFetchFromMirror(t *testing.T) {
	t.Parallel()
	w := newFetchWorld(t)
	mirror, absent := filepath.Join(t.TempDir(), "mirror"), filepath.Join(t.TempDir(), "absent")
	if err := os.CopyFS(mirror, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	w.Channel(t, w.Key, w.Predicate(t, 2, w.Bundle))
	w.write(t, mirror)
	if code, out, talk := w.fetch(t, "--from", w.LogDir); code != exitUnverified || !strings.Contains(out, "reason: log-stale") {
		t.Errorf("ahead of the log: exit %d\n%s%s", code, out, talk)
	}
	payload, _ := releasetest.Payload(t, w.Bundle)
	revoked := w.Predicate(t, 1)
	revoked.Channel, revoked.Revoked = publish.RevokedChannel, []release.Revocation{{Statement: payload, Reason: "broken", Since: releasetest.Now}}
	w.Channel(t, w.revoker, revoked)
	srv := httptest.NewServer(log.Handler(w.LogDir))
	defer srv.Close()
	for name, c := range map[string]struct {
		policy, from, log string
		code              int
		says              string
	}{
		"no log named":        {"", mirror, "", exitOK, "VERIFIED"},
		"the mirror itself":   {mirror, mirror, "", exitOK, "VERIFIED"},
		"the log":             {w.LogDir, mirror, "", exitAppraisal, "reason: revoked"},
		"the log's URL":       {srv.URL, mirror, "", exitAppraisal, "reason: revoked"}, // without a slash at its end
		"from the log itself": {w.LogDir, "", "", exitAppraisal, "reason: revoked"},
		"out of reach":        {absent, mirror, "", exitFailed, ""},
		"the flag instead":    {absent, mirror, mirror, exitOK, "VERIFIED"},
		"the flag":            {"", mirror, srv.URL, exitAppraisal, "reason: revoked"},
	} {
		w.write(t, c.policy)
		var args []string
		for flag, value := range map[string]string{"--from": c.from, "--log": c.log} {
			if value != "" {
				args = append(args, flag, value)
			}
		}
		code, out, talk := w.fetch(t, args...)
		if code != c.code || !strings.Contains(out, c.says) || c.says == "" && (out != "" || !strings.Contains(talk, absent)) {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, code, c.code, out, talk)
		}
	}
}
