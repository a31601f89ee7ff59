package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/enclave/secrets"
)

var errTooLong = errors.New("enclave: request too long")

// A request reads the client's half of an exchange, up to a limit.
type request struct {
	s    *channel.Stream
	left int64 // bytes that may still come
	err  error // io.EOF after END
}

// Read returns the request's bytes, and io.EOF only after an authenticated END.
func (r *request) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	// One byte more than may come tells a long request from one of just that length.
	n, err := r.s.Read(p[:min(int64(len(p)), r.left+1)])
	if int64(n) > r.left {
		n, err = int(r.left), errTooLong
	}
	r.left -= int64(n)
	r.err = err
	return n, err
}

// exchange has the engine answer one request. Its context ends as soon as the client cancels. ctx is the session's.
func (s *server) exchange(ctx context.Context, engine Engine, st *channel.Stream) {
	defer st.Close()
	defer resetIfLost(ctx, st)()
	req := &request{s: st, left: s.opt.MaxRequest}
	status := channel.StatusOK
	// The error's text may quote what the engine read: only the fact of it is used.
	if engine.Exchange(st.Context(), req, response{st}) != nil {
		status = channel.StatusFailed
	}
	if errors.Is(context.Cause(ctx), errGPULost) {
		return // resetIfLost has the word
	}
	if req.err == nil {
		_, _ = io.Copy(io.Discard, req) // what the engine left unread; its end decides
	}
	switch {
	case errors.Is(req.err, errTooLong):
		status = channel.StatusTooLong
	case errors.Is(req.err, channel.ErrStalled):
		_ = st.Abort(channel.StatusStalled)
		return
	case !errors.Is(req.err, io.EOF):
		return // no answer to a request that did not end: Close resets the stream
	}
	_ = st.End(status) // a peer that does not take it is the session's to judge
}

// resetIfLost tells the client of a stream when ctx ends because a GPU was lost, whatever the engine does then. The returned
// function ends that.
func resetIfLost(ctx context.Context, st *channel.Stream) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		if errors.Is(context.Cause(ctx), errGPULost) {
			_ = st.Abort(channel.StatusGPULost) // a peer that does not take it is the session's to judge
		}
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// A response is a stream to write on and no more.
type response struct{ s *channel.Stream }

func (r response) Write(p []byte) (int, error) { return r.s.Write(p) }

// session serves exchanges, several at once, until the peer closes or the session fails. static is the key that the
// client was shown.
func (s *server) session(ctx context.Context, m *channel.Mux, static [32]byte) error {
	engine, err := s.sessionEngine(secrets.Session{Handshake: m.Peer().Binding, Static: static})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for {
		st, err := m.Accept(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errGPULost):
			waitFor(&running, farewell) // CLOSE comes after the word to each stream
			return err
		case err != nil:
			return err
		}
		s.wait.Add(1)
		running.Add(1)
		go func() {
			defer s.wait.Done()
			defer running.Done()
			s.exchange(ctx, engine, st)
		}()
	}
}

// waitFor waits for wg, and no longer than d.
func waitFor(wg *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// sessionEngine is the engine for one session.
func (s *server) sessionEngine(session secrets.Session) (Engine, error) {
	engine := s.engine
	if p, ok := engine.(PerSession); ok {
		var secret [32]byte
		if _, err := io.ReadFull(s.opt.Rand, secret[:]); err != nil {
			return nil, fmt.Errorf("enclave: %w", err)
		}
		engine = p.Session(secret)
	}
	if s.opt.Secrets != nil {
		engine = withSecrets{engine, &s.opt, session, make(chan struct{}, 1)}
	}
	return engine, nil
}
