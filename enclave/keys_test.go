package enclave

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave/evidence"
)

// moody is a platform that makes reports while it is well.
type moody struct {
	ill   atomic.Bool
	asked atomic.Int32
}

func (*moody) Platform() string { return "insecure" }

func (m *moody) Attest(_ context.Context, rd [64]byte) ([]byte, []byte, error) {
	m.asked.Add(1)
	if m.ill.Load() {
		return nil, nil, errors.New("no report")
	}
	return rd[:], nil, nil
}

// well are GPUs with which nothing is wrong.
type well struct{}

func (well) Attest(context.Context, evidence.Claims) (*GPUSet, error) {
	return &GPUSet{Ship: func() ([]byte, error) { return []byte("set"), nil }}, nil
}
func (well) Serving(context.Context) error { return nil }
func (well) Changed() <-chan struct{}      { return nil }

// TestTend follows a key nobody asks for: the next one is made ahead, at half its time where there are GPUs; a report that is not made is asked
// for again every minute, before the key's end and after it, and at once by who comes then; and the private half goes at the key's end in any case.
func TestTend(t *testing.T) {
	const life, unknown = 100 * time.Hour, keyRetry // as long as it is not known whether the next key can be had
	for name, c := range map[string]struct {
		gpus        GPUs
		ahead, then time.Duration // the key made ahead has a part of its time behind it when it is needed,
		asked       int32         // with GPUs as much as the next one is made at
	}{"no GPUs": {nil, 90 * time.Hour, 80 * time.Hour, 9}, "GPUs": {well{}, 50 * time.Hour, unknown, 10}} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1767225600, 0)
			var live, next atomic.Bool // as who counts events knows it
			opt, err := Options{Authority: "default", Rand: rand.Reader, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
				KeyLifetime: life, GPUs: c.gpus, Observe: func(e Event) {
					switch e.What {
					case NewKey:
						live.Store(true)
						next.Store(false)
					case KeyReady:
						next.Store(true)
					case KeyForgotten:
						live.Store(false)
					}
				}}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			platform := new(moody)
			r := newKeyring(platform, opt, newGPUState(opt))
			if err := r.rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			look := func(after, want time.Duration, ok bool, asked int32) {
				t.Helper()
				now = now.Add(after)
				wait, err := r.tend(t.Context())
				made := false
				if r.next != nil { // being made: look again once it is there, without taking it
					m := <-r.next
					made = m.err == nil
					r.next <- m
				}
				if live.Load() != (r.cur.Load().identity != nil) || next.Load() != made {
					t.Errorf("after %v: events say that a key serves: %v, and the next is there: %v", after, live.Load(), next.Load())
				}
				if wait != want || (err == nil) != ok || platform.asked.Load() != asked || (r.cur.Load().identity != nil) != ok {
					t.Fatalf("after %v: look again after %v, %v, %d reports asked for, a key: %v; want %v, %d, %v", after, wait, err, platform.asked.Load(), r.cur.Load().identity != nil, want, asked, ok)
				}
			}
			look(time.Hour, c.ahead-time.Hour, true, 1)
			platform.ill.Store(true)
			look(c.ahead-time.Hour-1, time.Millisecond, true, 1)
			look(1, unknown, true, 2) // fails
			look(keyRetry-1, unknown, true, 2)
			look(1, unknown, true, 3)
			look(life-c.ahead-keyRetry-1, time.Millisecond, true, 4)
			look(1, keyRetry, false, 5)
			if k, err := r.acquire(t.Context()); err == nil || k != nil || r.claims().Epoch != 1 {
				t.Fatalf("%v: a session under a key whose time is over", err)
			}
			look(keyRetry, keyRetry, false, 7)
			platform.ill.Store(false)
			look(keyRetry, c.ahead, true, 8)
			look(c.ahead, unknown, true, 9)
			look(keyRetry, life-c.ahead-keyRetry, true, 9)
			look(life-c.ahead-keyRetry, c.then, true, c.asked)
			if k, err := r.acquire(t.Context()); err != nil || k.identity == nil || k.claims.Epoch != 9 {
				t.Fatalf("%+v, %v", k, err)
			}
		})
	}
}

// counting is a platform that makes reports when it is let.
type counting struct{ let chan bool }

func (counting) Platform() string { return "insecure" }
func (c counting) Attest(_ context.Context, rd [64]byte) ([]byte, []byte, error) {
	<-c.let
	return rd[:], nil, nil
}

