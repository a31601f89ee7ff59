package enclave_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/client"
)

// TestReconnect follows a client with pins through the life of two enclaves' keys.
func TestReconnect(t *testing.T) {
	for _, full := range []channel.Kind{channel.Hybrid, channel.Classical} {
		again, gone := channel.HybridReconnect, channel.Hybrid
		if full == channel.Classical {
			again, gone = channel.ClassicalReconnect, channel.ClassicalFallback
		}
		clock := newClock()
		opt := options(t)
		opt.Now, opt.Kinds, opt.KeySessions = clock.now, []channel.Kind{full}, 4
		one, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
		opt.KeySessions = 0
		two, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
		cfg := config()
		cfg.Now, cfg.Kinds, cfg.Pins = clock.now, []channel.Kind{full}, new(client.Pins)
		visit := func(step, addr string, want channel.Kind) {
			t.Helper()
			s := dial(t, addr, cfg)
			if got := s.Peer().Kind; got != want {
				t.Errorf("%s: %v, want %v", step, got, want)
			}
			if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
				t.Errorf("%s: %q, %v", step, got, err)
			}
			if !s.Result().Accepted {
				t.Errorf("%s: no result of this session", step)
			}
			s.Close(t.Context())
		}
		visit("first", one, full)
		visit("second", one, again)
		visit("another enclave of the service", two, gone)
		visit("and again", two, again)
		visit("back", one, gone)
		visit("the key's last session", one, again)
		visit("after rotation", one, gone)
		visit("the new key", one, again)
		clock.add(25 * time.Hour)
		visit("the pin is past its time", one, full)
		// A policy that changed applies to pinned evidence, and the pin goes.
		strict := cfg
		strict.Policy = appraise.Policy{Platforms: []string{"snp"}}
		var refused *appraise.Error
		if _, err := client.Dial(t.Context(), new(net.Dialer), one, strict); !errors.As(err, &refused) || refused.Result.Reason != appraise.BadPlatform {
			t.Errorf("pinned evidence under another policy: %v", err)
		}
		visit("without a pin", one, full)
	}
}

// A patient engine answers with one word and then waits for its context to end.
type patient struct{ ended chan error }

func (p patient) Exchange(ctx context.Context, r io.Reader, w io.Writer) error {
	if b, err := io.ReadAll(r); err != nil || string(b) == "quick" {
		return err
	}
	io.WriteString(w, "word")
	<-ctx.Done()
	p.ended <- context.Cause(ctx)
	return ctx.Err()
}

// TestCancelReachesTheEngine: what a client no longer wants ends at the engine, and nothing else does.
func TestCancelReachesTheEngine(t *testing.T) {
	engine := patient{make(chan error, 1)}
	addr, _ := start(t, insecure.Attester{}, engine, options(t))
	s := dial(t, addr, config())
	ctx, cancel := context.WithCancel(t.Context())
	words, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.Exchange(ctx, strings.NewReader("slow"), w) }()
	if _, err := io.ReadFull(words, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Do(t.Context(), []byte("quick")); err != nil {
		t.Errorf("an exchange beside it: %v", err)
	}
	at := time.Now()
	cancel()
	if err := <-engine.ended; !errors.Is(err, channel.ErrReset) {
		t.Errorf("the engine's context: %v", err)
	}
	t.Logf("the engine learned of it after %v", time.Since(at)) // at most 100 ms: infer's TestCancel, with an engine that is a server
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the client: %v", err)
	}
	if _, err := s.Do(t.Context(), []byte("quick")); err != nil {
		t.Errorf("an exchange after it: %v", err)
	}
}

// TestManyExchangesAtOnce runs more exchanges over one session than it has streams.
func TestManyExchangesAtOnce(t *testing.T) {
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, options(t))
	s := dial(t, addr, config())
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			msg := bytes.Repeat([]byte{byte(i)}, 1+i*7001)
			if got, err := s.Do(t.Context(), msg); err != nil || !bytes.Equal(got, msg) {
				t.Errorf("exchange %d: %d bytes, %v", i, len(got), err)
			}
		}()
	}
	wg.Wait()
}
