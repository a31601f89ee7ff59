package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/client"
	"tally/measure"
)

func TestRunServer(t *testing.T) {
	if _, err := os.Stat(authorityFile); err == nil {
		t.Skipf("SKIPPED: this machine has %s", authorityFile)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- runServer(ctx, ln, enclave.Echo{}, nil, slog.New(slog.DiscardHandler)) }()
	s, err := client.Dial(t.Context(), new(net.Dialer), ln.Addr().String(), client.Config{
		Authority: defaultAuthority, Policy: appraise.Policy{Platforms: []string{"insecure"}}, Rand: rand.Reader, Now: time.Now,
		Reference: &measure.ReferenceValues{Values: []measure.Value{{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReadAuthority(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority")
	if got, err := readAuthority(path); got != "default" || err != nil {
		t.Errorf("absent: %q, %v", got, err)
	}
	for content, want := range map[string]string{"chat.example:443\n": "chat.example:443", "x": "x", "": "", "\n": "", "two\nlines\n": "", "spa ce\n": "", strings.Repeat("x", 256): ""} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := readAuthority(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", content, got, err, want)
		}
	}
}
