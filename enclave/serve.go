package enclave

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/internal/erase"
)

// farewell is how long a session that ends may take to say CLOSE.
const farewell = 2 * time.Second

// Serve accepts sessions on ln until ctx ends, then closes ln and every session, with CLOSE where the
// peer still listens, and returns nil. It returns an error when the first key cannot be attested or ln
// fails; ln is closed then, too. Nothing is accepted before there is evidence to show.
func Serve(ctx context.Context, ln net.Listener, a Attester, e Engine, opt Options) error {
	defer ln.Close()
	opt, err := opt.withDefaults()
	if err != nil {
		return err
	}
	sessions, err := NewSessionAttester(a, opt.SessionWindow)
	if err != nil {
		return err
	}
	sessions.asking = func() func(error) {
		at := opt.Now()
		return func(err error) { opt.reported("session", at, err) }
	}
	gpus := newGPUState(opt)
	s := &server{engine: e, opt: opt, attester: sessions, gpus: gpus, keys: newKeyring(a, opt, gpus),
		sessions: make(chan struct{}, opt.MaxSessions), handshakes: make(chan struct{}, opt.MaxHandshakes)}
	err = s.keys.rotate(ctx)
	if err == nil {
		err = s.openGPUs(ctx)
	}
	if ctx.Err() != nil { // whatever was waited for, it is nobody's fault that it did not come
		return nil
	}
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ln.Close() }) // of the context that accept looks at: it has ended when ln is closed
	defer stop()
	defer s.wait.Wait()
	defer end()
	if s.gpus != nil {
		s.wait.Go(func() { s.watchGPUs(ctx) })
	}
	s.wait.Go(func() { s.watchKey(ctx) })
	return s.accept(ctx, ln)
}

// watchKey rotates the key by its time until ctx ends.
func (s *server) watchKey(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := s.keys.tend(ctx)
		if err != nil && ctx.Err() == nil {
			s.opt.Logger.Warn("no new key", "reason", err)
		}
		pause(ctx, wait)
	}
}

type server struct {
	engine     Engine
	opt        Options
	keys       *keyring
	attester   *SessionAttester
	gpus       *gpuState
	sessions   chan struct{} // one token an open session
	handshakes chan struct{} // one token a handshake in progress
	wait       sync.WaitGroup
}

// accept runs until ctx ends. A failure to accept (too many open files, say) is waited out a few times
// before it ends the server.
func (s *server) accept(ctx context.Context, ln net.Listener) error {
	for failures := 0; ; {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			if failures++; failures > 10 || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("enclave: %w", err)
			}
			pause(ctx, time.Duration(failures)*20*time.Millisecond)
			continue
		}
		failures = 0
		s.wait.Add(1)
		if !s.gpus.serving() {
			go func() {
				defer s.wait.Done()
				s.turnAway(ctx, conn, channel.RefusedGPU)
			}()
			continue
		}
		select {
		case s.sessions <- struct{}{}:
			go func() {
				defer s.wait.Done()
				defer func() { <-s.sessions }()
				s.serve(ctx, conn)
			}()
		default:
			go func() {
				defer s.wait.Done()
				s.turnAway(ctx, conn, channel.RefusedBusy)
			}()
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// turnAway says why. It may not wait for a peer that does not read.
func (s *server) turnAway(ctx context.Context, conn net.Conn, code channel.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	s.opt.Logger.Warn("session refused", "reason", code.String())
	s.opt.observe(SessionRefused, code.String())
	_ = channel.Refuse(ctx, conn, code) // the peer's loss
}

// serve is one connection from its first byte to its last. What goes wrong is told to the log by class,
// never by the peer's bytes.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer erase.Soon()
	ctx, leave := s.gpus.join(ctx)
	defer leave()
	began := s.opt.Now()
	s.opt.observe(HandshakeBegun, "")
	c, k, err := s.handshake(ctx, conn)
	if err != nil {
		s.opt.Logger.Info("handshake ended", "reason", class(err))
		s.opt.observe(HandshakeFailed, class(err))
		return
	}
	s.opt.tell(Event{What: SessionOpened, Kind: c.Peer().Kind, Took: s.opt.Now().Sub(began)})
	ctx, cancel := context.WithTimeout(ctx, s.opt.SessionLifetime)
	defer cancel()
	m := channel.NewMux(c, channel.MuxOptions{Server: true, Idle: s.opt.IdleTimeout, ReadStall: s.opt.IdleTimeout, Stall: s.opt.StallTimeout,
		Tick: s.opt.Tick, Cover: s.opt.Cover, Answer: s.answerer(k, c.Peer().Binding)})
	err = s.session(ctx, m, k.static)
	// CLOSE goes out even when ctx has ended: shutting down is no truncation.
	bye, cancelBye := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancelBye()
	if fatal(err) {
		m.Abort()
	} else if cerr := m.Close(bye); err == nil {
		err = cerr
	}
	s.opt.Logger.Info("session ended", "reason", class(err))
	s.opt.tell(Event{What: SessionEnded, Reason: class(err), Took: s.opt.Now().Sub(began)})
}

// handshake waits for its turn within the same time that the handshake itself has.
func (s *server) handshake(ctx context.Context, conn net.Conn) (*channel.Conn, shown, error) {
	defer erase.Soon() // the key may have been retired meanwhile
	hctx, cancel := context.WithTimeout(ctx, s.opt.HandshakeTimeout)
	defer cancel()
	select {
	case s.handshakes <- struct{}{}:
		defer func() { <-s.handshakes }()
	case <-hctx.Done():
		dismiss(ctx, conn, context.Cause(hctx))
		return nil, shown{}, context.Cause(hctx)
	}
	k, err := s.keys.acquire(hctx)
	if err != nil {
		dismiss(ctx, conn, err)
		return nil, shown{}, err
	}
	s.attester.Expect()
	cfg := channel.Config{Authority: s.opt.Authority, Kinds: s.opt.Kinds, Rand: s.opt.Rand, Now: s.opt.Now, Timeout: s.opt.HandshakeTimeout, Observe: s.opt.record}
	c, err := channel.Accept(hctx, conn, cfg, k.identity)
	return c, k.shown, err
}

// dismiss closes a connection that there is no key for, and says so where that is because a GPU was lost.
func dismiss(ctx context.Context, conn net.Conn, why error) {
	if !errors.Is(why, errGPULost) {
		conn.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell) // the loss ended ctx, too
	defer cancel()
	_ = channel.Refuse(ctx, conn, channel.RefusedGPU)
}

// fatal reports whether the channel broke. A CLOSE would then vouch for exchanges that did not end; the
// peer is left with a truncated session instead.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, errGPULost) && !errors.Is(err, channel.ErrIdle) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// class is the log's word for an error: a constant, whatever the peer sent.
func class(err error) string {
	var refused *channel.RefusedError
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, errGPULost):
		return "gpu lost"
	case errors.Is(err, channel.ErrIdle):
		return "idle"
	case errors.Is(err, channel.ErrStalled):
		return "stalled"
	case errors.Is(err, channel.ErrReplay):
		return "replay"
	case errors.Is(err, context.Canceled):
		return "shutdown"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, channel.ErrTruncated):
		return "truncated"
	case errors.Is(err, channel.ErrDecrypt):
		return "decrypt"
	case errors.As(err, &refused):
		return "refused"
	}
	return "protocol"
}
