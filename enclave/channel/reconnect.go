package channel

import (
	"context"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// A Pin is what a client keeps of a session in order to reconnect: the server's keys, and the evidence that
// was accepted for them, which is judged again each time. It is public data.
type Pin struct {
	Static   PublicKey // the server's static key
	EncapKey []byte    // its ML-KEM-768 encapsulation key (1184 bytes), as in the evidence; nil: no hybrid reconnect
	Payload  []byte    // Peer.Payload of that session
}

// check wants a pin, if there is one, to be usable.
func (p *Pin) check(maxPayload int) error {
	switch {
	case p == nil:
		return nil
	case p.Static == PublicKey{}:
		return errors.New("channel: pin without a static key")
	case len(p.Payload) == 0 || len(p.Payload) > maxPayload:
		return fmt.Errorf("channel: pin with %d bytes of evidence, want 1 to %d", len(p.Payload), maxPayload)
	case len(p.EncapKey) != 0:
		if _, err := mlkem.NewEncapsulationKey768(p.EncapKey); err != nil {
			return fmt.Errorf("channel: pin: ML-KEM key: %w", err)
		}
	}
	return nil
}

// kind is the reconnect as strong as a full handshake, 0 when the pin has no key for it.
func (p *Pin) kind(full Kind) Kind {
	switch {
	case p == nil:
		return 0
	case full == Classical:
		return ClassicalReconnect
	case full == Hybrid && len(p.EncapKey) != 0:
		return HybridReconnect
	}
	return 0
}

// A DecapKey is the ML-KEM-768 key (FIPS 203) of a server for hybrid reconnects. It stays in memory and
// cannot be exported.
type DecapKey struct{ priv *mlkem.DecapsulationKey768 }

// GenerateDecap makes a key from 64 bytes of rand.
func GenerateDecap(rand io.Reader) (k *DecapKey, err error) {
	if rand == nil {
		return nil, errors.New("channel: no source of randomness")
	}
	erase.Do(func() {
		var priv *mlkem.DecapsulationKey768
		if priv, err = generateMLKEM(rand); err == nil {
			k = &DecapKey{priv}
		}
	})
	return k, err
}

// Public returns the encapsulation key, 1184 bytes: what the evidence has to bind.
func (k *DecapKey) Public() []byte { return k.priv.EncapsulationKey().Bytes() }

// An Identity is one epoch of a server's keys with the evidence for them. It may serve several handshakes
// at once.
type Identity struct {
	Static  *StaticKey
	Decap   *DecapKey // nil: no hybrid reconnects
	Payload []byte    // the evidence, with its form byte in front; at most DefaultMaxPayload bytes

	mu   sync.Mutex
	seen map[[32]byte]struct{} // ephemeral keys of reconnects
}

// maxSeen bounds the memory of an Identity for replays: 32 bytes each, a few hundred KiB at most.
const maxSeen = 4096

// fresh remembers e and reports whether it is new. Beyond maxSeen it remembers no more: a replay opens no
// session in any case, it only costs this side a few scalar multiplications.
func (id *Identity) fresh(e [32]byte) bool {
	id.mu.Lock()
	defer id.mu.Unlock()
	if _, ok := id.seen[e]; ok {
		return false
	}
	if id.seen == nil {
		id.seen = map[[32]byte]struct{}{}
	}
	if len(id.seen) < maxSeen {
		id.seen[e] = struct{}{}
	}
	return true
}

// The payload of a reconnect's message 1: SHA-256 of the pinned evidence, and a nonce. Both could be read
// by whoever gets hold of the server's static key later, and replayed by anybody: nothing else goes there.
const (
	pinnedSize  = 32 + 32
	helloIKSize = 32 + 48 + pinnedSize + 16 // e, encrypted s, encrypted payload
)

// reconnect is the client's side of IK and IKpsk2, and of the XXfallback that IK may turn into.
func (h *half) reconnect(ctx context.Context, kind Kind, static *StaticKey, verify Verify) error {
	pin := h.cfg.Pin
	wire := (&header{kind: kind, authority: h.cfg.Authority, offered: withKind(h.cfg.Kinds, kind), carrier: carrierOf(h.conn)}).append(nil)
	c := noise.Config{Initiator: true, PeerStatic: append([]byte(nil), pin.Static[:]...)}
	clear := wire
	if kind == HybridReconnect {
		ek, err := mlkem.NewEncapsulationKey768(pin.EncapKey)
		if err != nil {
			return fmt.Errorf("channel: ML-KEM key: %w", err)
		}
		psk, ct := ek.Encapsulate()
		c.PresharedKey, clear = psk, append(wire, ct...)
	}
	if err := h.start(kind, static, clear, c); err != nil {
		return err
	}
	digest := sha256.Sum256(pin.Payload)
	if _, err := io.ReadFull(h.cfg.Rand, h.peer.Nonce[:]); err != nil {
		return fmt.Errorf("channel: randomness: %w", err)
	}
	first, err := h.writeKept(clear, append(digest[:], h.peer.Nonce[:]...))
	if err != nil {
		return err
	}
	kinds := []Kind{kind}
	if kind == ClassicalReconnect { // never for hybrid: that would be weaker than what was asked for
		kinds = append(kinds, ClassicalFallback)
	}
	msg, err := h.readAnswer(kinds...)
	if err != nil {
		return err
	}
	if msg[0] == ClassicalFallback.reply() {
		return h.fallback(ctx, static, wire, first, msg[1:], verify)
	}
	return h.readReconnect(ctx, msg[1:], verify)
}

// readReconnect reads message 2 of IK and IKpsk2.
func (h *half) readReconnect(ctx context.Context, msg []byte, verify Verify) error {
	payload, first, second, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 2)", ErrDecrypt)
	}
	if len(payload) == 1 && payload[0] == pinnedEvidence {
		payload = h.cfg.Pin.Payload
	}
	h.peer.Payload, h.peer.Static = payload, h.cfg.Pin.Static
	h.split(true, first, second)
	return h.judge(ctx, verify)
}

