package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tally/enclave/channel"
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

// exchange has the engine answer one request. Its context ends as soon as the client cancels.
func (s *server) exchange(engine Engine, st *channel.Stream) {
	defer st.Close()
	req := &request{s: st, left: s.opt.MaxRequest}
	status := channel.StatusOK
	// The error's text may quote what the engine read: only the fact of it is used.
	if engine.Exchange(st.Context(), req, response{st}) != nil {
		status = channel.StatusFailed
	}
	if req.err == nil {
		_, _ = io.Copy(io.Discard, req) // what the engine left unread; its end decides
	}
	switch {
	case errors.Is(req.err, errTooLong):
		status = channel.StatusTooLong
	case !errors.Is(req.err, io.EOF):
		return // no answer to a request that did not end: Close resets the stream
	}
	_ = st.End(status) // a peer that does not take it is the session's to judge
}

// A response is a stream to write on and no more.
type response struct{ s *channel.Stream }

func (r response) Write(p []byte) (int, error) { return r.s.Write(p) }

// session serves exchanges, several at once, until the peer closes or the session fails.
func (s *server) session(ctx context.Context, m *channel.Mux) error {
	engine, err := s.sessionEngine()
	if err != nil {
		return err
	}
	for {
		st, err := m.Accept(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		s.wait.Add(1)
		go func() {
			defer s.wait.Done()
			s.exchange(engine, st)
		}()
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
