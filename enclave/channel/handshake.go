package channel

import (
	"bufio"
	"context"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/flynn/noise"
)

// Verify judges what a server has shown: its static key, proven to be in its hands, and its evidence. It
// must return an error unless the evidence speaks for this very key.
type Verify func(ctx context.Context, p Peer) error

// Client opens a session over conn as a client with a fresh static key. It calls verify after message 2
// and sends message 3, and with it anything that the server could act on, only when verify returns nil;
// otherwise its error is verify's. On error conn is closed.
func Client(ctx context.Context, conn net.Conn, cfg Config, verify Verify) (*Conn, error) {
	return handshake(ctx, conn, cfg, func(ctx context.Context, h *half) error { return h.client(ctx, verify) })
}

// Server answers a client over conn with the key static and the evidence in payload. On error conn is
// closed.
func Server(ctx context.Context, conn net.Conn, cfg Config, static *StaticKey, payload []byte) (*Conn, error) {
	return handshake(ctx, conn, cfg, func(_ context.Context, h *half) error { return h.server(static, payload) })
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
}

// handshake runs one side under the deadline of cfg and makes the Conn.
func handshake(ctx context.Context, conn net.Conn, cfg Config, side func(context.Context, *half) error) (*Conn, error) {
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
	return newConn(conn, h), nil
}

// start makes the Noise state for a kind.
func (h *half) start(kind Kind, initiator bool, static *StaticKey, wire []byte) (err error) {
	h.peer.Kind, h.dh.static = kind, static.priv
	c := noise.Config{
		CipherSuite:   noise.NewCipherSuite(h.dh, noise.CipherAESGCM, noise.HashSHA256),
		Random:        h.cfg.Rand,
		Pattern:       noise.HandshakeXX,
		Initiator:     initiator,
		Prologue:      prologue(wire),
		StaticKeypair: static.noise(),
	}
	if kind == Hybrid {
		c.PresharedKeyPlacement = 3
	}
	h.hs, err = noise.NewHandshakeState(c)
	return err
}

func (h *half) client(ctx context.Context, verify Verify) error {
	if verify == nil {
		return errors.New("channel: nobody to judge the evidence")
	}
	// A fresh key each time: sessions of one client cannot be linked by it.
	static, err := GenerateStatic(h.cfg.Rand)
	if err != nil {
		return err
	}
	kind := strongest(h.cfg.Kinds, h.cfg.Kinds)
	wire := (&header{kind: kind, authority: h.cfg.Authority, offered: h.cfg.Kinds}).append(nil)
	if err := h.start(kind, true, static, wire); err != nil {
		return err
	}
	var secret *mlkem.DecapsulationKey768
	var ek []byte
	if kind == Hybrid {
		if secret, err = generateMLKEM(h.cfg.Rand); err != nil {
			return err
		}
		ek = secret.EncapsulationKey().Bytes()
	}
	if err := h.write(wire, ek); err != nil {
		return err
	}
	if err := h.readReply(secret); err != nil {
		return err
	}
	if err := verify(ctx, h.peer); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return h.write(nil, nil)
}

func generateMLKEM(rand io.Reader) (*mlkem.DecapsulationKey768, error) {
	var seed [mlkem.SeedSize]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("channel: randomness: %w", err)
	}
	return mlkem.NewDecapsulationKey768(seed[:])
}

