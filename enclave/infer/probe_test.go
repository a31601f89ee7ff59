package infer_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
)

// TestAdmit: while the engine may not have requests, none reaches it, and the client is told to ask again.
func TestAdmit(t *testing.T) {
	var closed atomic.Bool
	closed.Store(true)
	w := newWorld(t, func(o *infer.Options, _ *enclave.Options) {
		o.Admit = func() error {
			if closed.Load() {
				return errors.New("not on the GPU")
			}
			return nil
		}
	})
	ask := func() int {
		t.Helper()
		resp, err := w.http.Post("http://x/v1/completions", "application/json", strings.NewReader(`{"prompt":"hello"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(); got != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", got)
	}
	if all, _ := w.fake.Requests(); len(all) != 0 {
		t.Errorf("the engine got %d requests", len(all))
	}
	closed.Store(false)
	if got := ask(); got != http.StatusOK {
		t.Errorf("status %d, want 200", got)
	}
}

func TestProbe(t *testing.T) {
	fake := infertest.Start(t)
	e, err := infer.New(infer.Options{Socket: fake.Socket, Admit: func() error { return errors.New("no") }}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	all, _ := fake.Requests()
	if len(all) != 1 || all[0]["max_tokens"] != 1.0 || all[0]["model"] == "" {
		t.Errorf("the engine got %v", all)
	}
	fake.Stop()
	if err := e.Probe(t.Context()); err == nil {
		t.Error("no engine: no error")
	}
}

// TestProbeRefuses: what answers like no engine is none.
func TestProbeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ models, completion, want string }{
		"no models":  {`{"data":[]}`, ``, "no model"},
		"no JSON":    {`<html>`, ``, "no model"},
		"no choices": {`{"data":[{"id":"m"}]}`, `{"error":"x"}`, "no choice"},
		"an error":   {`{"data":[{"id":"m"}]}`, ``, "status 500"},
	} {
		path := t.TempDir() + "/s"
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text := c.models
			if r.URL.Path == infer.PathCompletions {
				text = c.completion
			}
			if text == "" {
				w.WriteHeader(500)
			}
			w.Write([]byte(text))
		})}
		go srv.Serve(ln)
		defer srv.Shutdown(context.Background())
		e, err := infer.New(infer.Options{Socket: path}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
