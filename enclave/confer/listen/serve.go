package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"tally/enclave"
	"tally/enclave/confer"
	"tally/internal/erase"
)

// Limits of connections that are no session yet.
const (
	requestTime = 10 * time.Second // until a request has come, with its body if it has one
	maxHead     = 16 << 10         // bytes of its head; confer-proxy's clients have a token in it
	maxWaiting  = 256              // at a time
)

// Serve answers sessions on ln until ctx ends, then closes ln and every session, and returns nil. It returns an error
// when the first key cannot be attested, when the attester is none that Confer's clients know, or when ln fails; ln is
// closed then, too.
func Serve(ctx context.Context, ln net.Listener, opt Options) error {
	defer ln.Close()
	opt, err := opt.withDefaults()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{ctx: ctx, opt: opt, sessions: make(chan struct{}, opt.MaxSessions)}
	s.keys = newKeyring(&s.opt)
	if s.keys.cur, err = s.keys.first(ctx); err != nil {
		if ctx.Err() != nil { // whatever was waited for, it is nobody's fault that it did not come
			return nil
		}
		return err
	}
	defer func() {
		cancel()
		for range opt.MaxSessions { // with all its tokens taken no session is open, and none can be
			s.sessions <- struct{}{}
		}
	}()
	srv := s.http()
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); ctx.Err() == nil {
		return fmt.Errorf("confer listener: %w", err)
	}
	return nil
}

// first makes the first key without counting a session.
func (r *keyring) first(ctx context.Context) (*key, error) {
	if _, _, err := r.acquire(ctx); err != nil {
		return nil, err
	}
	r.cur.sessions = 0
	return r.cur, nil
}

type server struct {
	ctx      context.Context
	opt      Options
	keys     *keyring
	sessions chan struct{} // one token an open session
}

// http is the server of requests that are to become sessions.
func (s *server) http() *http.Server {
	var waiting atomic.Int64
	srv := &http.Server{
		Handler: s, ReadTimeout: requestTime, MaxHeaderBytes: maxHead,
		ErrorLog: log.New(io.Discard, "", 0), // it would quote clients
		ConnState: func(c net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				if waiting.Add(1) > maxWaiting {
					c.Close()
				}
			case http.StateHijacked, http.StateClosed:
				waiting.Add(-1)
			}
		},
	}
	srv.SetKeepAlivesEnabled(false)
	return srv
}

// ServeHTTP makes one connection a session. The query, where clients of Confer's have a token, is not looked at. Pages of
// every origin may connect: nothing in the request has any authority that a page could borrow.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	select {
	case s.sessions <- struct{}{}:
		defer func() { <-s.sessions }()
	default:
		s.opt.Logger.Warn("session of Confer's wire refused", "reason", "busy")
		s.opt.Observe(enclave.Event{What: enclave.SessionRefused, Reason: "busy"})
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	c.SetReadLimit(confer.MaxNoiseMessage)
	s.serve(s.ctx, confer.WebSocket(c))
}

// serve is one connection from its first message to its last. What goes wrong is told to the log by class, never by the peer's bytes.
func (s *server) serve(ctx context.Context, m confer.Messages) {
	defer erase.Soon()
	ctx, cancel := context.WithTimeout(ctx, s.opt.SessionLifetime)
	defer cancel()
	c, err := s.handshake(ctx, m)
	if err != nil {
		s.tell(enclave.HandshakeFailed, "handshake of Confer's wire ended", class(ctx, err))
		return
	}
	s.opt.Observe(enclave.Event{What: enclave.SessionOpened})
	err = s.session(ctx, c)
	s.tell(enclave.SessionEnded, "session of Confer's wire ended", class(ctx, err))
}

func (s *server) tell(what enclave.What, text, reason string) {
	s.opt.Logger.Info(text, "reason", reason)
	s.opt.Observe(enclave.Event{What: what, Reason: reason})
}

func (s *server) handshake(ctx context.Context, m confer.Messages) (*confer.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.HandshakeTimeout)
	defer cancel()
	static, payload, err := s.keys.acquire(ctx)
	if err != nil {
		m.Close()
		return nil, err
	}
	return confer.Accept(ctx, m, confer.ServerConfig{Static: static, Payload: payload, Rand: s.opt.Rand, Limits: s.opt.limits})
}

var errIdle = errors.New("confer listener: idle")

// class is the log's word for an error: a constant, whatever the peer sent.
func class(ctx context.Context, err error) string {
	switch cause := context.Cause(ctx); {
	case errors.Is(err, errIdle):
		return "idle"
	case errors.Is(cause, context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(cause, context.Canceled):
		return "shutdown"
	case confer.IsDecrypt(err):
		return "decrypt"
	case errors.Is(err, confer.ErrEnded):
		return "truncated" // no end of this protocol is authenticated
	}
	return "protocol"
}
