package ws

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tally/enclave/channel"
)

func serve(t *testing.T) (*Listener, string) {
	t.Helper()
	l := NewListener("test")
	srv := httptest.NewServer(l)
	t.Cleanup(func() { l.Close(); srv.Close() })
	return l, strings.TrimPrefix(srv.URL, "http://")
}

func config() channel.Config {
	return channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}
}

// TestSession runs a whole session over a real HTTP server.
func TestSession(t *testing.T) {
	l, address := serve(t)
	key, err := channel.GenerateStatic(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		c, err := channel.Server(t.Context(), conn, config(), key, []byte("evidence"))
		for err == nil {
			var r channel.Record
			if r, err = c.Receive(t.Context()); err == nil {
				err = c.Send(t.Context(), r)
			}
		}
		if errors.Is(err, io.EOF) {
			err = c.CloseWrite(t.Context())
		}
		served <- err
	}()
	conn, err := Dialer{Scheme: "ws"}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := channel.Client(t.Context(), conn, config(), func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 300, channel.MaxData} {
		want := bytes.Repeat([]byte{9}, n)
		if err := c.Send(t.Context(), channel.Record{Type: channel.Data, Stream: 1, Payload: want}); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Receive(t.Context()); err != nil || !bytes.Equal(r.Payload, want) {
			t.Fatalf("%d of %d bytes, %v", len(r.Payload), n, err)
		}
	}
	if err := c.CloseWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context()); err != io.EOF {
		t.Errorf("%v, want CLOSE", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	c.Abort()
}

// TestCloseIsTruncation: a WebSocket's own good-bye is no CLOSE.
func TestCloseIsTruncation(t *testing.T) {
	l, address := serve(t)
	go func() {
		if c, err := l.Accept(); err == nil {
			c.(*conn).ws.Close(websocket.StatusNormalClosure, "")
		}
	}()
	conn, err := Dialer{Scheme: "ws"}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Client(t.Context(), conn, config(), nobody(t)); !errors.Is(err, channel.ErrTruncated) {
		t.Errorf("%v", err)
	}
}

func nobody(t *testing.T) channel.Verify {
	return func(context.Context, channel.Peer) error { t.Error("asked to judge"); return nil }
}

func TestTimeout(t *testing.T) {
	l, address := serve(t)
	go l.Accept()
	conn, err := Dialer{Scheme: "ws"}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Timeout = 50 * time.Millisecond
	if _, err := channel.Client(t.Context(), conn, cfg, nobody(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestRefused(t *testing.T) {
	l, address := serve(t)
	// A client of another subprotocol is let go, and text is no frame.
	c, _, err := websocket.Dial(t.Context(), "ws://"+address, nil)
	if err == nil {
		_, _, err = c.Read(t.Context())
	}
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("without subprotocol: %v", err)
	}
	for name, send := range map[string]func(*websocket.Conn){
		"text":     func(c *websocket.Conn) { c.Write(t.Context(), websocket.MessageText, []byte("hello")) },
		"empty":    func(c *websocket.Conn) { c.Write(t.Context(), websocket.MessageBinary, nil) },
		"too long": func(c *websocket.Conn) { c.Write(t.Context(), websocket.MessageBinary, make([]byte, maxFrame+1)) },
	} {
		go func() {
			c, _, err := websocket.Dial(t.Context(), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{Subprotocol}})
			if err == nil {
				send(c)
				c.Read(t.Context())
			}
		}()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(conn, make([]byte, 3)); err == nil {
			t.Errorf("%s: read %d bytes", name, n)
		}
		conn.Close()
	}
	// A server that does not know the subprotocol.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			c.CloseNow()
		}
	}))
	defer other.Close()
	if _, err := (Dialer{Scheme: "ws"}).DialContext(t.Context(), "tcp", strings.TrimPrefix(other.URL, "http://")); err == nil || !strings.Contains(err.Error(), "does not speak") {
		t.Errorf("%v", err)
	}
	if _, err := (Dialer{}).DialContext(t.Context(), "udp", address); err == nil {
		t.Error("udp")
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestServe: one path takes connections, and nothing else is answered but 404.
func TestServe(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Serve(raw, "/tally")
	address := raw.Addr().String()
	for _, path := range []string{"/", "/tally/", "/tally/more", "/metrics"} {
		rsp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		rsp.Body.Close()
		if rsp.StatusCode != http.StatusNotFound || !rsp.Close {
			t.Errorf("%s: status %d, connection closed %v", path, rsp.StatusCode, rsp.Close)
		}
		if _, err := (Dialer{Scheme: "ws", Path: path}).DialContext(t.Context(), "tcp", address); err == nil {
			t.Errorf("a session at %s", path)
		}
	}
	if rsp, err := http.Get("http://" + address + "/tally"); err != nil || rsp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a request that is no WebSocket: %v, %v", rsp, err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c, err := Dialer{Scheme: "ws", Path: "/tally"}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := <-accepted
	defer server.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("it listens after Close")
	}
	// What was accepted goes on.
	go server.Write([]byte{0, 1, 7})
	got := make([]byte, 3)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte{0, 1, 7}) {
		t.Errorf("%x, %v", got, err)
	}
}
