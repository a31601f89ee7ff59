//go:build linux

package vsock

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"tally/enclave/channel"
)

// TestSession runs a session over the machine's own vsock, where the kernel has one (vsock_loopback). A
// kernel is no tool that could be installed: without it the test skips, in CI too, where internal/e2e has such sessions in a guest.
func TestSession(t *testing.T) {
	l, err := Listen(Addr{AnyCID, 0xffffffff})
	if err != nil {
		t.Skipf("SKIPPED: this kernel has no vsock loopback: %v", err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	dialed, err := Dialer{}.DialContext(dctx, "tcp", Addr{LocalCID, l.addr.Port}.String())
	if err != nil {
		t.Skipf("SKIPPED: this kernel has no vsock loopback: %v", err)
	}
	cfg := channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		key, err := channel.GenerateStatic(rand.Reader)
		if err != nil {
			done <- err
			return
		}
		c, err := channel.Server(ctx, conn, cfg, key, []byte("evidence"))
		if err == nil {
			err = c.Close(ctx)
		}
		done <- err
	}()
	c, err := channel.Client(ctx, dialed, cfg, func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(ctx); err != io.EOF {
		t.Errorf("%v, want CLOSE", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestParseAddr(t *testing.T) {
	if a, err := ParseAddr("2:8443"); err != nil || a != (Addr{2, 8443}) || a.String() != "2:8443" {
		t.Errorf("%v, %v", a, err)
	}
	for _, s := range []string{"", "2", "host:1", "2:x", "-1:2", "4294967296:1", "1:4294967296"} {
		if _, err := ParseAddr(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	f.Add("2:8443")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddr(s)
		if err != nil {
			return
		}
		if again, err := ParseAddr(a.String()); err != nil || again != a {
			t.Fatalf("%q: %v, %v", s, again, err)
		}
	})
}
