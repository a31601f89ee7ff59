package channel

import (
	"context"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// client is the client's side of every handshake.
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
