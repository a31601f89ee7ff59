package publish_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A rekor answers as rekor-tiles v2.3.0 does (POST /api/v2/log/entries, protojson with unset fields), with a log
// of ours inside, and serves tiles where the public instances do.
type rekor struct {
	t     *testing.T
	dir   string
	skey  string
	key   release.LogKey
	spoil func(map[string]any) // changes the answer
	asked int
}

func newRekor(t *testing.T) (*rekor, *httptest.Server) {
	dir := t.TempDir()
	r := &rekor{t: t, dir: filepath.Join(dir, "pub"), skey: filepath.Join(dir, "key")}
	var err error
	if r.key, err = log.Create(t.Context(), r.dir, log.CreateOptions{
		Origin: "rekor.example", KeyFile: r.skey, Rand: rand.Reader, Now: rt.Now, Logger: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v2/", http.StripPrefix("/api/v2", log.Handler(r.dir)))
	mux.Handle("POST /api/v2/log/entries", r)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return r, srv
}

func (r *rekor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var in struct {
		HashedRekordRequestV002 struct {
			Digest    []byte
			Signature struct {
				Content  []byte
				Verifier struct {
					PublicKey  struct{ RawBytes []byte }
					KeyDetails string
				}
			}
		}
	}
	dec := json.NewDecoder(req.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || req.Header.Get("Content-Type") != "application/json" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	r.asked++
	h, b64 := in.HashedRekordRequestV002, func(v any) json.RawMessage { d, _ := json.Marshal(v); return d }
	body := fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%s},`+
		`"signature":{"content":%s,"verifier":{"keyDetails":%q,"publicKey":{"rawBytes":%s}}}}}}`,
		b64(h.Digest), b64(h.Signature.Content), h.Signature.Verifier.KeyDetails, b64(h.Signature.Verifier.PublicKey.RawBytes))
	l, err := log.Open(req.Context(), r.dir, r.skey, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Error(err)
		return
	}
	before, err := os.ReadFile(filepath.Join(r.dir, "checkpoint"))
	e, aerr := l.Append(req.Context(), body)
	if err := errors.Join(err, aerr, l.Close()); err != nil {
		r.t.Error(err)
		return
	}
	if e.Checkpoint == string(before) {
		w.Header().Set("X-Log-Index", fmt.Sprint(e.Index))
		http.Error(w, `{"code":6,"message":"an equivalent entry already exists in the transparency log","details":[]}`, http.StatusConflict)
		return
	}
	hashes := []any{}
	for _, p := range e.Proof {
		hashes = append(hashes, p[:])
	}
	answer := map[string]any{
		"logIndex": fmt.Sprint(e.Index), "logId": map[string]any{"keyId": e.LogID[:]}, "integratedTime": "0", "inclusionPromise": nil,
		"kindVersion": map[string]any{"kind": "hashedrekord", "version": "0.0.2"},
		"inclusionProof": map[string]any{
			"logIndex": fmt.Sprint(e.Index), "rootHash": e.RootHash[:], "treeSize": fmt.Sprint(e.TreeSize), "hashes": hashes,
			"checkpoint": map[string]any{"envelope": e.Checkpoint},
		},
		"canonicalizedBody": body,
	}
	if r.spoil != nil {
		r.spoil(answer)
	}
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(answer)
}

func publishRekor(t *testing.T, w *rt.World, r *log.Rekor, bundle []byte) (*publish.Published, error) {
	t.Helper()
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Open(t)
	p, err := publish.Publish(t.Context(), l, publish.Request{Bundle: bundle, Signer: w.Key.Public(), OutDir: w.Out, Files: out.Files(), Rekor: r})
	return p, errors.Join(err, l.Close())
}

func openRekor(t *testing.T, url string, key release.LogKey) *log.Rekor {
	t.Helper()
	r, err := log.OpenRekor(url, key, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkBoth verifies a bundle under each of its two logs.
func checkBoth(t *testing.T, w *rt.World, p *publish.Published, keys ...release.LogKey) {
	t.Helper()
	for _, k := range keys {
		policy := *w.Policy
		policy.Log.Key = k
		r, err := release.Verify(p.Bundle, &policy, rt.Now)
		if err != nil {
			t.Errorf("%s: %v", k.Origin(), err)
			continue
		}
		said := false
		for _, c := range r.Checks {
			said = said || c.Name == "other logs" && c.Status == release.NotChecked
		}
		if !said {
			t.Error("nothing is said about the other log")
		}
	}
	stored, err := os.ReadFile(filepath.Join(w.LogDir, p.Path))
	if err != nil || !bytes.Equal(stored, p.Bundle) {
		t.Errorf("stored is another bundle, %v", err)
	}
}

func TestRekor(t *testing.T) {
	w := rt.New(t)
	server, srv := newRekor(t)
	r := openRekor(t, srv.URL, server.key)
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	p, err := publishRekor(t, w, r, bundle)
	if err != nil {
		t.Fatal(err)
	}
	checkBoth(t, w, p, w.Log, server.key)
	asked := server.asked
	if p, err = publishRekor(t, w, r, bundle); err != nil || !p.Already || server.asked != asked {
		t.Errorf("again: %+v, asked %d times, %v", p, server.asked-asked, err)
	}
	// One that was published without Rekor gets its entry later.
	if p, err = publishRekor(t, w, r, w.Bundle); err != nil || !p.Already {
		t.Fatal(err)
	}
	checkBoth(t, w, p, w.Log, server.key)
	// Killed after Rekor took it: its second answer is a conflict, and the entry is read from the tiles.
	third := w.Sign(t, w.Key, sign.Options{Sequence: 3})
	b, err := release.ParseBundle(third)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), &b.Envelope, w.Key.Public()); err != nil {
		t.Fatal(err)
	}
	if p, err = publishRekor(t, w, r, third); err != nil {
		t.Fatal(err)
	}
	checkBoth(t, w, p, w.Log, server.key)
}

func TestRekorRefuses(t *testing.T) {
	w := rt.New(t)
	server, srv := newRekor(t)
	r := openRekor(t, srv.URL, server.key)
	for name, c := range map[string]struct {
		spoil func(map[string]any)
		want  string
	}{
		"another body":  {func(a map[string]any) { a["canonicalizedBody"] = []byte("{}") }, "not the one of this envelope"},
		"another index": {func(a map[string]any) { a["logIndex"] = "7" }, "different indexes"},
		"another log":   {func(a map[string]any) { a["logId"] = map[string]any{"keyId": make([]byte, 32)} }, "the entry is in log 0000"},
		"another kind":  {func(a map[string]any) { a["kindVersion"] = map[string]any{"kind": "dsse"} }, `is a "dsse"`},
		"another root":  {func(a map[string]any) { a["inclusionProof"].(map[string]any)["rootHash"] = make([]byte, 32) }, "roots differ"},
		"no proof":      {func(a map[string]any) { delete(a, "inclusionProof") }, "log entry and inclusion"},
	} {
		server.spoil = c.spoil
		if name == "no proof" {
			c.want = ""
		}
		bundle := w.Sign(t, w.Key, sign.Options{Sequence: uint64(100 + server.asked)})
		if p, err := publishRekor(t, w, r, bundle); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "rekor") {
			t.Errorf("%s: %+v, %v, want %q", name, p, err, c.want)
		}
	}
	server.spoil = nil
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	other, _ := newRekor(t)
	if _, err := publishRekor(t, w, openRekor(t, srv.URL, other.key), bundle); err == nil || !strings.Contains(err.Error(), "the entry is in log") {
		t.Errorf("another key: %v", err)
	}
	srv.Close()
	if _, err := publishRekor(t, w, r, bundle); err == nil {
		t.Error("no rekor, but published")
	}
	if p, err := publishRekor(t, w, r, w.Bundle); err == nil { // which only our log has
		t.Errorf("no rekor, but published there too: %+v", p)
	}
	for status, body := range map[int]string{500: "broken", 409: "no index", 201: "{", 200: strings.Repeat(" ", 2<<20)} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }))
		if _, err := publishRekor(t, w, openRekor(t, srv.URL, server.key), bundle); err == nil {
			t.Errorf("status %d: published", status)
		}
		srv.Close()
	}
	// Whatever Rekor did not take is not in our log.
	if p := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})); p.Index != 1 {
		t.Errorf("next index %d, want 1", p.Index)
	}
	for _, place := range []string{"ftp://a", "://", "http://", "http://a/?q", "http://a/#f"} {
		if _, err := log.OpenRekor(place, server.key, nil); err == nil {
			t.Errorf("%q: opened", place)
		}
	}
	if _, err := log.OpenRekor("http://a/", release.LogKey{}, nil); err == nil {
		t.Error("opened without key")
	}
}

// TestRekorServer asks the real rekor-server-posix. It serves no tiles: what it has already stays unproved.
func TestRekorServer(t *testing.T) {
	program := testtool.Build(t, "rekor-server-posix", "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix", "v2.3.0")
	dir := t.TempDir()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey("rekor.example", pub)
	if err != nil {
		t.Fatal(err)
	}
	key, err := release.ParseLogKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	var ports [3]string
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, ports[i], _ = net.SplitHostPort(ln.Addr().String())
		ln.Close()
	}
	cmd := exec.Command(program, "serve", "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--http-port", ports[0], "--grpc-port", ports[1], "--http-metrics-port", ports[2],
		"--hostname", "rekor.example", "--storage-dir", filepath.Join(dir, "log"), "--signer-filepath", keyFile, "--checkpoint-interval", "1s", "--persistent-antispam")
	var talk strings.Builder
	cmd.Stdout, cmd.Stderr = &talk, &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for range 200 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+ports[0]); err == nil {
			c.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	w := rt.New(t)
	r := openRekor(t, "http://127.0.0.1:"+ports[0], key)
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	p, err := publishRekor(t, w, r, bundle)
	if err != nil {
		t.Fatalf("%v\n%s", err, talk.String())
	}
	checkBoth(t, w, p, w.Log, key)
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), &b.Envelope, w.Key.Public()); err == nil || !strings.Contains(err.Error(), "has the entry already, at index 0") {
		t.Errorf("a second time: %v", err)
	}
}
