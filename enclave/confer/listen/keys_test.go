package listen

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"time"
	"weak"

	"tally/enclave"
	"tally/enclave/attest/insecure"
)

// TestRetiredKey: nothing keeps a key that another one has replaced, its timer neither, and the timer of one does not take another.
func TestRetiredKey(t *testing.T) {
	r := newKeyring(&Options{Attester: insecure.Attester{}, InsecureAttester: true, Rand: rand.Reader, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Observe: func(enclave.Event) {}, KeySessions: 1, KeyLifetime: time.Hour})
	next := func() weak.Pointer[key] {
		t.Helper()
		if _, _, err := r.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		return weak.Make(r.cur)
	}
	gone := func(k weak.Pointer[key]) bool {
		runtime.GC()
		return k.Value() == nil
	}
	first, second := next(), next()
	if !gone(first) || gone(second) {
		t.Errorf("the retired key is gone: %v, the current one: %v", gone(first), gone(second))
	}
	r.drop(1)
	if r.cur == nil {
		t.Error("the first key's timer took the second")
	}
	r.drop(2)
	if r.cur != nil || !gone(second) {
		t.Error("a key whose time is over is kept")
	}
}

// A slowAttester answers when it is let, whatever the caller's time.
type slowAttester struct {
	insecure.Attester
	asked, answer chan struct{}
}

func (a slowAttester) Attest(ctx context.Context, data [64]byte) ([]byte, []byte, error) {
	close(a.asked)
	<-a.answer
	return a.Attester.Attest(ctx, data)
}

// TestWaitForKey: a handshake that waits for another's key ends in its own time.
func TestWaitForKey(t *testing.T) {
	slow := slowAttester{asked: make(chan struct{}), answer: make(chan struct{})}
	r := newKeyring(&Options{Attester: slow, InsecureAttester: true, Rand: rand.Reader, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Observe: func(enclave.Event) {}, KeySessions: 2, KeyLifetime: time.Hour})
	first := make(chan error)
	go func() {
		_, _, err := r.acquire(t.Context())
		first <- err
	}()
	<-slow.asked
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		_, _, err := r.acquire(ctx)
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second waits as long as the first's key takes")
	}
	close(slow.answer)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, _, err := r.acquire(t.Context()); err != nil || r.cur.sessions != 2 {
		t.Errorf("%v, %d sessions of the key, want 2", err, r.cur.sessions)
	}
}
