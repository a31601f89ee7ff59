package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"tally/enclave/channel"
)

var (
	errTooLong = errors.New("enclave: request too long")
	errPeer    = errors.New("enclave: the client ended the request unfinished")
)

// A request reads the client's half of an exchange.
type request struct {
	ctx  context.Context
	conn *channel.Conn
	id   uint32
	idle time.Duration
	left int64 // bytes that may still come
	rest []byte
	err  error // io.EOF after END

	early *early // the record that was read while the last exchange was answered, if any
	ended func() // told of END; not nil once the engine reads
	after *early // what is read after END
}

// An early is a record that is read before somebody asks for it.
type early struct {
	done chan struct{} // closed when rec and err stand
	rec  channel.Record
	err  error
}

// readEarly reads one record of c and calls gone when there is none: a client that closes or loses the
// session does not want the answer that is being made for it. It calls done last.
func readEarly(ctx context.Context, c *channel.Conn, gone, done func()) *early {
	e := &early{done: make(chan struct{})}
	go func() {
		defer done()
		if e.rec, e.err = c.Receive(ctx); e.err != nil {
			gone()
		}
		close(e.done)
	}()
	return e
}

// receive takes the record that was read early, or reads one.
func (r *request) receive(ctx context.Context) (channel.Record, error) {
	e := r.early
	if e == nil {
		return r.conn.Receive(ctx)
	}
	r.early = nil
	select {
	case <-e.done:
		return e.rec, e.err
	case <-ctx.Done():
		return channel.Record{}, context.Cause(ctx)
	}
}

// first waits for the exchange to begin. io.EOF means that the client closed the session instead.
func (r *request) first() error {
	err := r.fill()
	if errors.Is(err, io.EOF) && r.err == nil {
		return io.EOF
	}
	if errors.Is(r.err, io.EOF) || errors.Is(r.err, errTooLong) {
		return nil // the client is owed an answer
	}
	return r.err
}

// Read returns the request's bytes, and io.EOF only after an authenticated END.
func (r *request) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if err := r.fill(); errors.Is(err, io.EOF) && r.err == nil {
			r.err = errPeer // CLOSE in the middle of a request
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill takes one record. It returns io.EOF, and leaves r.err alone, when the session was closed.
func (r *request) fill() error {
	ctx, cancel := context.WithTimeout(r.ctx, r.idle)
	defer cancel()
	rec, err := r.receive(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		r.err = err
	case rec.Stream != r.id:
		r.err = fmt.Errorf("enclave: record of stream %d, want %d", rec.Stream, r.id)
	case rec.Type == channel.End && rec.Status != channel.StatusOK:
		r.err = errPeer
	case rec.Type == channel.End:
		if r.err = io.EOF; r.ended != nil {
			r.ended()
		}
	case int64(len(rec.Payload)) > r.left:
		r.err = errTooLong
	default:
		r.left -= int64(len(rec.Payload))
		r.rest = rec.Payload
	}
	return nil
}

// A response writes the enclave's half of an exchange.
type response struct {
	ctx  context.Context
	conn *channel.Conn
	id   uint32
	idle time.Duration
	err  error
}

// Write sends p in records as it comes.
func (w *response) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 && w.err == nil {
		part := p[:min(len(p), channel.MaxData)]
		w.send(channel.Record{Type: channel.Data, Stream: w.id, Payload: part})
		if w.err == nil {
			n, p = n+len(part), p[len(part):]
		}
	}
	return n, w.err
}

func (w *response) end(s channel.Status) error {
	w.send(channel.Record{Type: channel.End, Stream: w.id, Status: s})
	return w.err
}

// send gives a peer that does not read as long as one that does not write.
func (w *response) send(r channel.Record) {
	ctx, cancel := context.WithTimeout(w.ctx, w.idle)
	defer cancel()
	w.err = w.conn.Send(ctx, r)
}
