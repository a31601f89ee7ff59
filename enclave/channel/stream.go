package channel

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// A Stream is one exchange of a session. One goroutine may read while another writes. Close must be called
// in the end.
type Stream struct {
	m      *Mux
	ctx    context.Context
	cancel context.CancelCauseFunc

	// Guarded by m.mu.
	id        uint32 // 0: nothing was sent yet
	in        inbox
	want      []byte // where a reader waits for its bytes; nil: none does
	got       int    // how many it got there
	credit    int    // what this side may send
	window    int    // what the peer may send
	owed      int    // read and not yet credited
	peerEnded bool   // by END or RESET
	status    Status // of the peer's END
	reset     bool   // by the peer
	cut       bool   // and it has not said END before
	why       Status // of that RESET
	dropped   bool   // nobody reads here
	ended     bool   // this side's half
	gaveUp    bool   // Close was called

	w struct {
		sync.Mutex
		buf   []byte // waits for a tick
		timer *time.Timer
		err   error
	}
}

// newStream makes a stream that dies with ctx and with the session.
func (m *Mux) newStream(ctx context.Context) *Stream {
	s := &Stream{m: m, credit: StreamWindow, window: StreamWindow}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Context ends when the stream does: by its peer's RESET, the end of the session, Close, or, on the side
// that opened it, the end of the context given to Open.
func (s *Stream) Context() context.Context { return s.ctx }

// Read returns what the peer has sent, and io.EOF only after an END that says it is whole.
func (s *Stream) Read(p []byte) (n int, err error) {
	m := s.m
	if len(p) == 0 {
		return 0, nil
	}
	err = m.wait(s.ctx, m.opt.ReadStall, func() (bool, error) {
		switch {
		case s.got > 0:
			n, s.got = s.got, 0
			return true, nil
		case s.in.len() > 0:
			n = s.in.read(p)
			s.taken(n)
			return true, nil
		case s.cut:
			return false, &ResetError{s.why}
		case s.peerEnded && s.status != StatusOK:
			return false, &StatusError{s.status}
		case s.peerEnded:
			return false, io.EOF
		}
		s.want = p
		return false, nil
	})
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.want = nil // p is the caller's again
		if s.got > 0 {
			n, s.got, err = s.got, 0, nil // came while it gave up
		}
	}
	return n, err
}

// taken notes that n bytes of the stream were read; m.mu is held.
func (s *Stream) taken(n int) {
	s.m.owe(n)
	if s.owed += n; s.owed >= StreamWindow/2 && !s.peerEnded {
		s.m.startGranting()
	}
}

// Write sends p, on the grid of ticks where there is one. It waits for credit; an error is final.
func (s *Stream) Write(p []byte) (int, error) {
	s.w.Lock()
	defer s.w.Unlock()
	if s.m.opt.Tick <= 0 {
		return s.send(p)
	}
	written := 0
	for len(p) > 0 && s.w.err == nil {
		n := min(len(p), MaxData-len(s.w.buf))
		s.w.buf = append(s.w.buf, p[:n]...)
		written, p = written+n, p[n:]
		if len(s.w.buf) == MaxData {
			s.flush()
		}
	}
	if len(s.w.buf) > 0 && s.w.timer == nil && s.w.err == nil {
		s.w.timer = time.AfterFunc(s.m.untilTick(), func() {
			s.w.Lock()
			defer s.w.Unlock()
			s.flush()
		})
	}
	return written, s.w.err
}

// untilTick is the time until the session's next tick.
func (m *Mux) untilTick() time.Duration {
	return m.opt.Tick - m.conn.now().Sub(m.start)%m.opt.Tick
}

// flush sends what waits; s.w is held.
func (s *Stream) flush() {
	if s.w.timer != nil {
		s.w.timer.Stop()
		s.w.timer = nil
	}
	if len(s.w.buf) > 0 {
		s.send(s.w.buf)
		s.w.buf = s.w.buf[:0]
	}
}

