package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestFailsClosed: what cannot be remembered is not cosigned, nor what nobody waits for any more.
func TestFailsClosed(t *testing.T) {
	l := newFakeLog(t, "log.example")
	l.add(t, "x")
	dir := t.TempDir() // an empty directory will do
	if _, err := Create(dir, "w.example", rand.Reader); err != nil {
		t.Fatal(err)
	}
	w, srv := open(t, dir, l.key)
	q, err := parseRequest([]byte(l.body(t, 0, 1)))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if line, err := w.cosign(gone, q); !errors.Is(err, context.Canceled) || line != "" || w.logs["log.example"].note != nil {
		t.Errorf("after the peer has gone: %q, %v", line, err)
	}
	for i, remove := range []string{w.logs["log.example"].path, filepath.Join(dir, logDir)} {
		if err := os.RemoveAll(remove); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // a directory in its place
			if err := os.Mkdir(remove, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if status, text := post(t, srv, l.body(t, 0, 1)); status != 500 || strings.Contains(text, "— ") || strings.Contains(text, dir) {
			t.Errorf("nowhere to remember it: %d %q", status, text)
		}
	}
}

// Evidence that cannot be kept is said; the log is refused all the same.
func TestEvidenceNotKept(t *testing.T) {
	l := newFakeLog(t, "log.example")
	l.add(t, "x")
	dir := t.TempDir()
	if _, err := Create(dir, "w.example", rand.Reader); err != nil {
		t.Fatal(err)
	}
	w, srv := open(t, dir, l.key)
	var said bytes.Buffer
	w.opt.Logger = slog.New(slog.NewTextHandler(&said, nil))
	if status, text := post(t, srv, l.body(t, 0, 1)); status != 200 {
		t.Fatal(status, text)
	}
	if err := os.Remove(filepath.Join(dir, evidence)); err != nil {
		t.Fatal(err)
	}
	if status, text := post(t, srv, "old 1\n\n"+l.checkpoint(t, 1, &tlog.Hash{1})); status != 422 || !strings.Contains(text, "same size") {
		t.Errorf("%d %q", status, text)
	}
	if !strings.Contains(said.String(), "cannot keep the evidence") || !strings.Contains(said.String(), "no such file") {
		t.Errorf("%s", said.String())
	}
}

func TestKeyFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	k, err := Create(dir, "w.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	good := strings.TrimSuffix(string(data), "\n")
	if got, _, err := parseKey(good); err != nil || got.String() != k.String() {
		t.Fatal(got, err)
	}
	parts := strings.SplitN(good, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil {
		t.Fatal(err)
	}
	with := func(i int, s string) string {
		p := slices.Clone(parts)
		p[i] = s
		return strings.Join(p, "+")
	}
	seed := func(b []byte) string { return with(4, base64.StdEncoding.EncodeToString(b)) }
	for name, s := range map[string]string{
		"no prefix": strings.Join(parts[2:], "+"), "two parts": "PRIVATE+KEY+w.example+" + parts[3], "hash of another": with(3, "00000000"),
		"name of another": with(2, "v.example"), "name with a space": with(2, "w example"), "no base64": with(4, parts[4]+"!"),
		"a log's key": seed(append([]byte{1}, raw[1:]...)), "seed cut": seed(raw[:len(raw)-1]), "seed and more": seed(append(raw, 0)), "empty": seed(nil),
	} {
		if _, _, err := parseKey(s); err == nil || strings.Contains(err.Error(), parts[4][:8]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(other, "w.example", rand.Reader); err == nil {
		t.Error("a key among somebody's files")
	}
}

func TestServe(t *testing.T) {
	l := newFakeLog(t, "log.example")
	dir := filepath.Join(t.TempDir(), "w")
	if _, err := Create(dir, "w.example", rand.Reader); err != nil {
		t.Fatal(err)
	}
	w, _ := open(t, dir, l.key)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Serve(ctx, ln) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended from outside: %v", err)
	}
	if err := w.Serve(t.Context(), ln); err == nil { // closed by now
		t.Error("a listener that is closed")
	}
}
