package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"tally/enclave/channel"
)

// farewell is how long a session that ends may take to say CLOSE.
const farewell = 2 * time.Second

// Serve accepts sessions on ln until ctx ends, then closes ln and every session, with CLOSE where the
// peer still listens, and returns nil. It returns an error when the first key cannot be attested or ln
// fails. Nothing is accepted before there is evidence to show.
func Serve(ctx context.Context, ln net.Listener, a Attester, e Engine, opt Options) error {
	opt, err := opt.withDefaults()
	if err != nil {
		return err
	}
	s := &server{engine: e, opt: opt, keys: &keyring{attester: a, opt: opt},
		sessions: make(chan struct{}, opt.MaxSessions), handshakes: make(chan struct{}, opt.MaxHandshakes)}
	if err := s.keys.rotate(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer s.wait.Wait()
	return s.accept(ctx, ln)
}

type server struct {
	engine     Engine
	opt        Options
	keys       *keyring
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
				s.turnAway(ctx, conn)
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

// turnAway says busy. It may not wait for a peer that does not read.
func (s *server) turnAway(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	s.opt.Logger.Warn("session refused", "reason", channel.RefusedBusy.String())
	_ = channel.Refuse(ctx, conn, channel.RefusedBusy) // the peer's loss
}

// serve is one connection from its first byte to its last. What goes wrong is told to the log by class,
// never by the peer's bytes.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	c, err := s.handshake(ctx, conn)
	if err != nil {
		s.opt.Logger.Info("handshake ended", "reason", class(err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.SessionLifetime)
	defer cancel()
	err = s.session(ctx, c)
	// CLOSE goes out even when ctx has ended: shutting down is no truncation.
	bye, cancelBye := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancelBye()
	if fatal(err) {
		c.Abort()
	} else if cerr := c.Close(bye); err == nil {
		err = cerr
	}
	s.opt.Logger.Info("session ended", "reason", class(err))
}

// handshake waits for its turn within the same time that the handshake itself has.
func (s *server) handshake(ctx context.Context, conn net.Conn) (*channel.Conn, error) {
	hctx, cancel := context.WithTimeout(ctx, s.opt.HandshakeTimeout)
	defer cancel()
	select {
	case s.handshakes <- struct{}{}:
		defer func() { <-s.handshakes }()
	case <-hctx.Done():
		conn.Close()
		return nil, hctx.Err()
	}
	k, err := s.keys.acquire(hctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	cfg := channel.Config{Authority: s.opt.Authority, Kinds: s.opt.Kinds, Rand: s.opt.Rand, Now: s.opt.Now, Timeout: s.opt.HandshakeTimeout}
	return channel.Accept(hctx, conn, cfg, k.identity)
}

// session answers exchanges until the peer closes. One exchange follows another on streams 1, 2, …; a
// record of any other stream is an error, so that nothing of one request can end up in the next.
func (s *server) session(ctx context.Context, c *channel.Conn) error {
	engine, err := s.sessionEngine()
	if err != nil {
		return err
	}
	var next *early
	for id := uint32(1); ; id++ {
		req := &request{ctx: ctx, conn: c, id: id, idle: s.opt.IdleTimeout, left: s.opt.MaxRequest, early: next}
		switch err := req.first(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := s.exchange(ctx, engine, req); err != nil {
			return err
		}
		next = req.after
	}
}

// sessionEngine is the engine for one session.
func (s *server) sessionEngine() (Engine, error) {
	p, ok := s.engine.(PerSession)
	if !ok {
		return s.engine, nil
	}
	var secret [32]byte
	if _, err := io.ReadFull(s.opt.Rand, secret[:]); err != nil {
		return nil, fmt.Errorf("enclave: %w", err)
	}
	return p.Session(secret), nil
}

// exchange has req answered. While the engine works the session is read on, so that the engine hears at
// once of a client that has gone.
func (s *server) exchange(ctx context.Context, engine Engine, req *request) error {
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	req.ended = func() {
		s.wait.Add(1)
		req.after = readEarly(ctx, req.conn, cancel, s.wait.Done)
	}
	if errors.Is(req.err, io.EOF) {
		req.ended() // an empty request
	}
	resp := &response{ctx: ctx, conn: req.conn, id: req.id, idle: s.opt.IdleTimeout}
	status := channel.StatusOK
	// The error's text may quote what the engine read: only the fact of it is used.
	if engine.Exchange(ectx, req, resp) != nil {
		status = channel.StatusFailed
	}
	if req.err == nil {
		_, _ = io.Copy(io.Discard, req) // what the engine left unread; its end decides
	}
	switch {
	case errors.Is(req.err, errTooLong):
		status = channel.StatusTooLong
	case !errors.Is(req.err, io.EOF):
		return req.err
	}
	if resp.err != nil {
		return resp.err
	}
	if err := resp.end(status); err != nil {
		return err
	}
	if status == channel.StatusTooLong {
		return errTooLong // the rest of the request is not read: the session cannot go on
	}
	return nil
}

// fatal reports whether the channel or the request on it broke. A CLOSE would then vouch for an exchange
// that did not end; the peer is left with a truncated session instead.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, errTooLong) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// class is the log's word for an error: a constant, whatever the peer sent.
func class(err error) string {
	var refused *channel.RefusedError
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, errTooLong):
		return "request too long"
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
