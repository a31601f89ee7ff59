package confer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/flynn/noise"
)

// Messages carries messages that stay whole: one call is one binary WebSocket message of 1 to MaxNoiseMessage bytes.
type Messages interface {
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, message []byte) error
	Close() error
}

// Config is what a session needs.
type Config struct {
	// Judge decides on the enclave's evidence, before anything of the caller's is sent. It must be set.
	Judge func(ctx context.Context, e *Evidence) error

	// Rand is the source of this side's keys, 32 bytes each, and of chunk_ids.
	Rand io.Reader

	Limits Limits
}

// A Client is an open session. One goroutine may send while another receives.
type Client struct {
	m        Messages
	rand     io.Reader
	evidence *Evidence

	send struct {
		sync.Mutex
		cs  *noise.CipherState
		err error // sticky
	}
	receive struct {
		sync.Mutex
		cs    *noise.CipherState
		parts *Assembler
		err   error // sticky
	}
}

// Open runs the handshake over m, which it owns from now on and closes on error.
func Open(ctx context.Context, m Messages, cfg Config) (*Client, error) {
	c := &Client{m: m, rand: cfg.Rand}
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
	suite := noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
	// confer-proxy does not look at the client's static key: one for each session links nothing.
	static, err := suite.GenerateKeypair(cfg.Rand)
	if err != nil {
		return fmt.Errorf("confer: %w", err)
	}
	hs, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite, Random: cfg.Rand, Pattern: noise.HandshakeXX, Initiator: true, StaticKeypair: static})
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
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err != nil {
		return c.send.err
	}
	frames, err := Split(message, c.rand)
	if err != nil {
		return err
	}
	for _, f := range frames {
		sealed, err := c.send.cs.Encrypt(nil, nil, f.Marshal())
		if err == nil {
			err = c.m.Write(ctx, sealed)
		}
		if err != nil {
			c.send.err = fmt.Errorf("%w: %w", ErrEnded, err)
			return c.send.err
		}
	}
	return nil
}

// Receive returns the next response, of whichever request. An error is final.
func (c *Client) Receive(ctx context.Context) (*Response, error) {
	c.receive.Lock()
	defer c.receive.Unlock()
	for c.receive.err == nil {
		r, err := c.next(ctx)
		if r != nil && err == nil {
			return r, nil
		}
		c.receive.err = err
	}
	return nil, c.receive.err
}

// next reads one frame; nil when it does not complete a message.
func (c *Client) next(ctx context.Context) (*Response, error) {
	sealed, err := c.m.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	plain, err := c.receive.cs.Decrypt(nil, nil, sealed)
	if err != nil {
		return nil, errors.New("confer: a message that does not decrypt")
	}
	f, err := ParseFrame(plain)
	if err != nil {
		return nil, err
	}
	message, err := c.receive.parts.Add(f)
	if message == nil || err != nil {
		return nil, err
	}
	return ParseResponse(message)
}

// Close closes the connection. The peer cannot tell it from the network's doing.
func (c *Client) Close() error { return c.m.Close() }
