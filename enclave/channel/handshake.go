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
	c.CipherSuite = noise.NewCipherSuite(h.dh, noise.CipherAESGCM, noise.HashSHA256)
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

func (h *half) client(ctx context.Context, verify Verify) error {
	h.isClient = true
	if verify == nil {
		return errors.New("channel: nobody to judge the evidence")
	}
	// A fresh key each time: sessions of one client cannot be linked by it.
	static, err := GenerateStatic(h.cfg.Rand)
	if err != nil {
		return err
	}
	kind := strongest(h.cfg.Kinds, h.cfg.Kinds)
	if again := h.cfg.Pin.kind(kind); again != 0 {
		err := h.reconnect(ctx, again, static, verify)
		if !isRefusal(err, RefusedKey) {
			return err
		}
		// The key is gone, or somebody on the way says so: a full handshake is no weaker.
		h.dh, h.peer = new(dh), Peer{}
		if static, err = GenerateStatic(h.cfg.Rand); err != nil {
			return err
		}
	}
	return h.full(ctx, kind, static, verify)
}

// full is the client's side of XX and XXpsk3.
func (h *half) full(ctx context.Context, kind Kind, static *StaticKey, verify Verify) (err error) {
	wire := (&header{kind: kind, authority: h.cfg.Authority, offered: h.cfg.Kinds, carrier: carrierOf(h.conn)}).append(nil)
	if err := h.start(kind, static, wire, noise.Config{Initiator: true}); err != nil {
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
	if err := h.judge(ctx, verify); err != nil {
		return err
	}
	return h.write(nil, nil)
}

// judge has the evidence judged. An end of ctx meanwhile counts as a refusal.
func (h *half) judge(ctx context.Context, verify Verify) error {
	if err := verify(ctx, h.peer); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func generateMLKEM(rand io.Reader) (*mlkem.DecapsulationKey768, error) {
	var seed [mlkem.SeedSize]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("channel: randomness: %w", err)
	}
	return mlkem.NewDecapsulationKey768(seed[:])
}

// readAnswer reads the frame of message 2 and wants it to be one of kinds, or a refusal.
func (h *half) readAnswer(kinds ...Kind) ([]byte, error) {
	// reply byte, e, encrypted s, encrypted payload; the ciphertext comes on top.
	msg, err := readFrame(h.in, nil, 1+32+48+16+h.cfg.MaxPayload+mlkem.CiphertextSize768)
	if err != nil {
		return nil, err
	}
	if msg[0] == refusal && len(msg) == 2 {
		return nil, &RefusedError{Refusal(msg[1])}
	}
	for _, k := range kinds {
		if msg[0] == k.reply() {
			return msg, nil
		}
	}
	return nil, fmt.Errorf("channel: answer of kind 0x%02x, want 0x%02x", msg[0], kinds[0].reply())
}

// readReply reads message 2: the server's keys, its half of the hybrid secret and its evidence.
func (h *half) readReply(secret *mlkem.DecapsulationKey768) error {
	msg, err := h.readAnswer(h.peer.Kind)
	if err != nil {
		return err
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

func (h *half) server(id *Identity) error {
	if id.Static == nil || len(id.Payload) > DefaultMaxPayload {
		return errors.New("channel: no static key, or too much evidence")
	}
	head, wire, msg, err := h.readHello()
	if err != nil {
		return err
	}
	if head.kind.reconnects() {
		ended, err := h.answerReconnect(id, head.kind, wire, msg)
		if ended || err != nil {
			return err
		}
		if head, wire, msg, err = h.readHello(); err != nil {
			return err
		}
		if head.kind.reconnects() {
			return h.refuse(RefusedKind, errors.New("channel: a second reconnect on one connection"))
		}
	}
	if err := h.start(head.kind, id.Static, wire, noise.Config{}); err != nil {
		return err
	}
	ek, _, _, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 1)", ErrDecrypt)
	}
	if err := h.reply(ek, id.Payload); err != nil {
		return err
	}
	return h.readLast()
}

// readHello reads a client's first frame, and splits it into its header, that as it stood on the wire, and
// what follows.
func (h *half) readHello() (head header, wire, msg []byte, err error) {
	frame, err := readFrame(h.in, nil, MaxHello)
	if err != nil {
		return head, nil, nil, err
	}
	head, size, err := parseHeader(frame)
	if err != nil {
		return head, nil, nil, h.refuse(RefusedHeader, err)
	}
	if have := carrierOf(h.conn); head.carrier != have {
		return head, nil, nil, h.refuse(RefusedHeader, fmt.Errorf("channel: carrier %d, came by %d", head.carrier, have))
	}
	if code := h.cfg.judge(&head); code != 0 {
		return head, nil, nil, h.refuse(code, fmt.Errorf("channel: refused a client: %v", code))
	}
	return head, frame[:size:size], frame[size:], nil
}

// readLast reads message 3 of XX and XXpsk3, message 2 of XXfallback: the client's word that it accepts.
func (h *half) readLast() error {
	msg, err := readFrame(h.in, nil, MaxHello)
	if err != nil {
		return err
	}
	rest, first, second, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 3)", ErrDecrypt)
	}
	if len(rest) != 0 {
		return errors.New("channel: message 3 has a payload")
	}
	h.split(h.isClient, first, second)
	h.peer.Static = PublicKey(h.hs.PeerStatic())
	return nil
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
	_ = h.tell(code) // a courtesy: err is what counts
	return err
}

func (h *half) tell(code Refusal) error { return writeFrame(h.conn, []byte{0, 0, refusal, byte(code)}) }

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
