package witness

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
)

// A fakeLog signs checkpoints of a tree of which it has all hashes.
type fakeLog struct {
	signer note.Signer
	key    release.LogKey
	hashes []tlog.Hash
	n      int64
}

func newFakeLog(t testing.TB, origin string) *fakeLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	l := &fakeLog{}
	if l.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if l.key, err = release.ParseLogKey(vkey); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *fakeLog) read(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, l.hashes[i])
	}
	return out, nil
}

func (l *fakeLog) add(t testing.TB, leaf string) {
	t.Helper()
	h, err := tlog.StoredHashes(l.n, []byte(leaf), tlog.HashReaderFunc(l.read))
	if err != nil {
		t.Fatal(err)
	}
	l.hashes = append(l.hashes, h...)
	l.n++
}

// checkpoint signs the tree of the first n leaves, or a root that is given.
func (l *fakeLog) checkpoint(t testing.TB, n int64, root *tlog.Hash) string {
	t.Helper()
	if root == nil {
		h, err := tlog.TreeHash(n, tlog.HashReaderFunc(l.read))
		if err != nil {
			t.Fatal(err)
		}
		root = &h
	}
	msg, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", l.key.Origin(), n, root)}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

// body is a request from the tree of old leaves to that of n.
func (l *fakeLog) body(t testing.TB, old, n int64) string {
	t.Helper()
	s := fmt.Sprintf("old %d\n", old)
	if old > 0 && old < n {
		p, err := tlog.ProveTree(n, old, tlog.HashReaderFunc(l.read))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range p {
			s += base64.StdEncoding.EncodeToString(h[:]) + "\n"
		}
	}
	return s + "\n" + l.checkpoint(t, n, nil)
}

func open(t testing.TB, dir string, logs ...release.LogKey) (*Witness, *httptest.Server) {
	t.Helper()
	w, err := Open(dir, Options{Logs: logs, Now: func() time.Time { return time.Unix(1e9, 0) }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(w.Handler())
	t.Cleanup(func() { srv.Close(); w.Close() })
	return w, srv
}

func post(t testing.TB, srv *httptest.Server, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(srv.URL+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if (resp.StatusCode == 409) != (resp.Header.Get("Content-Type") == "text/x.tlog.size") {
		t.Errorf("%d with content type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, string(text)
}

// TestProtocol goes through every answer of the protocol.
func TestProtocol(t *testing.T) {
	l, other := newFakeLog(t, "log.example"), newFakeLog(t, "other.example")
	for i := range 20 {
		l.add(t, fmt.Sprint(i))
		other.add(t, fmt.Sprint(i))
	}
	dir := filepath.Join(t.TempDir(), "w")
	key, err := Create(dir, "w.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, srv := open(t, dir, l.key)
	policy, err := release.ParseWitnessPolicy([]byte("witness w "+key.String()+"\nquorum w\n"), "p")
	if err != nil {
		t.Fatal(err)
	}
	good := func(old, n int64) {
		t.Helper()
		status, line := post(t, srv, l.body(t, old, n))
		if status != 200 {
			t.Fatalf("%d to %d: %d %s", old, n, status, line)
		}
		if at, err := policy.Quorum.Met([]byte(l.checkpoint(t, n, nil) + line)); err != nil || at.Unix() != 1e9 {
			t.Errorf("%d to %d: cosignature %s, %v", old, n, at, err)
		}
	}
	wrong := tlog.Hash{1}
	zeros := strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 63)
	forged := strings.Replace(l.body(t, 0, 7), "\n7\n", "\n8\n", 1)
	empty := func(root *tlog.Hash) string { return "old 0\n\n" + l.checkpoint(t, 0, root) }
	if status, text := post(t, srv, empty(&wrong)); status != 422 || !strings.Contains(text, "without leaves") {
		t.Errorf("an empty tree with the root of another: %d %s", status, text)
	}
	good(0, 0)
	good(0, 0)
	if status, text := post(t, srv, "old 0\n"+zeros[:45]+"\n"+l.checkpoint(t, 7, nil)); status != 422 || !strings.Contains(text, "is empty") {
		t.Errorf("a proof from the empty tree: %d %s", status, text)
	}
	good(0, 7)
	good(7, 7)
	if status, text := post(t, srv, "old 7\n\n"+l.checkpoint(t, 8, nil)); status != 422 || !strings.Contains(text, "does not hold") {
		t.Errorf("growth without a proof: %d %s", status, text)
	}
	good(7, 8)
	good(8, 20)
	for _, c := range []struct {
		name, body string
		want       int
		text       string
	}{
		{"old size not ours", l.body(t, 8, 20), 409, "20\n"},
		{"from nothing", l.body(t, 0, 20), 409, "20\n"},
		{"a smaller tree than ours", l.body(t, 8, 10), 409, "20\n"},
		{"log not known", other.body(t, 0, 7), 404, "not one"},
		{"not signed by the log", forged, 403, "not signed"},
		{"origin of ours, key of another", strings.Replace(other.body(t, 0, 7), "other.example", "log.example", 2), 403, "not signed"},
		{"more leaves than proofs can be of", "old 20\n" + zeros + "\n" + l.checkpoint(t, 1<<62+1, &wrong), 403, "not signed"}, // tlog would not come back
		{"backwards", l.body(t, 20, 7), 400, "above"},
		{"proof where none belongs", "old 20\n" + zeros + "\n" + l.checkpoint(t, 20, nil), 422, "proof"},
		{"a hash where none belongs", "old 20\n" + zeros[:45] + "\n" + l.checkpoint(t, 20, nil), 422, "proof"},
		{"another tree of the same size", "old 20\n\n" + l.checkpoint(t, 20, &wrong), 422, "same size"},
		{"a third tree of that size", "old 20\n\n" + l.checkpoint(t, 20, &tlog.Hash{2}), 422, "same size"},
		{"no proof", "old 20\n\n" + l.checkpoint(t, 20, nil), 200, "— w.example"},
		{"no old", "\n" + l.checkpoint(t, 20, nil), 400, "old SIZE"},
		{"size without old", "20\n\n" + l.checkpoint(t, 20, nil), 400, "old SIZE"},
		{"old with a sign", "old +20\n\n" + l.checkpoint(t, 20, nil), 400, "old SIZE"},
		{"old with a zero", "old 020\n\n" + l.checkpoint(t, 20, nil), 400, "old SIZE"},
		{"old below zero", "old -1\n\n" + l.checkpoint(t, 20, nil), 400, "old SIZE"},
		{"too many hashes", "old 20\n" + zeros + zeros[:45] + "\n" + l.checkpoint(t, 20, nil), 400, "63"},
		{"hash cut", "old 20\nAAAA\n\n" + l.checkpoint(t, 20, nil), 400, "32 bytes"},
		{"hash and more", "old 20\n" + zeros[:44] + "!\n\n" + l.checkpoint(t, 20, nil), 400, "32 bytes"},
		{"no checkpoint", "old 20\n\nlog.example\n", 400, "no signatures"},
		{"nothing", "", 400, "empty line"},
		{"too long", strings.Repeat("x", maxRequest+1), 400, "too long"},
	} {
		if status, text := post(t, srv, c.body); status != c.want || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %q, want %d %q", c.name, status, text, c.want, c.text)
		}
	}
	if all, err := os.ReadDir(filepath.Join(dir, evidence)); err != nil || len(all) != 1 {
		t.Errorf("%d pieces of evidence, %v", len(all), err)
	} else if text, _ := os.ReadFile(filepath.Join(dir, evidence, all[0].Name())); strings.Count(string(text), "\n20\n") != 2 || !strings.Contains(string(text), wrong.String()) {
		t.Errorf("evidence %s", text)
	}
	for _, c := range []struct{ method, path string }{{"GET", "/add-checkpoint"}, {"POST", "/"}} {
		req, _ := http.NewRequest(c.method, srv.URL+c.path, nil)
		if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode < 404 {
			t.Errorf("%s %s: %v, %v", c.method, c.path, resp, err)
		}
	}
}

// TestFork: a log that grows in two ways gets a cosignature on one.
func TestFork(t *testing.T) {
	a := newFakeLog(t, "log.example")
	b := &fakeLog{signer: a.signer, key: a.key}
	for i := range 12 {
		a.add(t, fmt.Sprint(i))
		b.add(t, fmt.Sprint(i%11))
	}
	dir := filepath.Join(t.TempDir(), "w")
	if _, err := Create(dir, "w.example", rand.Reader); err != nil {
		t.Fatal(err)
	}
	w, srv := open(t, dir, a.key)
	if status, text := post(t, srv, a.body(t, 0, 11)); status != 200 {
		t.Fatal(status, text)
	}
	if status, _ := post(t, srv, b.body(t, 11, 12)); status != 200 {
		t.Fatal("b is a's continuation until leaf 11")
	}
	// It now has b's 12 leaves; a's are refused, also after a restart.
	for range 2 {
		if status, text := post(t, srv, a.body(t, 12, 12)); status != 422 {
			t.Errorf("the other branch: %d %s", status, text)
		}
		srv.Close()
		w.Close()
		w, srv = open(t, dir, a.key)
	}
}

func TestOpenRefusals(t *testing.T) {
	l := newFakeLog(t, "log.example")
	l.add(t, "x")
	dir := filepath.Join(t.TempDir(), "w")
	k, err := Create(dir, "w.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err := os.ReadFile(filepath.Join(dir, vkeyFile)); err != nil || string(vkey) != k.String()+"\n" {
		t.Errorf("%s: %q, %v", vkeyFile, vkey, err)
	}
	if st, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v, %v", st.Mode(), err)
	}
	if _, err := Create(dir, "w.example", rand.Reader); err == nil {
		t.Error("a second key in the same place")
	}
	if _, err := Create(filepath.Join(t.TempDir(), "x"), "w x", rand.Reader); err == nil {
		t.Error("a name with a space")
	}
	o := Options{Logs: []release.LogKey{l.key}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	refuse := func(name string, o Options, want string) {
		t.Helper()
		if w, err := Open(dir, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
			if err == nil {
				w.Close()
			}
		}
	}
	refuse("no log", Options{Now: time.Now, Logger: o.Logger}, "no log")
	refuse("a log twice", Options{Logs: append(o.Logs, l.key), Now: time.Now, Logger: o.Logger}, "twice")
	w, srv := open(t, dir, l.key)
	refuse("in use", o, "in use")
	if status, _ := post(t, srv, l.body(t, 0, 1)); status != 200 {
		t.Fatal(status)
	}
	w.Close()
	// What is remembered is damaged: nothing is cosigned until somebody has looked.
	at := w.logs["log.example"].path
	if id := l.key.ID(); at != filepath.Join(dir, "logs", fmt.Sprintf("log.example-%x.txt", id[:8])) {
		t.Errorf("remembers in %s", at)
	}
	text, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(at, bytes.Replace(text, []byte("\n1\n"), []byte("\n0\n"), 1), 0o644)
	refuse("memory damaged", o, "fork")
	for _, bad := range []string{"", "x", "PRIVATE+KEY+w.example+00000000+AAAA", "PRIVATE+KEY+w.example"} {
		os.WriteFile(filepath.Join(dir, keyFile), []byte(bad), 0o600)
		refuse("key "+bad, o, "want PRIVATE+KEY")
	}
	os.Remove(filepath.Join(dir, keyFile))
	refuse("no key", o, "not a witness")
}

func FuzzRequest(f *testing.F) {
	l := newFakeLog(f, "log.example")
	for i := range 5 {
		l.add(f, fmt.Sprint(i))
	}
	f.Add([]byte(l.body(f, 0, 3)))
	f.Add([]byte(l.body(f, 3, 5)))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseRequest(body)
		if err == nil && (q.old < 0 || len(q.proof) > maxProof || !bytes.HasSuffix(body, q.checkpoint)) {
			t.Errorf("%q: %+v", body, q)
		}
	})
}
