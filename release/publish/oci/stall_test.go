package oci_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"tally/release/publish"
)

// A silent registry passes requests on to another, but leaves those that it is hit by as they are, or half answered.
type silent struct {
	http.Handler
	hit  func(*http.Request) bool
	half bool
	end  chan struct{}
}

func (s *silent) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !s.hit(r) {
		s.Handler.ServeHTTP(rw, r)
		return
	}
	if s.half {
		rw.Header().Set("Content-Length", "1000")
		rw.Write([]byte("{"))
		rw.(http.Flusher).Flush()
	}
	select {
	case <-s.end:
	case <-r.Context().Done():
	}
}

// A registry that says nothing more holds nobody for ever, whatever it was asked for.
func TestSilent(t *testing.T) {
	w, req := ociWorld(t)
	by := publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}
	at := func(method, path string) func(*http.Request) bool {
		return func(r *http.Request) bool {
			return r.Method == method && strings.HasPrefix(r.URL.Path, "/v2/"+path)
		}
	}
	for name, c := range map[string]struct {
		hit  func(*http.Request) bool
		half bool
		push bool
	}{
		"ping":        {hit: at(http.MethodGet, "")},
		"tag":         {hit: at(http.MethodHead, "acme/enclave/manifests/0.1.0")},
		"manifest":    {hit: at(http.MethodGet, "acme/enclave/manifests/sha256:"), half: true},
		"bundle":      {hit: at(http.MethodGet, "acme/enclave/blobs/")},
		"half bundle": {hit: at(http.MethodGet, "acme/enclave/blobs/"), half: true},
		"upload":      {hit: at(http.MethodPatch, "acme/enclave/blobs/"), push: true},
		"pushed":      {hit: at(http.MethodPut, "acme/enclave/manifests/"), push: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := inProcess(t, true)
			if !c.push {
				if _, err := repository(host).Push(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			s := &silent{Handler: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}), hit: c.hit, half: c.half, end: make(chan struct{})}
			srv := httptest.NewServer(s)
			defer srv.Close()
			defer close(s.end)
			r := repository(strings.TrimPrefix(srv.URL, "http://"))
			r.Stall = 200 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var err error
			if c.push {
				_, err = r.Push(ctx, req)
			} else {
				_, err = r.Fetch(ctx, by)
			}
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "next to nothing, came for") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, context %v", err, ctx.Err())
			}
		})
	}
}

// A transfer may take longer than any silence, so long as it moves.
func TestSlowMoves(t *testing.T) {
	t.Parallel()
	const steps = 8
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for range steps {
			time.Sleep(100 * time.Millisecond)
			rw.Write(make([]byte, 20<<10))
			rw.(http.Flusher).Flush()
		}
	}))
	defer srv.Close()
	r := repository(strings.TrimPrefix(srv.URL, "http://"))
	r.Stall = 400 * time.Millisecond
	rc, err := r.Blob(t.Context(), sha256.Sum256(make([]byte, steps*20<<10)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, rc)
	if err = errors.Join(err, rc.Close()); n != steps*20<<10 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