// fallback is the client's side of XXfallback. Its ephemeral key is the one that IK has used.
func (h *half) fallback(ctx context.Context, static *StaticKey, wire, failed, msg []byte, verify Verify) error {
	nonce := h.peer.Nonce
	e := h.hs.LocalEphemeral()
	if err := h.start(ClassicalFallback, static, fallbackPrologue(wire, failed), noise.Config{EphemeralKeypair: e}); err != nil {
		return err
	}
	payload, _, _, err := h.hs.ReadMessage(nil, msg)
	if err != nil {
		return fmt.Errorf("%w (message 2)", ErrDecrypt)
	}
	h.peer.Payload, h.peer.Static, h.peer.Nonce = payload, PublicKey(h.hs.PeerStatic()), nonce
	if err := h.judge(ctx, verify); err != nil {
		return err
	}
	return h.write(nil, nil)
}

// fallbackPrologue binds a fallback to the attempt that it follows.
func fallbackPrologue(wire, failed []byte) []byte {
	sum := sha256.Sum256(failed)
	return append(wire[:len(wire):len(wire)], sum[:]...)
}

// answerReconnect is the server's side. ended is false when the client was told to begin anew.
func (h *half) answerReconnect(id *Identity, kind Kind, wire, msg []byte) (ended bool, err error) {
	clear := wire
	if kind == HybridReconnect {
		if len(msg) < mlkem.CiphertextSize768 {
			return true, errors.New("channel: message 1 has no ML-KEM ciphertext")
		}
		clear = append(wire, msg[:mlkem.CiphertextSize768]...)
		msg = msg[mlkem.CiphertextSize768:]
	}
	if len(msg) != helloIKSize {
		return true, fmt.Errorf("channel: message 1 has %d bytes, want %d", len(msg), helloIKSize)
	}
	if kind == HybridReconnect && id.Decap == nil {
		return false, h.tell(RefusedKey)
	}
	if err := h.start(kind, id.Static, clear, noise.Config{}); err != nil {
		return true, err
	}
	pinned, _, _, err := h.hs.ReadMessage(nil, msg)
	switch {
	case err != nil && kind == ClassicalReconnect:
		return true, h.answerFallback(id, wire, msg)
	case err != nil:
		h.dh, h.peer = new(dh), Peer{}
		return false, h.tell(RefusedKey)
	case !id.fresh([32]byte(msg[:32])):
		return true, ErrReplay
	}
	return true, h.replyReconnect(id, clear[len(wire):], pinned)
}

// replyReconnect writes message 2 of IK and IKpsk2; ct is the ciphertext of message 1.
func (h *half) replyReconnect(id *Identity, ct, pinned []byte) error {
	if len(ct) != 0 {
		psk, err := id.Decap.priv.Decapsulate(ct)
		if err == nil {
			err = h.hs.SetPresharedKey(psk)
		}
		if err != nil {
			return fmt.Errorf("channel: ML-KEM: %w", err)
		}
	}
	copy(h.peer.Nonce[:], pinned[32:])
	h.peer.Static = PublicKey(h.hs.PeerStatic())
	payload := id.Payload
	if digest := sha256.Sum256(payload); subtle.ConstantTimeCompare(digest[:], pinned[:32]) == 1 {
		payload = []byte{pinnedEvidence}
	}
	return h.write([]byte{h.peer.Kind.reply()}, payload)
}

// answerFallback goes on with XXfallback where IK was for a key that the server does not have.
func (h *half) answerFallback(id *Identity, wire, failed []byte) error {
	h.dh, h.peer = new(dh), Peer{}
	c := noise.Config{Initiator: true, PeerEphemeral: failed[:32]} // in Noise's order of Bob first
	if err := h.start(ClassicalFallback, id.Static, fallbackPrologue(wire, failed), c); err != nil {
		return err
	}
	if err := h.write([]byte{ClassicalFallback.reply()}, id.Payload); err != nil {
		return err
	}
	return h.readLast()
}

// confirm makes a reconnect's client say, under the new keys, that it is there and has accepted the
// evidence: message 1 alone could be a replay.
func (h *half) confirm(ctx context.Context, c *Conn) error {
	if !h.peer.Kind.reconnects() {
		return nil
	}
	if h.isClient {
		return c.Send(ctx, Record{Type: Pad})
	}
	r, err := c.open(ctx)
	if err == nil && (r.Type != Pad || len(r.Payload) != 0) {
		err = errors.New("channel: a reconnect that is not confirmed")
	}
	return err
}

// withKind adds k to a list of kinds, in order.
func withKind(kinds []Kind, k Kind) (out []Kind) {
	for _, have := range kinds {
		if k != 0 && have > k {
			out, k = append(out, k), 0
		}
		out = append(out, have)
	}
	if k != 0 {
		out = append(out, k)
	}
	return out
}

func isRefusal(err error, code Refusal) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Code == code
}