// send sends p now, in records as large as credit allows; s.w is held.
func (s *Stream) send(p []byte) (sent int, err error) {
	for sent < len(p) && s.w.err == nil {
		var n int
		s.w.err = s.m.wait(s.ctx, s.m.opt.Stall, func() (bool, error) {
			if s.reset {
				return false, ErrReset
			}
			if s.ended {
				return false, ErrClosed
			}
			n = min(len(p)-sent, MaxData, s.credit, s.m.credit)
			if n <= 0 || s.m.err != nil {
				return false, nil
			}
			s.credit -= n
			s.m.credit -= n
			return true, nil
		})
		if s.w.err == nil {
			s.w.err = s.record(Record{Type: Data, Payload: p[sent : sent+n]})
			sent += n
		}
	}
	return sent, s.w.err
}

// record sends one record of the stream; its first gives it its number.
func (s *Stream) record(r Record) error {
	m := s.m
	m.mu.Lock()
	m.sending(&r)
	fresh := s.id == 0
	m.mu.Unlock()
	if fresh {
		m.opening.Lock()
		defer m.opening.Unlock()
		m.mu.Lock()
		if m.err != nil {
			defer m.mu.Unlock()
			return m.ended()
		}
		m.last++
		s.id = m.last
		m.streams[s.id] = s
		m.reserved--
		m.mu.Unlock()
	}
	r.Stream = s.id
	return m.send(r)
}

// End sends what waits and END with the status, on a tick where there is a grid. Reading goes on.
func (s *Stream) End(status Status) error {
	if s.m.opt.Tick > 0 {
		t := time.NewTimer(s.m.untilTick())
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	s.w.Lock()
	defer s.w.Unlock()
	s.flush()
	if s.w.err == nil {
		s.w.err = s.finish(Record{Type: End, Status: status})
	}
	if s.w.err != nil {
		return s.w.err
	}
	s.w.err = ErrClosed
	return nil
}

// finish sends the last record of this half, once.
func (s *Stream) finish(r Record) error {
	s.m.mu.Lock()
	if s.ended {
		s.m.mu.Unlock()
		return ErrClosed
	}
	s.ended = true
	s.m.restIdle()
	// The peer may open another stream as soon as it has seen this one end: a server counts no longer by
	// then, and a client no sooner than the server.
	if s.m.opt.Server {
		s.m.retire(s)
	}
	s.m.mu.Unlock()
	err := s.record(r)
	s.m.mu.Lock()
	s.m.retire(s)
	s.m.mu.Unlock()
	return err
}

// Close gives up what is left of the stream, in both directions: unless both halves have ended the peer
// gets a RESET, and what it still sends is dropped. It returns at once where both have ended.
func (s *Stream) Close() error { return s.Abort(StatusCancelled) }

// Abort is Close with the reason that the peer is told. It may be called while others read and write.
func (s *Stream) Abort(status Status) error {
	m := s.m
	s.cancel(ErrClosed) // whoever writes or reads stops
	s.w.Lock()
	defer s.w.Unlock()
	if s.w.timer != nil {
		s.w.timer.Stop()
		s.w.timer = nil
	}
	m.mu.Lock()
	m.owe(s.in.len())
	s.dropped = true
	s.in.reset()
	reset := (!s.ended || !s.peerEnded) && s.id != 0 && m.err == nil && !s.gaveUp
	s.gaveUp = true
	if s.id == 0 && !s.ended {
		s.ended = true
		m.reserved--
		m.signal()
	}
	m.mu.Unlock()
	if !reset {
		return nil
	}
	if status == StatusCancelled && errors.Is(s.w.err, ErrStalled) {
		status = StatusStalled
	}
	r := Record{Type: Reset, Status: status}
	if err := s.finish(r); !errors.Is(err, ErrClosed) {
		return err
	}
	return s.record(r) // after END: the peer may stop, too
}
