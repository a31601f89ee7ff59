package client

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
	"tally/enclave/channel"
)

// A clock goes when it is told to.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	wakes map[chan time.Time]time.Time
}

// newClock starts after the fake hardware's certificates were made, with room to be set back.
func newClock() *clock {
	return &clock{now: time.Now().Add(2 * time.Hour), wakes: map[chan time.Time]time.Time{}}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.wakes[ch] = c.now.Add(d)
	c.wake()
	return ch
}

func (c *clock) wake() {
	for ch, at := range c.wakes {
		if !c.now.Before(at) {
			ch <- c.now
			delete(c.wakes, ch)
		}
	}
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.wake()
}

// renewing is a client's configuration with a policy of ten minutes, and the enclave that it talks with.
func renewing(t *testing.T) (*switched, *clock, *Session) {
	t.Helper()
	m, cfg := hardware(t)
	a, c := &switched{AMD: m}, newClock()
	cfg.Now, cfg.After, cfg.Policy.Reappraise = c.Now, c.After, 10*time.Minute
	s, err := Dial(t.Context(), new(net.Dialer), serve(t, a, enclave.Options{SessionWindow: time.Millisecond}), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return a, c, s
}

// An openExchange is one whose request has begun and goes on as long as the test likes.
type openExchange struct {
	request *io.PipeWriter
	answer  *shared
	err     chan error
}

// shared takes what is read beside the writing.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *shared) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *shared) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func begin(t *testing.T, s *Session) *openExchange {
	t.Helper()
	r, w := io.Pipe()
	x := &openExchange{w, new(shared), make(chan error, 1)}
	go func() { x.err <- s.Exchange(context.Background(), r, x.answer) }()
	if _, err := io.WriteString(w, "hello "); err != nil {
		t.Fatal(err)
	}
	return x
}

// eventually waits until ok, as nothing tells when the watcher has done its work.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestRenewal: a session that goes on is judged again when the policy's time has come, by the next exchange or, in the
// middle of one, by itself; and not before.
func TestRenewal(t *testing.T) {
	_, c, s := renewing(t)
	do := func(text string) {
		t.Helper()
		if got, err := s.Do(t.Context(), []byte(text)); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	first := s.Result()
	c.advance(9 * time.Minute)
	if do("young"); s.Result() != first {
		t.Error("judged again after 9 minutes, want 10")
	}
	c.advance(time.Minute) // nothing runs: it is the next exchange's to ask
	if s.Result() != first {
		t.Error("judged again with nothing to send")
	}
	do("old")
	second := s.Result()
	if second == first {
		t.Error("sent after 10 minutes, and not judged again")
	}
	wantFresh(t, second)
	x := begin(t, s)
	c.advance(10 * time.Minute)
	eventually(t, "judged again in the middle of an exchange", func() bool { return s.Result() != second })
	third := s.Result()
	c.advance(-time.Hour) // a clock that was set back
	if _, err := io.WriteString(x.request, "world"); err != nil {
		t.Fatal(err)
	}
	x.request.Close()
	if err := <-x.err; err != nil || x.answer.String() != "hello world" {
		t.Errorf("%q, %v", x.answer.String(), err)
	}
	if s.Result() == third {
		t.Error("the clock was set back, and the session not judged again")
	}
	c.advance(time.Hour)
	var wg sync.WaitGroup
	for range 16 { // all of them find it too old at once
		wg.Go(func() {
			if got, err := s.Do(context.Background(), []byte("x")); err != nil || string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

// TestRenewalRefused: exchanges in flight are told why, and there are no others.
func TestRenewalRefused(t *testing.T) {
	a, c, s := renewing(t)
	x, y := begin(t, s), begin(t, s)
	a.set(true)
	c.advance(10 * time.Minute)
	check := func(what string, err error) {
		t.Helper()
		var refused *appraise.Error
		if !errors.Is(err, ErrNotRenewed) || !errors.As(err, &refused) || refused.Result.Reason != appraise.BadFreshness || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("one", <-x.err)
	check("the other", <-y.err)
	a.set(false)
	_, err := s.Do(t.Context(), []byte("hello"))
	check("a later one", err)
}

// TestRenewalLeft: a request that gives up while it waits ends itself and not the session.
func TestRenewalLeft(t *testing.T) {
	_, c, s := renewing(t)
	c.advance(time.Hour)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user left"))
	if _, err := s.Do(ctx, []byte("hello")); err == nil || errors.Is(err, ErrNotRenewed) {
		t.Errorf("%v", err)
	}
	if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestRenewalOverdue: an enclave that does not answer in time gets no byte of a request that came after the policy's
// time, and none after that.
func TestRenewalOverdue(t *testing.T) {
	m, cfg := hardware(t)
	c, key, over := newClock(), newKey(t), make(chan struct{})
	cfg.Now, cfg.After, cfg.Policy.Reappraise, cfg.EvidenceTimeout = c.Now, c.After, 10*time.Minute, 300*time.Millisecond
	conn := peer(t, key, attested(t, m, key.Public()), func(ch *channel.Conn) {
		defer close(over)
		b := sessionDocument(t, m, ch.Peer().Binding, asked(t, ch), key.Public())
		if err := ch.Send(context.Background(), reply(1, 0, len(b), b)); err != nil {
			t.Error(err)
		}
		asked(t, ch) // before a byte of the request
		if r, err := ch.Receive(context.Background()); err == nil {
			t.Errorf("the client sent a record of type %d", r.Type)
		}
	})
	s, err := New(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.advance(10 * time.Minute)
	for range 2 {
		_, err := s.Do(t.Context(), []byte("hello"))
		if !errors.Is(err, ErrNotRenewed) || !strings.Contains(err.Error(), "no answer within 300ms") {
			t.Errorf("%v", err)
		}
	}
	<-over
}
