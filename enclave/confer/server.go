package confer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// MaxPayload is the size in bytes of what fits into message 2 beside keys and tags.
const MaxPayload = MaxNoiseMessage - 32 - 48 - 16

// A StaticKey is the X25519 key of a listener. It is made for this protocol alone: no key of tally/1 is one, and it
// cannot be exported.
type StaticKey struct{ pair noise.DHKey }

// GenerateStatic makes a key from 32 bytes of rand.
func GenerateStatic(rand io.Reader) (k *StaticKey, err error) {
	erase.Do(func() {
		var pair noise.DHKey
		if pair, err = suite().GenerateKeypair(rand); err == nil {
			k = &StaticKey{pair}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("confer: %w", err)
	}
	return k, nil
}

// Public returns the public half.
func (k *StaticKey) Public() [32]byte { return [32]byte(k.pair.Public) }

// ServerConfig is what the listening side of a session needs. All of it but Limits must be set.
type ServerConfig struct {
	Static  *StaticKey
	Payload []byte    // of message 2, at most MaxPayload bytes: what Evidence.Marshal returns
	Rand    io.Reader // the source of the ephemeral key, 32 bytes, and of chunk_ids
	Limits  Limits
}

// A Server is the listening side of an open session. One goroutine may receive while others send.
type Server struct{ link }

// Accept answers a client's handshake over m, which it owns from now on and closes on error. The client has proved
// nothing by it: its static key is as good as any.
func Accept(ctx context.Context, m Messages, cfg ServerConfig) (*Server, error) {
	s := &Server{link: link{m: m, rand: cfg.Rand}}
	var err error
	erase.Do(func() { err = s.accept(ctx, cfg) })
	if err != nil {
		m.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) accept(ctx context.Context, cfg ServerConfig) (err error) {
	if cfg.Static == nil || cfg.Rand == nil || len(cfg.Payload) == 0 || len(cfg.Payload) > MaxPayload {
		return fmt.Errorf("confer: config: want Static, Rand and a payload of 1 to %d bytes", MaxPayload)
	}
	if s.receive.parts, err = NewAssembler(cfg.Limits); err != nil {
		return err
	}
	hs, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite(), Random: cfg.Rand, Pattern: noise.HandshakeXX, StaticKeypair: cfg.Static.pair})
	if err != nil {
		return fmt.Errorf("confer: %w", err)
	}
	// -> e
	if _, _, err := s.hear(ctx, hs, 1); err != nil {
		return err
	}
	// <- e, ee, s, es
	out, _, _, err := hs.WriteMessage(nil, cfg.Payload)
	if err != nil {
		return fmt.Errorf("confer: handshake: %w", err)
	}
	if err := s.m.Write(ctx, out); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	// -> s, se
	s.receive.cs, s.send.cs, err = s.hear(ctx, hs, 3)
	return err
}

// hear reads a message of the client's, which has no payload.
func (s *Server) hear(ctx context.Context, hs *noise.HandshakeState, n int) (theirs, mine *noise.CipherState, err error) {
	in, err := s.m.Read(ctx)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrEnded, err)
	case len(in) > maxHandshake:
		return nil, nil, fmt.Errorf("confer: handshake: message %d of %d bytes, want at most %d", n, len(in), maxHandshake)
	}
	payload, theirs, mine, err := hs.ReadMessage(nil, in)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w (handshake, message %d)", errDecrypt, n)
	case len(payload) > 0:
		return nil, nil, fmt.Errorf("confer: handshake: message %d has a payload", n)
	}
	return theirs, mine, nil
}

// Receive returns the next request. An error is final.
func (s *Server) Receive(ctx context.Context) (*Request, error) {
	message, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	r, err := ParseRequest(message)
	if err != nil {
		return nil, s.spoil(err)
	}
	return r, nil
}

// Send sends a response, or a piece of one. After an error nothing more can be sent.
func (s *Server) Send(ctx context.Context, r *Response) error { return s.write(ctx, r.Marshal()) }

// IsDecrypt reports whether err means that something did not decrypt.
func IsDecrypt(err error) bool { return errors.Is(err, errDecrypt) }
