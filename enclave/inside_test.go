package enclave

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"tally/enclave/evidence"
	"tally/enclave/secrets"
)

// TestDefaults holds the limits that PROTOCOL.md and the documentation of Options state.
func TestDefaults(t *testing.T) {
	o, err := Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2]any{
		"open sessions": {o.MaxSessions, 1000}, "handshakes": {o.MaxHandshakes, 256}, "sessions of a key": {o.KeySessions, 1000}, "request": {o.MaxRequest, int64(8 << 20)},
		"handshake": {o.HandshakeTimeout, 10 * time.Second}, "idle": {o.IdleTimeout, 5 * time.Minute}, "stall": {o.StallTimeout, 30 * time.Second}, "tick": {o.Tick, 50 * time.Millisecond},
		"window": {o.SessionWindow, 100 * time.Millisecond}, "session": {o.SessionLifetime, 24 * time.Hour}, "key": {o.KeyLifetime, 24 * time.Hour}, "GPUs": {o.GPUInterval, time.Hour},
		"kinds": {len(o.Kinds), 0}, "cover": {o.Cover, false},
	} {
		if v[0] != v[1] {
			t.Errorf("%s: %v, want %v", name, v[0], v[1])
		}
	}
}

// hung is a platform that answers when it is let, or when nobody waits any more.
type hung struct{ let chan bool }

func (hung) Platform() string { return "insecure" }

func (h hung) Attest(ctx context.Context, rd [64]byte) ([]byte, []byte, error) {
	select {
	case <-h.let:
		return rd[:], nil, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// TestFullWindow: a window that is full is closed at once, and whoever comes then is in the next one, which stays open.
func TestFullWindow(t *testing.T) {
	h := hung{make(chan bool)}
	s, err := NewSessionAttester(h, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var first *batch
	for n := range evidence.MaxSessions {
		b, i := s.join([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
		if first == nil {
			first = b
		}
		if b != first || i != n {
			t.Fatalf("session %d is %d of another window: %v", n, i, b != first)
		}
	}
	next, i := s.join([32]byte{1})
	if next == first || i != 0 {
		t.Fatalf("session %d of a full window", i)
	}
	h.let <- true
	<-first.done
	if first.err != nil || first.tree == nil || len(first.report.Report) != 64 {
		t.Errorf("the full window: %v", first.err)
	}
	if b, i := s.join([32]byte{2}); b != next || i != 1 {
		t.Errorf("the next window was closed by the first: session %d, another one: %v", i, b != next)
	}
}

// TestReportTime: one report takes so long at most, though nobody gives up.
func TestReportTime(t *testing.T) {
	s, err := NewSessionAttester(hung{}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	s.report = 10 * time.Millisecond
	for range 2 {
		if _, err := s.Attest(t.Context(), [32]byte{1}, [32]byte{2}, [32]byte{3}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
}

func TestWindows(t *testing.T) {
	for window, want := range map[time.Duration]time.Duration{-1: 0, 0: SessionWindow, 1: 1, time.Minute: time.Minute, time.Minute + 1: 0} {
		if s, err := NewSessionAttester(hung{}, window); (err == nil) != (want != 0) || err == nil && s.window != want {
			t.Errorf("window %d: %+v, %v", window, s, err)
		}
	}
}

// apart is an engine that is told secrets of sessions.
type apart struct {
	Echo
	secret *[32]byte
}

func (a apart) Session(secret [32]byte) Engine {
	*a.secret = secret
	return Echo{}
}

// TestSessionSecret: each session's engine has a secret, and without randomness there is no session.
func TestSessionSecret(t *testing.T) {
	var one, two [32]byte
	for _, to := range []*[32]byte{&one, &two} {
		s := &server{engine: apart{secret: to}, opt: Options{Rand: rand.Reader}}
		if e, err := s.sessionEngine(secrets.Session{}); err != nil || e != (Echo{}) {
			t.Errorf("%v, %v", e, err)
		}
	}
	if one == two || one == [32]byte{} {
		t.Errorf("secrets %x and %x", one, two)
	}
	s := &server{engine: apart{secret: &one}, opt: Options{Rand: io.LimitReader(rand.Reader, 31)}}
	if e, err := s.sessionEngine(secrets.Session{}); e != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without randomness: %v, %v", e, err)
	}
}

// TestWaitFor: who does not end is not waited for.
func TestWaitFor(t *testing.T) {
	e := make(chan bool)
	s := new(server)
	s.wait.Go(func() { <-e })
	at := time.Now()
	waitFor(&s.wait, 20*time.Millisecond)
	if took := time.Since(at); took < 20*time.Millisecond {
		t.Errorf("waited %v", took)
	}
	close(e)
	done := make(chan bool)
	go func() {
		waitFor(&s.wait, time.Hour)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it waits for who has ended")
	}
}
