package listen

import (
	"crypto/rand"
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
	r := &keyring{opt: &Options{Attester: insecure.Attester{}, InsecureAttester: true, Rand: rand.Reader, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Observe: func(enclave.Event) {}, KeySessions: 1, KeyLifetime: time.Hour}}
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