// readReply reads message 2: the server's keys, its half of the hybrid secret and its evidence.
func (h *half) readReply(secret *mlkem.DecapsulationKey768) error {
	// e, encrypted s, encrypted payload, reply byte; the ciphertext comes on top.
	limit := 1 + 32 + 48 + 16 + h.cfg.MaxPayload + mlkem.CiphertextSize768
	msg, err := readFrame(h.in, nil, limit)
	if err != nil {
		return err
	}
	switch {
	case msg[0] == refusal && len(msg) == 2:
		return &RefusedError{Refusal(msg[1])}
	case msg[0] != h.peer.Kind.reply():
		return fmt.Errorf("channel: answer of kind 0x%02x, want 0x%02x", msg[0], h.peer.Kind.reply())
	}
	payload, _, _, err := h.hs.ReadMessage(nil, msg[1:])
	if err != nil {
		return fmt.Errorf("%w (message 2)", ErrDecrypt)
	}
	if secret != nil {
		if len(payload) < mlkem.CiphertextSize768 {
			return errors.New("channel: message 2 has no ML-KEM ciphertext")
		}
		psk, err := secret.Decapsulate(payload[:mlkem.CiphertextSize768])
		if err == nil {
			err = h.hs.SetPresharedKey(psk)
		}
		if err != nil {
			return fmt.Errorf("channel: ML-KEM: %w", err)
		}
		payload = payload[mlkem.CiphertextSize768:]
	}
	h.peer.Payload = payload
	h.peer.Static = PublicKey(h.hs.PeerStatic())
	return nil
}

func (h *half) server(static *StaticKey, payload []byte) error {
	if static == nil || len(payload) > DefaultMaxPayload {
		return errors.New("channel: no static key, or too much evidence")
	}
	msg, err := readFrame(h.in, nil, MaxHello)
	if err != nil {
		return err
	}
	head, size, err := parseHeader(msg)
	if err != nil {
		return h.refuse(RefusedHeader, err)
	}
	if code := h.cfg.judge(&head); code != 0 {
		return h.refuse(code, fmt.Errorf("channel: refused a client: %v", code))
	}
	if err := h.start(head.kind, false, static, msg[:size]); err != nil {
		return err
	}
	ek, _, _, err := h.hs.ReadMessage(nil, msg[size:])
	if err != nil {
		return fmt.Errorf("%w (message 1)", ErrDecrypt)
	}
	if err := h.reply(ek, payload); err != nil {
		return err
	}
	if msg, err = readFrame(h.in, nil, MaxHello); err != nil {
		return err
	}
	rest, re, out, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 3)", ErrDecrypt)
	}
	if len(rest) != 0 {
		return errors.New("channel: message 3 has a payload")
	}
	h.out, h.re = out, re
	h.peer.Static = PublicKey(h.hs.PeerStatic())
	return nil
}

// reply writes message 2. ek is the payload of message 1.
func (h *half) reply(ek, payload []byte) error {
	want := 0
	var ct []byte
	if h.peer.Kind == Hybrid {
		want = mlkem.EncapsulationKeySize768
	}
	if len(ek) != want {
		return fmt.Errorf("channel: message 1 has a payload of %d bytes, want %d", len(ek), want)
	}
	if h.peer.Kind == Hybrid {
		key, err := mlkem.NewEncapsulationKey768(ek)
		if err != nil {
			return fmt.Errorf("channel: ML-KEM key: %w", err)
		}
		var psk []byte
		psk, ct = key.Encapsulate()
		if err := h.hs.SetPresharedKey(psk); err != nil {
			return err
		}
	}
	return h.write([]byte{h.peer.Kind.reply()}, append(ct, payload...))
}

// refuse tells the client why in one byte and ends with err. Only what stood in clear in message 1 is
// ever answered: a refusal is no oracle about keys.
func (h *half) refuse(code Refusal, err error) error {
	_ = writeFrame(h.conn, []byte{0, 0, refusal, byte(code)}) // a courtesy: err is what counts
	return err
}

// write sends prefix and the next Noise message with payload in one frame.
func (h *half) write(prefix, payload []byte) error {
	buf := append(make([]byte, 2, 2+len(prefix)+96+len(payload)+16), prefix...)
	buf, out, re, err := h.hs.WriteMessage(buf, payload)
	if err != nil {
		return fmt.Errorf("channel: handshake: %w", err)
	}
	if out != nil {
		h.out, h.re = out, re
	}
	return writeFrame(h.conn, buf)
}
