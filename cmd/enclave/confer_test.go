//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"tally/enclave/attest/insecure"
	"tally/enclave/confer"
	"tally/enclave/confer/listen"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/enclave/operate"
	"tally/internal/guest"
)

// TestConferPart: the listener stands where the configuration says, with what the host says that it should be, and
// with an attester that Confer's clients do not know only where the configuration says that, too.
func TestConferPart(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "{%q:1}", r.URL.Path) }))
	defer host.Close()
	engine, err := infer.New(infer.Options{Socket: infertest.Start(t).Socket}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &guest.Confer{Listen: free.Addr().(*net.TCPAddr).AddrPort(), ContextTokens: 7, Manifest: host.URL + "/m", ManifestBundle: host.URL + "/b", Insecure: true}
	log, m := slog.New(slog.DiscardHandler), new(operate.Metrics)
	if _, err := conferPart(c, insecure.Attester{}, engine, m, log); err == nil {
		t.Error("a port that is taken")
	}
	free.Close()
	part, err := conferPart(c, insecure.Attester{}, engine, m, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	s, err := confer.DialWebSocket(t.Context(), "ws://"+c.Listen.String()+listen.Path, nil, confer.Config{Rand: rand.Reader, Judge: func(context.Context, *confer.Evidence) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if e := s.Evidence(); e.Platform != "insecure" || e.Manifest != `{"/m":1}` || e.ManifestBundle != `{"/b":1}` {
		t.Errorf("%+v", e)
	}
	if err := s.Send(t.Context(), &confer.Request{ID: 1, Verb: "GET", Path: "/ping"}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Receive(t.Context()); err != nil || string(r.Body) != "PONG" {
		t.Errorf("%+v, %v", r, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	part, err = conferPart(&guest.Confer{Listen: netip.MustParseAddrPort("127.0.0.1:0"), ContextTokens: 7}, insecure.Attester{}, engine, m, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := part(t.Context()); err == nil {
		t.Error("it serves with an attester that Confer's clients do not know")
	}
}
