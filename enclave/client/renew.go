package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tally/enclave/appraise"
)

// ErrNotRenewed means that the enclave was not accepted again when it had to be, and that the session is over. The
// reason, an *appraise.Error or how the connection broke, is wrapped beside it.
var ErrNotRenewed = errors.New("client: the enclave was not accepted again, and the session has ended")

// Reappraise judges the enclave again, as of now, while the session goes on. What the policy wants about the
// session is asked for anew, so that an enclave that has lost its hardware since fails. A refusal is an
// *appraise.Error, and the session is over; so it is when ctx ends. A session does this by itself when the policy's
// time has come (appraise.Policy.Reappraise); calls wait for each other.
func (s *Session) Reappraise(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		s.end(context.Cause(ctx))
		return context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	err := s.finish(ctx, nil, func(in appraise.Input) (*appraise.Result, error) {
		in.Now = s.cfg.Now()
		return appraise.Appraise(in, s.cfg.Policy)
	})
	var refused *appraise.Error
	if errors.As(err, &refused) {
		s.cfg.Pins.forget(s.cfg.Authority)
	}
	return err
}

// A renewal is a Reappraise that the session does by itself, for whoever waits for it.
type renewal struct {
	done chan struct{} // closed when err is set
	err  error
}

// current returns nil when what the enclave was accepted by is no older than the policy allows. When it is, the enclave is
// judged again first: nothing of a request is sent before current has returned nil.
func (s *Session) current(ctx context.Context) error {
	left := s.left()
	s.mu.Lock()
	if s.ended != nil || left > 0 {
		defer s.mu.Unlock()
		return s.whyEnded()
	}
	r := s.renewing
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		s.renewing = r
		go s.renew(r)
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renew runs under no request's context: one that gives up must not end the session for the others. What it asks for has
// Config.EvidenceTimeout.
func (s *Session) renew(r *renewal) {
	err := s.Reappraise(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		r.err = s.whyEnded()
	}
	s.renewing = nil
	close(r.done)
}

// left is how long the last appraisal still counts. A clock that was set back says nothing.
func (s *Session) left() time.Duration {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	age := Age(s.at, now)
	if age < 0 {
		return 0
	}
	return s.cfg.Policy.ReappraiseAfter() - age
}

// Age is the time from then to now, and less than 0 when the clock was set back. The time in which a machine slept, which the
// monotonic clock leaves out, counts: the longer of both ages is taken.
func Age(then, now time.Time) time.Duration {
	wall := now.Round(0).Sub(then.Round(0))
	if wall < 0 {
		return wall
	}
	return max(wall, now.Sub(then))
}

// watch has the enclave judged again in time while an exchange runs, whoever sends or does not. A session without an
// exchange is left alone: its next one begins with current.
func (s *Session) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	after := s.cfg.After
	if after == nil {
		after = time.After
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-after(max(s.left(), 0)):
			}
			if s.current(ctx) != nil {
				return
			}
		}
	}()
	return cancel
}

// end ends the session for a reason, of which the first counts: all exchanges are told.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.ended == nil {
		s.ended = err
	}
	s.mu.Unlock()
	s.mux.Abort()
}

// whyEnded is what exchanges are told; s.mu is held.
func (s *Session) whyEnded() error {
	if s.ended == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotRenewed, s.ended)
}
