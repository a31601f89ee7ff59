package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Limits of streams. The windows are what a side may send before the other has said, by Window records,
// that it has read some of it: they bound what a peer can make this side hold.
const (
	StreamWindow  = 512 << 10
	SessionWindow = 2048 << 10
	MaxStreams    = 16 // open at a time
)

// Defaults of MuxOptions.
const (
	DefaultStall = 30 * time.Second
	DefaultTick  = 50 * time.Millisecond
)

// ErrReset means that the peer does not want the rest of the stream, or cannot go on with it.
var ErrReset = errors.New("channel: the peer reset the stream")

// A ResetError is ErrReset as a reader meets it, with the peer's reason.
type ResetError struct{ Status Status }

// Error says the reason where it is the enclave's own.
func (e *ResetError) Error() string {
	if e.Status == StatusGPULost {
		return "channel: the enclave lost a GPU"
	}
	return ErrReset.Error()
}

// Unwrap returns ErrReset.
func (e *ResetError) Unwrap() error { return ErrReset }

// ErrStalled means that the peer took no, or sent no, part of a stream for too long.
var ErrStalled = errors.New("channel: the peer stalled")

// ErrIdle means that a session ended because nothing was going on.
var ErrIdle = errors.New("channel: session idle")

// ErrPeerClosed means that the peer ended the session, in good order, before the stream had ended.
var ErrPeerClosed = fmt.Errorf("channel: the peer closed the session: %w", ErrTruncated)

// A StatusError is the peer's END with a status other than StatusOK: what came before is incomplete.
type StatusError struct{ Status Status }

// Error says the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("channel: stream ended with status %d", e.Status)
}

// MuxOptions are the choices of one side. The zero value is a client's.
type MuxOptions struct {
	// Server makes this the side that accepts streams. A client opens them.
	Server bool

	// Idle ends a session in which this side has had nothing to say on a stream, and nothing came, for so long; 0 means never.
	Idle time.Duration

	// ReadStall ends a wait for a stream's next bytes; 0 means never.
	ReadStall time.Duration

	// Stall ends a wait for the peer to take bytes; 0 means DefaultStall.
	Stall time.Duration

	// Tick is the grid in time on which streams of this side are sent: less than a record's worth waits
	// for the next tick, and so does END, so that neither the length nor the time of a token shows.
	// 0 or less sends at once.
	Tick time.Duration

	// Cover sends a record at each tick while a stream is open, PAD where there is nothing else, so that
	// the ticks at which tokens came do not show either. Of a server with a Tick only.
	Cover bool

	// Answer makes one of the documents that the client asks for, one at a time and within AnswerTimeout.
	// ErrNoDocument says that there is none. nil: there are none at all. Of a server only.
	Answer func(ctx context.Context, one Documents, a Ask) ([]byte, error)
}

// A Mux runs up to MaxStreams streams over a Conn, each with its own end, cancel and credit. Its methods
// may be called from several goroutines. Nobody else may use the Conn.
type Mux struct {
	conn   *Conn
	opt    MuxOptions
	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc
	start  time.Time // of the grid of ticks
	idle   *time.Timer
	ready  chan *Stream // server: streams to be accepted

	opening sync.Mutex // held while the first record of a stream is sent: they go out in order
	turn    sync.Mutex // server: held while an answer is made and sent

	mu        sync.Mutex
	streams   map[uint32]*Stream
	reserved  int           // client: streams opened that have no number yet
	last      uint32        // number of the newest stream
	credit    int           // what this side may send
	window    int           // what the peer may send
	owed      int           // read here and not yet credited to the peer
	granting  bool          // a goroutine sends Window records
	asking    *question     // client: what an answer is awaited to
	answering bool          // server: the client may not ask again yet
	covering  bool          // a goroutine sends Pad records
	shape     int           // bytes of plaintext of the last record of data, at most maxCover
	ticked    int64         // the tick since which a stream has sent something
	changed   chan struct{} // closed when waiters should look again; nil: there are none
	err       error         // why the session has ended; io.EOF for CLOSE
}

