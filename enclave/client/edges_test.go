package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/enclave/secrets"
)

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestCallersFail: an exchange of which a side fails here is no exchange, and the session goes on.
func TestCallersFail(t *testing.T) {
	m, cfg := hardware(t)
	s, err := Dial(t.Context(), new(net.Dialer), serve(t, m, enclave.Options{SessionWindow: time.Millisecond}), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	full := errors.New("disk full")
	if err := s.Exchange(t.Context(), strings.NewReader("hello"), failing{full}); !errors.Is(err, full) {
		t.Errorf("an answer that cannot be written: %v", err)
	}
	if err := s.Exchange(t.Context(), failing{full}, io.Discard); !errors.Is(err, full) {
		t.Errorf("a request that cannot be read: %v", err)
	}
	if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	c := capped{io.Discard, 3}
	if _, err := c.Write([]byte("abc")); err != nil {
		t.Error(err)
	}
	if n, err := c.Write([]byte("d")); err == nil || n != 0 {
		t.Errorf("an answer over the limit: %d, %v", n, err)
	}
}

// TestReappraiseAsksNothing: where the policy wants nothing about the session the evidence is judged again, and no
// question is asked.
func TestReappraiseAsksNothing(t *testing.T) {
	key := newKey(t)
	over := make(chan struct{})
	s, err := New(t.Context(), peer(t, key, payload(t, key.Public()), func(c *channel.Conn) {
		defer close(over)
		if r, err := c.Receive(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("the client sent a record of type %d, %v", r.Type, err)
		}
	}), config())
	if err != nil {
		t.Fatal(err)
	}
	first := s.Result()
	if err := s.Reappraise(t.Context()); err != nil || s.Result() == first || !s.Result().Accepted {
		t.Errorf("%v, %+v", err, s.Result())
	}
	s.Close(t.Context())
	<-over
}

// TestRefusedAgainForgets: an enclave that is not accepted any more is not reconnected to by its pin.
func TestRefusedAgainForgets(t *testing.T) {
	m, cfg := hardware(t)
	a := &switched{AMD: m}
	cfg.Pins = new(Pins)
	s, err := Dial(t.Context(), new(net.Dialer), serve(t, a, enclave.Options{SessionWindow: time.Millisecond}), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Pins.get(cfg.Authority, cfg.Now()) == nil {
		t.Fatal("no pin of an accepted enclave")
	}
	a.set(true)
	var refused *appraise.Error
	if err := s.Reappraise(t.Context()); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if cfg.Pins.get(cfg.Authority, cfg.Now()) != nil {
		t.Error("the pin is still there")
	}
}

// TestPins: what is not whole evidence of the very key is not kept, and a Pins has an end.
func TestPins(t *testing.T) {
	key, at := newKey(t).Public(), time.Unix(1, 0)
	good := payload(t, key)
	for name, peer := range map[string]channel.Peer{
		"nothing":      {Static: key},
		"another form": {Static: key, Payload: append([]byte{9}, good[1:]...)},
		"cut":          {Static: key, Payload: good[:len(good)-1]},
		"another key":  {Static: newKey(t).Public(), Payload: good},
	} {
		p := new(Pins)
		if p.keep("a", peer); p.get("a", at) != nil {
			t.Errorf("%s: kept", name)
		}
	}
	p := new(Pins)
	if p.get("a", at) != nil {
		t.Error("a pin of nobody")
	}
	for i := range maxPins + 5 {
		p.keep(fmt.Sprint(i), channel.Peer{Static: key, Payload: good})
	}
	if last := fmt.Sprint(maxPins + 4); len(p.pins) != maxPins || p.get(last, at) == nil {
		t.Errorf("%d pins, want %d with the newest", len(p.pins), maxPins)
	} else if p.keep(last, channel.Peer{Static: key, Payload: good}); len(p.pins) != maxPins {
		t.Errorf("%d pins after one was renewed", len(p.pins))
	}
	one := p.get(fmt.Sprint(maxPins+4), at)
	if d, err := evidence.Parse(one.Payload[1:]); err != nil || one.Static != key || d.Claims.Static != key {
		t.Errorf("%+v, %v", one, err)
	}
	if p.get(fmt.Sprint(maxPins+4), time.Unix(2, 0)) != nil {
		t.Error("a pin past its time")
	}
}

// TestShort: an engine that answers secrets at length has got them.
func TestShort(t *testing.T) {
	var b short
	taken := secrets.Taken.Answer()
	if _, err := b.Write(taken); err != nil || secrets.ReadAnswer(b) != nil {
		t.Errorf("%x, %v", b, err)
	}
	if _, err := b.Write([]byte{1}); !errors.Is(err, secrets.ErrNotAsked) || len(b) != len(taken) {
		t.Errorf("%x, %v", b, err)
	}
}
