package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/client"
	"tally/enclave/evidence"
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
	served := make(chan struct{})
	go func() {
		done <- runServer(ctx, ln, insecure.Attester{}, enclave.Echo{}, quiet(), func() { close(served) })
	}()
	<-served
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

// mute is an attester that is there and says nothing.
type mute struct{ insecure.Attester }

func (mute) Attest(context.Context, [64]byte) ([]byte, []byte, error) {
	return nil, nil, errors.New("no report today")
}

// quiet options tell nobody anything.
func quiet() enclave.Options {
	return enclave.Options{Logger: slog.New(slog.DiscardHandler), Observe: func(enclave.Event) {}}
}

// TestNoEvidenceNoService: without a report nobody is told that the enclave serves.
func TestNoEvidenceNoService(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	err = runServer(t.Context(), ln, mute{}, enclave.Echo{}, quiet(), func() { t.Error("it says that it serves") })
	if err == nil || !strings.Contains(err.Error(), "no report today") {
		t.Errorf("%v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("its listener: %v", err)
	}
}

// someGPUs are GPUs whose engine is on them when it is told to be.
type someGPUs struct{ engine chan error }

func (someGPUs) Attest(context.Context, evidence.Claims) (*enclave.GPUSet, error) {
	return &enclave.GPUSet{Ship: func() ([]byte, error) { return []byte("set"), nil }}, nil
}
func (g someGPUs) Serving(context.Context) error { return <-g.engine }
func (someGPUs) Changed() <-chan struct{}        { return nil }

// TestGPUsBeforeService: with GPUs nobody is told that the enclave serves before the engine is on them.
func TestGPUsBeforeService(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opt, g := quiet(), someGPUs{make(chan error)}
	opt.GPUs = g
	key, done, served := make(chan struct{}), make(chan error, 1), make(chan struct{})
	opt.Observe = func(e enclave.Event) {
		if e.What == enclave.NewKey {
			close(key)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- runServer(ctx, ln, insecure.Attester{}, enclave.Echo{}, opt, func() { close(served) })
	}()
	<-key
	select {
	case <-served:
		t.Error("it says that it serves, and the engine is not there")
	case <-time.After(50 * time.Millisecond):
	}
	g.engine <- nil
	<-served
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	opt.Observe = func(enclave.Event) {}
	go func() { g.engine <- errors.New("it answers from the CPU") }()
	if err := runServer(t.Context(), ln, insecure.Attester{}, enclave.Echo{}, opt, func() { t.Error("it says that it serves") }); err == nil || !strings.Contains(err.Error(), "answers from the CPU") {
		t.Errorf("an engine on the CPU: %v", err)
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
