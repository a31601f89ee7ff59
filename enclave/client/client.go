// Package client opens attested sessions: it speaks the handshake, has the enclave's evidence appraised,
// and only then is there a [Session], which is the only thing that can send.
//
//	s, err := client.Dial(ctx, new(net.Dialer), "host:8443", client.Config{…})
//	answer, err := s.Do(ctx, []byte("hello"))
//
// When the enclave's static key is not the one in its evidence, or the appraisal fails for any other
// reason, Dial returns an *appraise.Error that carries every check made, and nothing of the user's has
// left the machine.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/channel"
	"tally/measure"
)

// MaxResponse is the size in bytes at which Do gives up on an answer.
const MaxResponse = 64 << 20

// A Config says whom to talk to and what to accept. Every field without a stated default must be set.
type Config struct {
	Authority string                   // the service (evidence.CheckAuthority)
	Policy    appraise.Policy          // which evidence is accepted; zero: none
	Reference *measure.ReferenceValues // of a verified release
	Kinds     []channel.Kind           // empty: hybrid only, and nothing weaker is ever tried
	Rand      io.Reader                // crypto/rand.Reader
	Now       func() time.Time         // time.Now
	Timeout   time.Duration            // of the handshake; 0: 10 s

	// EvidenceTimeout is how long an enclave may take over the documents that the policy wants beside the
	// key evidence; 0: 30 s.
	EvidenceTimeout time.Duration

	// What the vendor says of GPUs and the caller has at hand, beside what the enclave ships: manifests
	// (gpu.ParseRIM) and OCSP responses in DER. Both may be empty.
	GPURIMs, GPUOCSP [][]byte

	After func(time.Duration) <-chan time.Time // as time.After, of the same clock as Now; nil: time.After

	Pins *Pins // evidence of earlier sessions, for reconnects; nil: none is kept

	Memo *appraise.Memo // signatures verified in earlier sessions; nil: none is remembered
}

// A Dialer opens connections: the one door to the network. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// A Session is an open, appraised session with an enclave. Its methods may be called from several
// goroutines; up to 16 exchanges run at once, others wait.
type Session struct {
	mux *channel.Mux
	cfg *Config

	input appraise.Input // with which the handshake was judged
	wants appraise.Wants // what the policy wants beside it

	turn chan struct{} // one Reappraise at a time

	mu       sync.Mutex
	judged   appraise.Input // with what was asked for
	result   *appraise.Result
	at       time.Time // of what result says
	renewing *renewal  // under way, or nil
	ended    error     // why the enclave is not accepted any more
}

// Dial connects to address (HOST:PORT over TCP) and opens a session. See New.
func Dial(ctx context.Context, d Dialer, address string, cfg Config) (*Session, error) {
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return New(ctx, conn, cfg)
}

// New opens a session over conn, which it owns from now on and closes on error. An enclave that is not
// accepted is an *appraise.Error. Where the policy wants more than key evidence, the enclave is asked for it
// in the session, and there is no Session before it has passed.
func New(ctx context.Context, conn net.Conn, cfg Config) (*Session, error) {
	if cfg.Now == nil {
		conn.Close()
		return nil, errors.New("client: no clock")
	}
	s, err := newSession(ctx, conn, &cfg)
	var refused *appraise.Error
	if errors.As(err, &refused) {
		cfg.Pins.forget(cfg.Authority)
	}
	if err != nil {
		return nil, err
	}
	cfg.Pins.keep(cfg.Authority, s.Peer())
	return s, nil
}

