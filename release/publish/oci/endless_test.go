package oci_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
)

// An endless registry passes requests on to another, but answers those that it is asked for without end.
type endless struct {
	http.Handler
	hit  func(*http.Request) bool
	sent atomic.Int64 // bytes
}

func (e *endless) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !e.hit(r) {
		e.Handler.ServeHTTP(rw, r)
		return
	}
	rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	for block := bytes.Repeat([]byte(" "), 1<<20); ; {
		n, err := rw.Write(block)
		if e.sent.Add(int64(n)); err != nil || e.sent.Load() > 256<<20 {
			return
		}
	}
}

// What a registry sends is not read without end, whatever it is.
func TestEndless(t *testing.T) {
	w, req := ociWorld(t)
	by := publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}
	channel := publish.Want{Name: "minimal", Channel: "stable", By: party(w.Key)}
	for name, c := range map[string]struct {
		path string // prefix, below the repository
		tag  bool   // a registry without the referrers API
		want publish.Want
		says string
	}{
		"referrers":     {"referrers/", false, by, "larger than 4194304 bytes"},
		"referrers tag": {"manifests/sha256-", true, by, "larger than 4194304 bytes"},
		"referrer":      {"manifests/sha256:", false, by, "larger than 4194304 bytes"},
		"bundle":        {"blobs/", false, by, "no bundle by any"},
		"channel":       {"manifests/_channel.stable", false, channel, "larger than 4194304 bytes"},
		"statement":     {"blobs/", false, channel, fmt.Sprintf("more than %d bytes", release.MaxChannelBundle)},
	} {
		host := inProcess(t, !c.tag)
		if _, err := repository(host).Push(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if _, err := repository(host).Channel(t.Context(), w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle)), w.Key.Public()); err != nil {
			t.Fatal(err)
		}
		e := &endless{
			Handler: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}),
			hit:     func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/acme/enclave/"+c.path) },
		}
		srv := httptest.NewServer(e)
		_, err := repository(strings.TrimPrefix(srv.URL, "http://")).Fetch(t.Context(), c.want)
		srv.Close()
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || e.sent.Load() == 0 || e.sent.Load() > 128<<20 { // a few MiB, and what lies in buffers on the way
			t.Errorf("%s: %v, after %d bytes", name, err, e.sent.Load())
		}
	}
}

// A blob may be as large as it is, and a registry may say that it lies elsewhere; a manifest is small wherever it lies.
func TestBlobElsewhere(t *testing.T) {
	const large = 5 << 20
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := rw.Write(make([]byte, large)); err != nil {
			t.Log(err)
		}
	}))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(rw, r, elsewhere.URL+"/blobs/there", http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	r := repository(strings.TrimPrefix(srv.URL, "http://"))
	rc, err := r.Blob(t.Context(), sha256.Sum256(make([]byte, large)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, rc)
	if err := errors.Join(err, rc.Close()); err != nil || n != large {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := r.HasChannel(t.Context(), "stable"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("manifest: %v", err)
	}
}

// A referrer that was taken away from a registry that keeps the referrers' tag is still listed there, and stands in
// nobody's way.
func TestReferrerTakenAway(t *testing.T) {
	w, req := ociWorld(t)
	host, a := inProcess(t, false), rt.Key(t)
	r := repository(host)
	if _, err := r.Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	ref, err := r.Rebuild(t.Context(), w.Rebuild(t, a, w.Bundle, nil), a.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(ref, "@")
	gone, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+host+"/v2/acme/enclave/manifests/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(gone)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if got, err := r.Fetch(t.Context(), publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}); err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(w.Bundle)) {
		t.Errorf("release: %v", err)
	}
	_, s := rt.Payload(t, w.Bundle)
	if got, err := r.Rebuilds(t.Context(), s, party(a)); err != nil || got != nil {
		t.Errorf("rebuilds: %q, %v", got, err)
	}
	if _, err := r.Fetch(t.Context(), publish.Want{Name: "minimal", Version: "0.1.0", By: party(a)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another's: %v", err)
	}
}