// TestKeyLimits holds the limits that are in force when nobody sets any: a key takes 1000 sessions, and for 24 hours, whichever is first. The
// next one is made from the 900th session, or from 21.6 hours, on, while the platform may take its time; then nobody waits for it, and
// the enclave keeps nothing of the private half of the old one.
func TestKeyLimits(t *testing.T) {
	for name, c := range map[string]struct {
		early, due time.Duration // after so long, and this many sessions
		first      int
		last       int
	}{
		"sessions": {time.Hour, 2 * time.Hour, 899, 1000},
		"time":     {24*time.Hour*9/10 - 1, 24*time.Hour - 1, 5, 10},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Unix(1767225600, 0)
			var since atomic.Int64 // keys are made in goroutines of their own
			wait := func(d time.Duration) { since.Store(int64(d)) }
			opt, err := Options{Authority: "default", Rand: rand.Reader, Now: func() time.Time { return began.Add(time.Duration(since.Load())) }, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			platform := counting{make(chan bool, 2)}
			platform.let <- true
			r := newKeyring(platform, opt, newGPUState(opt))
			acquired := 0
			take := func(epoch uint64) *key {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // who waits for the platform waits in vain
				defer cancel()
				acquired++
				k, err := r.acquire(ctx)
				if err != nil || k.claims.Epoch != epoch {
					t.Fatalf("session %d, after %v: %+v, %v; want key %d", acquired, time.Duration(since.Load()), k, err, epoch)
				}
				return k
			}
			take(1) // has key 1 made
			for wait(c.early); acquired < c.first; {
				take(1)
			}
			if r.next != nil {
				t.Fatalf("the next key is made after %d sessions and %v", acquired, time.Duration(since.Load()))
			}
			if name == "time" {
				wait(c.early + 1)
			} else {
				take(1)
			}
			take(1)
			if r.next == nil {
				t.Fatalf("the next key is not made after %d sessions and %v", acquired, time.Duration(since.Load()))
			}
			wait(c.due)
			for acquired < c.last-1 {
				take(1) // the platform has not made its report yet
			}
			old := take(1)
			platform.let <- true
			m := <-r.next
			r.next <- m
			if name == "time" {
				wait(c.due + 1)
			}
			if k := take(2); k.identity.Static == old.identity.Static || r.cur.Load() != k || r.next != nil {
				t.Errorf("key 2 is %+v, and the enclave has %+v", k, r.cur.Load())
			}
		})
	}
}

// TestLostKey: a key of before a loss takes no session, though its time is not over.
func TestLostKey(t *testing.T) {
	opt, err := Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler), GPUs: well{}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r := newKeyring(new(moody), opt, newGPUState(opt))
	for epoch := uint64(1); epoch < 3; epoch++ {
		for range 2 {
			if k, err := r.acquire(t.Context()); err != nil || k.claims.Epoch != epoch {
				t.Fatalf("after %d losses: %+v, %v", epoch-1, k, err)
			}
		}
		r.gpus.lose(t.Context(), errors.New("a GPU fell out"))
	}
}

// TestTurn: who waits for a key, while another rotation takes its time, waits no longer than it may; who looks at the current one does not
// wait.
func TestTurn(t *testing.T) {
	opt, err := Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r := newKeyring(new(moody), opt, nil)
	if err := r.rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errGPULost)
	defer cancel()
	_, acquired := r.acquire(short)
	_, tended := r.tend(short)
	for name, err := range map[string]error{"acquire": acquired, "tend": tended, "renew": r.renew(short)} {
		if !errors.Is(err, errGPULost) {
			t.Errorf("%s: %v, want why its time was over", name, err)
		}
	}
	if r.claims().Epoch != 1 {
		t.Errorf("claims %+v", r.claims())
	}
	r.give()
	if _, err := r.acquire(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestMissing: a next key that could not be had is begun again a minute later, when who comes asks for it, too.
func TestMissing(t *testing.T) {
	now := time.Unix(1767225600, 0)
	opt, err := Options{Authority: "default", Rand: rand.Reader, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler), KeySessions: 10}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	platform := new(moody)
	r := newKeyring(platform, opt, nil)
	take := func(asked int32) {
		t.Helper()
		if _, err := r.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.next != nil { // wait for it
			r.next <- <-r.next
		}
		if platform.asked.Load() != asked {
			t.Fatalf("%d reports asked for, want %d", platform.asked.Load(), asked)
		}
	}
	for range 5 {
		take(1)
	}
	platform.ill.Store(true)
	r.cur.Load().sessions = 9
	take(2)
	r.cur.Load().sessions = 9
	now = now.Add(keyRetry - 1)
	take(2)
	r.cur.Load().sessions = 9
	platform.ill.Store(false)
	now = now.Add(1)
	take(3)
	take(3) // the next key, which was there
	if r.claims().Epoch != 3 {
		t.Errorf("key %d, want the third", r.claims().Epoch)
	}
}
