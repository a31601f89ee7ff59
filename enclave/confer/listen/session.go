package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"tally/enclave"
	"tally/enclave/confer"
)

// A session serves requests, several at once, until the client goes.
type session struct {
	c      *confer.Server
	engine enclave.Engine
	opt    *Options

	running atomic.Int32
	quiet   *time.Timer // idle when it fires
}

func (s *server) session(ctx context.Context, c *confer.Server) error {
	defer c.Close()
	var secret [32]byte
	if _, err := io.ReadFull(s.opt.Rand, secret[:]); err != nil {
		return fmt.Errorf("confer listener: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x := &session{c: c, engine: s.opt.Engine.Session(secret), opt: &s.opt}
	x.quiet = time.AfterFunc(s.opt.SessionLifetime, func() {
		if x.running.Load() > 0 {
			x.quiet.Reset(s.opt.IdleTimeout)
			return
		}
		cancel(errIdle)
	})
	x.quiet.Reset(s.opt.IdleTimeout) // once the function can see it
	defer x.quiet.Stop()
	var requests sync.WaitGroup
	defer requests.Wait()
	defer cancel(context.Canceled) // of the engine's work: there is no other sign that a client has lost interest
	err := x.requests(ctx, &requests)
	if errors.Is(context.Cause(ctx), errIdle) {
		return errIdle
	}
	return err
}

// requests reads one after the other.
func (x *session) requests(ctx context.Context, wait *sync.WaitGroup) error {
	for {
		r, err := x.c.Receive(ctx)
		if err != nil {
			return err
		}
		x.quiet.Reset(x.opt.IdleTimeout)
		if n := x.running.Add(1); int(n) > x.opt.MaxRequests {
			x.running.Add(-1)
			if err := x.send(ctx, r.ID, 429, "Too many requests at a time"); err != nil {
				return err
			}
			continue
		}
		wait.Go(func() {
			defer x.running.Add(-1)
			if x.answer(ctx, r) != nil {
				x.c.Close() // a client that does not take its answer gets no other
			}
			x.quiet.Reset(x.opt.IdleTimeout)
		})
	}
}

// send is one response, which the client has a limited time to take.
func (x *session) send(ctx context.Context, id int64, status int32, body string) error {
	ctx, cancel := context.WithTimeout(ctx, x.opt.StallTimeout)
	defer cancel()
	return x.c.Send(ctx, &confer.Response{ID: id, Status: status, Body: []byte(body)})
}

// answer answers one request; its error means that the client did not take the answer.
func (x *session) answer(ctx context.Context, r *confer.Request) error {
	switch r.Verb + " " + r.Path {
	case "GET /ping":
		return x.send(ctx, r.ID, 200, "PONG")
	case "POST /v1/vllm/chat/completions":
		return x.outcome(ctx, r.ID, x.chat(ctx, r))
	case "POST /v1/embeddings":
		return x.outcome(ctx, r.ID, x.embed(ctx, r))
	case " ":
		return x.send(ctx, r.ID, 400, "No such upload")
	}
	return x.send(ctx, r.ID, 404, "Route not found")
}

// A refusal is an answer that is none, with a text that is the same for every content.
type refusal struct {
	status int32
	text   string
}

func (r *refusal) Error() string { return r.text }

// errUnsent means that the client did not take what was sent.
var errUnsent = errors.New("confer listener: the client does not take its answer")

// outcome tells the client how a request ended that did not end well.
func (x *session) outcome(ctx context.Context, id int64, err error) error {
	var no *refusal
	switch {
	case err == nil || errors.Is(err, errUnsent) || ctx.Err() != nil:
		return err
	case errors.As(err, &no):
		return x.send(ctx, id, no.status, no.text)
	}
	return x.send(ctx, id, 500, "The answer is incomplete")
}
