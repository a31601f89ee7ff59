package ws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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
	if !errors.Is(err, io.EOF) {
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
	if _, err := (Dialer{}).DialContext(t.Context(), "udp", address); err == nil || !strings.Contains(err.Error(), "want tcp") {
		t.Errorf("udp: %v", err)
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

// TestRequestsWithoutEnd: a request whose head or body does not come holds its connection for the server's time, and no longer. A
// WebSocket connection has more than that.
func TestRequestsWithoutEnd(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener("test")
	srv := server(l, "/tally")
	srv.ReadTimeout /= 50 // for this test
	defer srv.Close()
	go srv.Serve(raw)
	go func() {
		if c, err := l.Accept(); err == nil {
			time.Sleep(2 * srv.ReadTimeout)
			c.Write([]byte{0, 1, 7})
			c.Close()
		}
	}()
	ask := func(head string) (string, error) {
		t.Helper()
		c, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n"))
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b, err := io.ReadAll(io.LimitReader(c, 1<<10))
		return string(b), err
	}
	for _, head := range []string{"GET /tally HTTP/1.1\n", "POST /other HTTP/1.1\nHost: x\nContent-Length: 9\n\n",
		"POST /tally HTTP/1.1\nHost: x\nContent-Length: 9\n\n", "POST /other HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n"} {
		if _, err := ask(head); isTimeout(err) {
			t.Errorf("%q holds its connection", head)
		}
	}
	got, err := ask(strings.Replace(opening, "GET /", "GET /tally", 1) + "\n\n")
	if !strings.HasSuffix(got, "\x82\x01\x07") {
		t.Errorf("a WebSocket connection: %q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// TestDefaults: a Dialer that says nothing speaks TLS, at the root of the server.
func TestDefaults(t *testing.T) {
	l := NewListener("test")
	defer l.Close()
	var paths []string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		l.ServeHTTP(w, r)
	}))
	defer srv.Close()
	go l.Accept()
	c, err := Dialer{Client: srv.Client()}.DialContext(t.Context(), "tcp", strings.TrimPrefix(srv.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(paths) != 1 || paths[0] != "/" {
		t.Errorf("paths %q", paths)
	}
}

// request sends one by hand and returns what it is answered with, and the connection.
func request(t *testing.T, address, head string) (int, http.Header, net.Conn) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	rsp, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(c, 1<<16), 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.StatusCode, rsp.Header, c
}

const opening = "GET / HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nOrigin: https://elsewhere.example\nSec-WebSocket-Protocol: other, " + Subprotocol

// TestOpening holds requests to RFC 6455, 4.2.1, and pages of any origin may make one.
func TestOpening(t *testing.T) {
	l, address := serve(t)
	go l.Accept()
	code, head, _ := request(t, address, opening)
	if code != http.StatusSwitchingProtocols || head.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || head.Get("Sec-WebSocket-Protocol") != Subprotocol {
		t.Errorf("%d, %v", code, head)
	}
	if head.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("extensions %v", head)
	}
	for name, c := range map[string]struct {
		old, new string
		want     int
	}{
		"method":     {"GET", "POST", http.StatusMethodNotAllowed},
		"upgrade":    {"Upgrade: websocket", "Upgrade: h2c", http.StatusUpgradeRequired},
		"connection": {"Connection: Upgrade", "Connection: close", http.StatusUpgradeRequired},
		"version":    {"Version: 13", "Version: 8", http.StatusBadRequest},
		"no key":     {"Sec-WebSocket-Key", "X-Key", http.StatusBadRequest},
		"short key":  {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", http.StatusBadRequest},
		"two keys":   {"Sec-WebSocket-Version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version", http.StatusBadRequest},
	} {
		if code, _, _ := request(t, address, strings.Replace(opening, c.old, c.new, 1)); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	l.Close()
	if code, _, _ := request(t, address, opening); code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", code)
	}
}

// frame is one from a client, masked with zeros when masked (RFC 6455, 5.2).
func frame(first byte, masked bool, n int) []byte {
	b := []byte{first, byte(n)}
	if n > 125 {
		b = []byte{first, 126, byte(n >> 8), byte(n)}
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, make([]byte, n)...)
}

// TestFrames sends frames as no library would: what RFC 6455, 5 forbids ends the connection, and what it allows
// is one message.
func TestFrames(t *testing.T) {
	const text, binary, more, last, ping = 0x81, 0x82, 0x02, 0x80, 0x89
	for name, c := range map[string]struct {
		sent []byte
		want int // bytes of the message; 0: the connection ends
	}{
		"one":                  {frame(binary, true, 5), 5},
		"fragments":            {slices.Concat(frame(more, true, 2), frame(0, true, 0), frame(last, true, 3)), 5},
		"ping between":         {slices.Concat(frame(more, true, 2), frame(ping, true, 125), frame(last, true, 3)), 5},
		"not masked":           {frame(binary, false, 5), 0},
		"text":                 {frame(text, true, 5), 0},
		"empty":                {frame(binary, true, 0), 0},
		"empty fragments":      {slices.Concat(frame(more, true, 0), frame(last, true, 0)), 0},
		"continues nothing":    {frame(last, true, 5), 0},
		"message in message":   {slices.Concat(frame(more, true, 2), frame(binary, true, 3)), 0},
		"reserved bit":         {frame(binary|0x40, true, 5), 0},
		"reserved bit 2":       {frame(binary|0x20, true, 5), 0},
		"reserved bit 3":       {frame(binary|0x10, true, 5), 0},
		"reserved opcode":      {frame(0x83, true, 5), 0},
		"reserved control":     {frame(0x8b, true, 5), 0},
		"long ping":            {frame(ping, true, 126), 0},
		"ping in fragments":    {frame(0x09, true, 5), 0},
		"close":                {frame(0x88, true, 0), 0},
		"close of one byte":    {frame(0x88, true, 1), 0},
		"close with code 0":    {frame(0x88, true, 2), 0},
		"longest":              {frame(binary, true, maxFrame), maxFrame},
		"too long by fragment": {slices.Concat(frame(more, true, maxFrame), frame(last, true, 1)), 0},
		"too long as stated":   {[]byte{binary, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0}, 0},
		"negative length":      {[]byte{binary, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, address := serve(t)
			accepted := make(chan net.Conn, 1)
			go func() {
				if c, err := l.Accept(); err == nil {
					accepted <- c
				}
			}()
			_, _, raw := request(t, address, opening)
			server := <-accepted
			defer server.Close()
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			go io.Copy(io.Discard, raw)
			go func() {
				raw.Write(c.sent)
				if c.want == 0 {
					time.Sleep(50 * time.Millisecond)
					raw.(*net.TCPConn).CloseWrite()
				}
			}()
			got := make([]byte, 2+c.want)
			n, err := io.ReadFull(server, got)
			if c.want == 0 {
				if n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%d bytes, %v", n, err)
				}
			} else if err != nil || int(got[0])<<8|int(got[1]) != c.want {
				t.Errorf("%x, %v; want %d bytes", got[:2], err, c.want)
			}
		})
	}
}

// TestWriteRefused: what is written is one frame, and not an empty one.
func TestWriteRefused(t *testing.T) {
	l, address := serve(t)
	go l.Accept()
	c, err := Dialer{Scheme: "ws"}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range [][]byte{nil, {0}, {0, 0}, {0, 1}, {0, 1, 2, 3}, {0, 2, 3}, {1, 0, 3}} {
		if n, err := c.Write(p); n != 0 || err == nil || !strings.Contains(err.Error(), "not one frame") {
			t.Errorf("%x: %d, %v", p, n, err)
		}
	}
	if n, err := c.Write([]byte{0, 1, 9}); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