// NewMux takes over an open session. It reads from conn until the session ends; Close or Abort ends it.
func NewMux(conn *Conn, opt MuxOptions) *Mux {
	if opt.Stall == 0 {
		opt.Stall = DefaultStall
	}
	m := &Mux{conn: conn, opt: opt, start: conn.now(), streams: map[uint32]*Stream{}, credit: SessionWindow, window: SessionWindow}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	if opt.Server {
		m.ready = make(chan *Stream, MaxStreams)
	}
	if opt.Idle > 0 {
		m.mu.Lock()
		m.idle = time.AfterFunc(opt.Idle, m.idled)
		m.mu.Unlock()
	}
	conn.limitWrites(opt.Stall)
	// One for the session, where Receive with m.ctx would take one for each record. CLOSE is still to be said in an idle
	// one, which some carriers, such as WebSocket, cannot do after a read that was broken off: there Close ends the reading.
	context.AfterFunc(m.ctx, func() {
		if !errors.Is(context.Cause(m.ctx), ErrIdle) {
			conn.conn.SetReadDeadline(aLongTimeAgo)
		}
	})
	go m.run()
	return m
}

// Peer says who is at the other end. Its Payload must not be changed.
func (m *Mux) Peer() Peer { return m.conn.Peer() }

func (m *Mux) run() {
	for {
		r, err := m.conn.Receive(context.Background()) // ends with m.ctx all the same
		if err == nil {
			err = m.handle(r)
		}
		if err != nil {
			m.fail(err)
			return
		}
	}
}

// fail ends the session for everybody here; the first reason stays.
func (m *Mux) fail(err error) {
	m.mu.Lock()
	if m.err == nil {
		m.err = err
		if m.idle != nil {
			m.idle.Stop()
		}
	}
	err = m.ended() // never a bare io.EOF: a reader would take its stream for whole
	m.signal()
	m.mu.Unlock()
	m.cancel(err)
}

// idled runs when nothing came for a while.
func (m *Mux) idled() {
	m.mu.Lock()
	quiet := !m.busy() && !m.answering
	m.mu.Unlock()
	if quiet {
		m.fail(ErrIdle)
	}
}

// signal wakes all waiters; m.mu is held.
func (m *Mux) signal() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// wait runs ready, with m.mu held, until it returns true or an error, ctx or the session ends, or d has
// passed without a change that mattered (0: no limit).
func (m *Mux) wait(ctx context.Context, d time.Duration, ready func() (bool, error)) error {
	var late <-chan time.Time
	for {
		m.mu.Lock()
		done, err := ready()
		if !done && err == nil && m.err != nil {
			err = m.ended()
		}
		if done || err != nil {
			m.mu.Unlock()
			return err
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.mu.Unlock()
		if late == nil && d > 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late:
			return ErrStalled
		}
	}
}

// ended is the session's end as a stream in the middle of something sees it.
func (m *Mux) ended() error {
	if errors.Is(m.err, io.EOF) {
		return ErrPeerClosed
	}
	return m.err
}

// Accept returns the next stream that the client opened. When the client closed the session, all streams
// having ended, that is io.EOF.
func (m *Mux) Accept(ctx context.Context) (*Stream, error) {
	select {
	case s := <-m.ready:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-m.ctx.Done():
	}
	select {
	case s := <-m.ready: // what came before the end is served
		return s, nil
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.streams {
		if !s.peerEnded {
			return nil, m.ended()
		}
	}
	return nil, m.err
}

// Open makes a stream; it waits while MaxStreams are open. The stream dies with ctx, and must be closed.
func (m *Mux) Open(ctx context.Context) (*Stream, error) {
	err := m.wait(ctx, 0, func() (bool, error) {
		if m.err != nil || len(m.streams)+m.reserved >= MaxStreams {
			return false, nil
		}
		m.reserved++
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return m.newStream(ctx), nil
}

// send is every way out. A record that was begun is sent to its end or ends the session, whatever becomes
// of the stream.
func (m *Mux) send(r Record) error {
	err := m.conn.Send(context.Background(), r) // bounded by limitWrites
	if err != nil {
		m.fail(err)
	}
	return err
}

// Close ends the session with CLOSE and closes the connection, without CLOSE where a write that the peer does not take is in
// its way until ctx ends. Streams that are open are truncated.
func (m *Mux) Close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { m.conn.Abort() })
	defer stop()
	err := m.conn.CloseWrite(ctx)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	m.fail(ErrClosed)
	return errors.Join(err, m.conn.Abort())
}

// Abort closes the connection at once, without CLOSE: the peer sees a truncated session.
func (m *Mux) Abort() error {
	m.fail(ErrClosed)
	return m.conn.Abort()
}