func newSession(ctx context.Context, conn net.Conn, cfg *Config) (*Session, error) {
	s := &Session{cfg: cfg, turn: make(chan struct{}, 1)}
	var pending *appraise.Pending
	verify := func(_ context.Context, p channel.Peer) (err error) {
		if s.input, pending, err = judge(p, cfg); err != nil {
			return err
		}
		switch s.wants = pending.Wants; s.wants {
		case appraise.Wants{}:
			s.result, err = pending.Finish(nil, nil, nil)
			return err
		case appraise.Wants{GPU: true}:
			return pending.Prove()
		}
		return nil // proved while the enclave waits for its report
	}
	c, err := channel.Client(ctx, conn, channel.Config{
		Authority: cfg.Authority, Kinds: cfg.Kinds, Rand: cfg.Rand, Now: cfg.Now, Timeout: cfg.Timeout,
		Pin: cfg.Pins.get(cfg.Authority, cfg.Now()),
	}, verify)
	if err != nil {
		return nil, err
	}
	s.mux, s.judged, s.at = channel.NewMux(c, channel.MuxOptions{}), s.input, s.input.Now
	if s.wants != (appraise.Wants{}) {
		err := s.finish(ctx, pending.Prove, func(in appraise.Input) (*appraise.Result, error) {
			return pending.Finish(in.Session, in.GPU, in.Credential)
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Result says what was checked about the enclave. It must not be changed.
func (s *Session) Result() *appraise.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// Evidence is what the enclave was accepted by, the documents that it was asked for included. It must not be
// changed.
func (s *Session) Evidence() appraise.Input {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judged
}

// Peer says who is at the other end.
func (s *Session) Peer() channel.Peer { return s.mux.Peer() }

// Do sends one request and returns the whole answer, at most MaxResponse bytes. On error there is no
// answer: what was received of an incomplete one is dropped.
func (s *Session) Do(ctx context.Context, request []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := s.Exchange(ctx, bytes.NewReader(request), &capped{&b, MaxResponse}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, fmt.Errorf("client: answer of more than %d bytes", MaxResponse)
	}
	return c.w.Write(p)
}

// ErrIncomplete means that the enclave said it could not finish its answer.
var ErrIncomplete = errors.New("client: the enclave could not finish the answer")

// ErrGPULost means that the enclave lost a GPU, by its own word: all its sessions end, and it serves nobody before
// its GPUs are verified again.
var ErrGPULost = errors.New("client: the enclave lost a GPU and ended the session before the answer was whole")

// ErrTooLong means that the enclave does not take requests of this length.
var ErrTooLong = errors.New("client: the enclave refuses a request of this length")

// Exchange sends request to its end while it writes the answer to response as it comes. It returns nil
// only after an authenticated END that says the answer is whole. When ctx ends, or either side of the
// exchange fails here, the enclave is told to stop; the session and its other exchanges go on. When what the enclave was
// accepted by is too old for the policy, it is judged again, before the first byte and between later ones; if it is not
// accepted, or does not answer in time, the session and all its exchanges end with ErrNotRenewed.
func (s *Session) Exchange(ctx context.Context, request io.Reader, response io.Writer) error {
	if err := s.current(ctx); err != nil {
		return err
	}
	defer s.watch()()
	st, err := s.mux.Open(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("client: session ended by an earlier error: %w", err)
	}
	if err != nil {
		return err
	}
	defer st.Close()
	sent := make(chan error, 1)
	go func() {
		err := s.send(st, request)
		if err != nil {
			st.Close() // no answer comes to a request that did not end
		}
		sent <- err
	}()
	if err = receive(st, response); err == nil {
		return nil // an answer may be whole before its request is read
	}
	var status *channel.StatusError
	if errors.As(err, &status) {
		return outcome(status.Status)
	}
	var reset *channel.ResetError
	if errors.As(err, &reset) && reset.Status == channel.StatusGPULost {
		err = ErrGPULost
	}
	if errors.Is(err, channel.ErrPeerClosed) {
		err = fmt.Errorf("client: the enclave closed the session before the answer was whole: %w", err)
	}
	st.Close() // whatever the sender waits for
	s.mu.Lock()
	ended := s.whyEnded()
	s.mu.Unlock()
	if ended != nil {
		return ended
	}
	if serr := <-sent; serr != nil && errors.Is(err, channel.ErrClosed) {
		return serr
	}
	return err
}

func (s *Session) send(st *channel.Stream, request io.Reader) error {
	buf := make([]byte, channel.MaxData)
	for {
		n, err := request.Read(buf)
		if n > 0 {
			if cerr := s.current(st.Context()); cerr != nil {
				return cerr
			}
			if _, werr := st.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return st.End(channel.StatusOK)
		case err != nil:
			return fmt.Errorf("client: reading the request: %w", err)
		}
	}
}

func receive(st *channel.Stream, response io.Writer) error {
	buf := make([]byte, channel.MaxData)
	for {
		n, err := st.Read(buf)
		if n > 0 {
			if _, werr := response.Write(buf[:n]); werr != nil {
				return fmt.Errorf("client: writing the answer: %w", werr)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func outcome(s channel.Status) error {
	if s == channel.StatusTooLong {
		return ErrTooLong
	}
	return ErrIncomplete
}

// Close ends the session with an authenticated CLOSE.
func (s *Session) Close(ctx context.Context) error { return s.mux.Close(ctx) }
