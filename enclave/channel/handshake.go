package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// Verify judges what a server has shown: its static key, proven to be in its hands, and its evidence. It
// must return an error unless the evidence speaks for this very key. What it leaves to a later check must have passed before
// anything of the user's is sent (PROTOCOL.md, 3.1).
type Verify func(ctx context.Context, p Peer) error

// Client opens a session over conn as a client with a fresh static key. It calls verify after message 2
// and sends message 3, and with it anything that the server could act on, only when verify returns nil;
// otherwise its error is verify's. On error conn is closed.
func Client(ctx context.Context, conn net.Conn, cfg Config, verify Verify) (*Conn, error) {
	return handshake(ctx, conn, cfg, func(ctx context.Context, h *half) error { return h.client(ctx, verify) })
}

// Server answers a client over conn with the key static and the evidence in payload. It takes no
// reconnects under hybrid; see Accept. On error conn is closed.
func Server(ctx context.Context, conn net.Conn, cfg Config, static *StaticKey, payload []byte) (*Conn, error) {
	return Accept(ctx, conn, cfg, &Identity{Static: static, Payload: payload})
}

// Accept answers a client over conn as id, in a full handshake or a reconnect. On error conn is closed.
func Accept(ctx context.Context, conn net.Conn, cfg Config, id *Identity) (*Conn, error) {
	return handshake(ctx, conn, cfg, func(_ context.Context, h *half) error { return h.server(id) })
}

// Refuse sends a refusal and closes conn: what a server does that has no room for a handshake.
func Refuse(ctx context.Context, conn net.Conn, code Refusal) error {
	err := withContext(ctx, conn.SetDeadline, func() error { return writeFrame(conn, []byte{0, 0, refusal, byte(code)}) })
	return errors.Join(err, conn.Close())
}

// A half is one side of a handshake in progress.
type half struct {
	cfg     Config
	conn    net.Conn
	in      *bufio.Reader
	dh      *dh
	hs      *noise.HandshakeState
	peer    Peer
	out, re *noise.CipherState // after the last message: ours to write with, the peer's

	isClient bool
}

// handshake runs one side under the deadline of cfg and makes the Conn. What it computes on the way is erased.
func handshake(ctx context.Context, conn net.Conn, cfg Config, side func(context.Context, *half) error) (c *Conn, err error) {
	erase.Do(func() { c, err = erased(ctx, conn, cfg, side) })
	return c, err
}

func erased(ctx context.Context, conn net.Conn, cfg Config, side func(context.Context, *half) error) (*Conn, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		conn.Close()
		return nil, err
	}
	hctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("channel: handshake took over %v: %w", cfg.Timeout, context.DeadlineExceeded))
	defer cancel()
	h := &half{cfg: cfg, conn: conn, in: bufio.NewReaderSize(conn, readBuffer), dh: new(dh)}
	if err := withContext(hctx, conn.SetDeadline, func() error { return side(hctx, h) }); err != nil {
		conn.Close()
		return nil, err
	}
	copy(h.peer.Binding[:], h.hs.ChannelBinding()) // the state's own slice
	c := newConn(conn, h)
	if err := h.confirm(hctx, c); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// start makes the Noise state for a kind; c holds what is particular to a side. wire is what follows the
// tag in the prologue.
func (h *half) start(kind Kind, static *StaticKey, wire []byte, c noise.Config) (err error) {
	h.peer.Kind, h.dh.static = kind, static.priv
	c.CipherSuite = noise.NewCipherSuite(h.dh, aesGCM{}, noise.HashSHA256)
	c.Random, c.Prologue, c.StaticKeypair = h.cfg.Rand, prologue(wire), static.noise()
	kind.pattern(&c)
	h.hs, err = noise.NewHandshakeState(c)
	return err
}

// pattern is the Noise pattern of a kind.
func (k Kind) pattern(c *noise.Config) {
	switch k {
	case ClassicalReconnect:
		c.Pattern = noise.HandshakeIK
	case HybridReconnect:
		c.Pattern, c.PresharedKeyPlacement = noise.HandshakeIK, 2
	case ClassicalFallback:
		c.Pattern = noise.HandshakeXXfallback
	case Hybrid:
		c.Pattern, c.PresharedKeyPlacement = noise.HandshakeXX, 3
	default:
		c.Pattern = noise.HandshakeXX
	}
}

// split takes the keys in noise's order: the client's direction first, save that Noise counts the server
// as the initiator of a fallback.
func (h *half) split(client bool, first, second *noise.CipherState) {
	if client == (h.peer.Kind != ClassicalFallback) {
		h.out, h.re = first, second
	} else {
		h.out, h.re = second, first
	}
}

// write sends prefix and the next Noise message with payload in one frame.
func (h *half) write(prefix, payload []byte) error {
	_, err := h.writeKept(prefix, payload)
	return err
}

// writeKept is write; it returns the Noise message.
func (h *half) writeKept(prefix, payload []byte) ([]byte, error) {
	buf := append(make([]byte, 2, 2+len(prefix)+96+len(payload)+16), prefix...)
	buf, first, second, err := h.hs.WriteMessage(buf, payload)
	if err != nil {
		return nil, fmt.Errorf("channel: handshake: %w", err)
	}
	if first != nil {
		h.split(h.isClient, first, second)
	}
	return buf[2+len(prefix):], writeFrame(h.conn, buf)
}
