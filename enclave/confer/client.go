package confer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// Config is what a session needs.
type Config struct {
	// Judge decides on the enclave's evidence, before anything of the caller's is sent. It must be set.
	Judge func(ctx context.Context, e *Evidence) error

	// Rand is the source of this side's keys, 32 bytes each, and of chunk_ids.
	Rand io.Reader

	Limits Limits
}

// A Client is an open session. One goroutine may receive while others send.
type Client struct {
	link
	evidence *Evidence
}

// Open runs the handshake over m, which it owns from now on and closes on error.
func Open(ctx context.Context, m Messages, cfg Config) (*Client, error) {
	c := &Client{link: link{m: m, rand: cfg.Rand}}
	err := c.open(ctx, cfg)
	if err != nil {
		m.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) open(ctx context.Context, cfg Config) (err error) {
	if cfg.Judge == nil || cfg.Rand == nil {
		return errors.New("confer: config: want Judge and Rand")
	}
	if c.receive.parts, err = NewAssembler(cfg.Limits); err != nil {
		return err
	}
	// confer-proxy does not look at the client's static key: one for each session links nothing.
	static, err := suite().GenerateKeypair(cfg.Rand)
	if err != nil {
		return fmt.Errorf("confer: %w", err)
	}
	hs, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite(), Random: cfg.Rand, Pattern: noise.HandshakeXX, Initiator: true, StaticKeypair: static})
	if err != nil {
		return fmt.Errorf("confer: %w", err)
	}
	if err := c.handshake(ctx, hs, nil); err != nil {
		return err
	}
	in, err := c.m.Read(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	payload, _, _, err := hs.ReadMessage(nil, in)
	if err != nil {
		return errors.New("confer: handshake: message 2 does not decrypt")
	}
	if c.evidence, err = parseEvidence(payload); err != nil {
		return err
	}
	copy(c.evidence.Static[:], hs.PeerStatic())
	if err := cfg.Judge(ctx, c.evidence); err != nil {
		return fmt.Errorf("confer: evidence refused: %w", err)
	}
	return c.handshake(ctx, hs, &c.send.cs)
}

// handshake writes one message without a payload; the last one sets the keys.
func (c *Client) handshake(ctx context.Context, hs *noise.HandshakeState, last **noise.CipherState) error {
	out, mine, theirs, err := hs.WriteMessage(nil, nil)
	if err != nil {
		return fmt.Errorf("confer: handshake: %w", err)
	}
	if len(out) > maxHandshake {
		return fmt.Errorf("confer: handshake message of %d bytes", len(out))
	}
	if last != nil {
		*last, c.receive.cs = mine, theirs
	}
	if err := c.m.Write(ctx, out); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// Evidence is what Judge has accepted. It must not be changed.
func (c *Client) Evidence() *Evidence { return c.evidence }

// Send sends one request. After an error nothing more can be sent: a nonce may have been used up.
func (c *Client) Send(ctx context.Context, r *Request) error {
	message, err := r.Marshal()
	if err != nil {
		return err
	}
	return c.write(ctx, message)
}

// Receive returns the next response, of whichever request. An error is final.
func (c *Client) Receive(ctx context.Context) (*Response, error) {
	message, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	r, err := ParseResponse(message)
	if err != nil {
		return nil, c.spoil(err)
	}
	return r, nil
}
