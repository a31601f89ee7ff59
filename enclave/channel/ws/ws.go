// Package ws carries tally/1 over WebSocket (RFC 6455, subprotocol tally.noise.v1) for browsers and for
// load balancers that speak HTTP: a binary message is a frame (tally/enclave/channel/PROTOCOL.md, section
// 1). Whoever ends the TLS in front sees what anybody on the way would; nothing secret is in the URL, in
// headers or in the reason of a close.
package ws

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"tally/enclave/channel"
)

// Subprotocol is the name under which both sides agree on tally/1.
const Subprotocol = "tally.noise.v1"

const maxFrame = 0xffff

// A Dialer opens WebSocket connections; it is a client.Dialer.
type Dialer struct {
	Scheme string       // "ws" or "wss"; empty: wss
	Path   string       // of the URL; empty: /
	Client *http.Client // nil: http.DefaultClient
}

// DialContext connects to address (HOST:PORT). network is tcp.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("ws: network %q, want tcp", network)
	}
	scheme, path := d.Scheme, d.Path
	if scheme == "" {
		scheme = "wss"
	}
	if path == "" {
		path = "/"
	}
	c, _, err := websocket.Dial(ctx, scheme+"://"+address+path, &websocket.DialOptions{
		HTTPClient: d.Client, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("ws: %w", err)
	}
	if c.Subprotocol() != Subprotocol {
		c.CloseNow()
		return nil, fmt.Errorf("ws: the server does not speak %s", Subprotocol)
	}
	return newConn(c, addr(address)), nil
}

// A Listener is both the http.Handler that takes connections and the net.Listener that hands them out.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	name  addr
}

// NewListener makes a Listener that calls itself name. Nothing listens yet: it has to be served.
func NewListener(name string) *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{}), name: addr(name)}
}

// ServeHTTP upgrades one connection. Pages of every origin may connect: there is no cookie or other
// authority in the request that a page could borrow.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-l.done:
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	default:
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	if c.Subprotocol() != Subprotocol {
		c.CloseNow() // a farewell would wait for the peer's, and nobody counts those who are let go
		return
	}
	select {
	case l.conns <- newConn(c, l.name):
	case <-l.done:
		c.CloseNow()
	case <-r.Context().Done():
		c.CloseNow()
	}
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Connections that were accepted stay.
func (l *Listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

// Addr is the name given to NewListener.
func (l *Listener) Addr() net.Addr { return l.name }

type addr string

func (addr) Network() string  { return "websocket" }
func (a addr) String() string { return string(a) }

// A conn shows messages as frames with their lengths in front, which is what package channel reads and
// writes. One goroutine may read while another writes.
type conn struct {
	ws          *websocket.Conn
	name        addr
	rest        []byte // of a frame partly read
	read, write deadline
}

func newConn(c *websocket.Conn, name addr) *conn {
	c.SetReadLimit(maxFrame)
	return &conn{ws: c, name: name}
}

// Carrier names the carrier for the handshake's header.
func (*conn) Carrier() channel.Carrier { return channel.CarrierWebSocket }

func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		kind, msg, err := c.ws.Read(c.read.context())
		switch {
		case err != nil:
			return 0, ended(err)
		case kind != websocket.MessageBinary || len(msg) == 0:
			c.ws.CloseNow()
			return 0, errors.New("ws: a message that is not binary, or empty")
		}
		c.rest = append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// ended makes every end of the connection net.ErrClosed: a WebSocket's own close says nothing that is
// authenticated.
func ended(err error) error { return fmt.Errorf("%w: %w", net.ErrClosed, err) }

// Write sends p, which must be one frame.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) < 3 || int(binary.BigEndian.Uint16(p)) != len(p)-2 {
		return 0, fmt.Errorf("ws: write of %d bytes that is not one frame", len(p))
	}
	if err := c.ws.Write(c.write.context(), websocket.MessageBinary, p[2:]); err != nil {
		return 0, ended(err)
	}
	return len(p), nil
}

func (c *conn) Close() error         { return c.ws.CloseNow() }
func (c *conn) LocalAddr() net.Addr  { return c.name }
func (c *conn) RemoteAddr() net.Addr { return c.name }

func (c *conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error  { c.read.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.write.set(t); return nil }

// A deadline is a context that set replaces; whoever waits under the old one is woken by its own time or
// by a new time that has passed.
type deadline struct {
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
}

func (d *deadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh()
	return d.ctx
}

func (d *deadline) fresh() {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancel(context.Background())
	}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ctx != nil && d.ctx.Err() != nil {
		d.ctx = nil
	}
	d.fresh()
	if t.IsZero() {
		return
	}
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, d.cancel)
	} else {
		d.cancel()
	}
}
