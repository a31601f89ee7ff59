package enclave_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/channel/ws"
)

// TestIdleStream: a stream that the enclave gave up, and the client does not end, keeps no session: it is ended after its idle time,
// and its place is another's.
func TestIdleStream(t *testing.T) {
	opt := options(t)
	opt.MaxSessions, opt.IdleTimeout, opt.Now = 1, 100*time.Millisecond, time.Now
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	c := rawClient(t, addr)
	if err := c.Send(t.Context(), channel.Record{Type: channel.Data, Stream: 1, Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Receive(ctx)
	if err == nil && r.Type == channel.Data { // the echo
		r, err = c.Receive(ctx)
	}
	if err != nil || r.Type != channel.Reset || r.Status != channel.StatusStalled {
		t.Errorf("%+v, %v, want that the stream stalled", r, err)
	}
	if r, err := c.Receive(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("%+v, %v, want CLOSE", r, err)
	}
	c.Abort()
	for busy := new(channel.RefusedError); ; time.Sleep(time.Millisecond) { // the place is free soon after
		if _, _, err := raw(t, addr); !errors.As(err, &busy) || ctx.Err() != nil {
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

// TestIdleCarriers: an idle session ends with CLOSE, whatever carries it.
func TestIdleCarriers(t *testing.T) {
	for _, carrier := range []string{"tcp", "ws"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		dialer := interface {
			DialContext(ctx context.Context, network, addr string) (net.Conn, error)
		}(new(net.Dialer))
		if carrier == "ws" {
			ln, dialer = ws.Serve(ln, "/t"), ws.Dialer{Scheme: "ws", Path: "/t"}
		}
		opt := options(t)
		opt.IdleTimeout, opt.Now = 20*time.Millisecond, time.Now
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- enclave.Serve(ctx, ln, insecure.Attester{}, enclave.Echo{}, opt) }()
		for range 10 { // without the CLOSE that is waited for, nearly each of them failed
			conn, err := dialer.DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c, err := channel.Client(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, func(context.Context, channel.Peer) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if r, err := c.Receive(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("%s: %+v, %v, want CLOSE", carrier, r, err)
			}
			c.Abort()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
