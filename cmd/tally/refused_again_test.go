package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
)

// thinking is an engine that never answers.
type thinking struct{}

func (thinking) Exchange(ctx context.Context, _ io.Reader, _ io.Writer) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestRefusedAgain: an enclave that is not accepted any more while it answers is the verdict that it would have been at
// the beginning. Its key becomes too old after some seconds.
func TestRefusedAgain(t *testing.T) {
	w, _, cosigned := newFreshKeyWorld(t)
	if code, _, talk := run(t, "release", "keygen", "-o", w.path("op"), "--insecure-no-password"); code != 0 {
		t.Fatal(talk)
	}
	if err := os.WriteFile(w.path("value"), []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := infer.New(infer.Options{Socket: infertest.Start(t).Socket}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	beacon := cosigned(36*time.Hour - 5*time.Second)
	silent, talking := serveBeacon(t, beacon, thinking{}), serveBeacon(t, beacon, engine)
	trust := []string{"--policy", w.path("again.yaml"), "--bundle", w.path("c.json")}
	var wg sync.WaitGroup
	for _, c := range []struct{ args, stdin, out string }{
		{"connect " + silent + " --message x", "", "reason: freshness"},
		{"secret send " + silent + " --insecure-no-password --key " + w.path("op.key") + " n=" + w.path("value"), "", "reason: freshness"},
		{"connect " + silent + " --message x --json", "", `"accepted": false`},
		{"chat " + talking + " --quiet", "endless\n", "more"},
		{"chat " + talking + " --quiet --message endless --json", "", `"reason": "freshness"`},
	} {
		wg.Go(func() {
			var out, talk bytes.Buffer
			code := Main(t.Context(), append(append([]string{"tally"}, strings.Fields(c.args)...), trust...), strings.NewReader(c.stdin), &out, &talk)
			if code != 5 || !strings.Contains(out.String(), c.out) || !strings.Contains(talk.String(), "was not accepted again") {
				t.Errorf("%s: exit %d, want 5 with %q\n%.2000s%s", c.args, code, c.out, out.String(), talk.String())
			}
		})
	}
	wg.Wait()
}

// failing is a transport whose requests all end so.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// TestProxyRefusedAgain: a client of the proxy can tell a verdict from a connection that broke.
func TestProxyRefusedAgain(t *testing.T) {
	refused := &appraise.Error{Result: &appraise.Result{Reason: appraise.BadFreshness}, Err: errors.New("too old")}
	for want, err := range map[string]error{
		"enclave_not_accepted": fmt.Errorf("%w: %w", client.ErrNotRenewed, refused),
		"enclave_unavailable":  fmt.Errorf("%w: %w", client.ErrNotRenewed, io.ErrUnexpectedEOF),
	} {
		r := httptest.NewRequest("GET", "http://127.0.0.1/v1/models", nil)
		got := httptest.NewRecorder()
		proxyHandler(failing{err}, func(string, ...any) {}).ServeHTTP(got, r)
		if got.Code != http.StatusBadGateway || !strings.Contains(got.Body.String(), `"code":"`+want+`"`) {
			t.Errorf("%d %s, want %s", got.Code, got.Body, want)
		}
	}
}
