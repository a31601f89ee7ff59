package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tally/enclave"
	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/evidence"
)

// An Engine is what computes on the GPUs.
type Engine interface {
	Ready(ctx context.Context) error // nil once it has loaded its model
	Probe(ctx context.Context) error // has it compute a token
}

// Options are what a Service needs.
type Options struct {
	Gate        *Gate
	RIMs        [][]byte                                    // the manifests of Gate.Verify as files, for clients
	OCSP        func(ctx context.Context) ([][]byte, error) // the host's newest responses, for clients; nil: none
	Engine      Engine
	Owns        func(engine, pid int) bool // whether a process is the engine's, whose first one is engine
	LeastMemory uint64                     // bytes that the engine must hold on the GPUs
	LoadTime    time.Duration              // how long it may take to load its model

	// Waits reports whether the engine is not started yet because it waits for what comes in a session, a key to its model,
	// say. Sessions are opened then. nil: it never does.
	Waits func() bool
}

// A Service makes a Gate and an engine the GPUs of an enclave. The engine starts once the GPUs are verified, gets
// requests only while it was seen to compute on them, and is killed when they are lost or it is not seen on them any more.
type Service struct {
	opt     Options
	changed chan struct{}
	turn    chan struct{} // one at a time asks the GPUs

	mu       sync.Mutex
	ready    chan struct{} // closed while the GPUs take work; another one after each time that they do not
	engine   int           // its first process; 0: it does not run
	stop     func()        // kills it
	admitted bool          // it was seen to compute on the GPUs, and runs since
	waited   bool          // Serving has said that it waits: nobody looks at it when it starts but who is told
	ocsp     [][]byte
}

var _ enclave.GPUs = (*Service)(nil)

// NewService returns a Service. It asks nobody yet.
func NewService(opt Options) (*Service, error) {
	if opt.Gate == nil || opt.Engine == nil || opt.Owns == nil || opt.LoadTime <= 0 || opt.LeastMemory == 0 {
		return nil, errors.New("gpu: options: want Gate, Engine, Owns, LeastMemory and LoadTime")
	}
	return &Service{opt: opt, changed: make(chan struct{}, 1), turn: make(chan struct{}, 1), ready: make(chan struct{})}, nil
}

// Attest is enclave.GPUs'.
func (s *Service) Attest(ctx context.Context, c evidence.Claims) (*enclave.GPUSet, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	set, err := s.opt.Gate.Attest(ctx, c)
	if err != nil {
		s.close()
		return nil, err
	}
	s.refreshOCSP(ctx)
	s.open()
	return &enclave.GPUSet{Digest: set.Digest, Ship: func() ([]byte, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return (&appraise.Shipment{Document: set.Document, RIMs: s.opt.RIMs, OCSP: s.ocsp}).Marshal()
	}}, nil
}

// refreshOCSP keeps what the host has: without it clients still have what they fetched themselves.
func (s *Service) refreshOCSP(ctx context.Context) {
	if s.opt.OCSP == nil {
		return
	}
	all, err := s.opt.OCSP(ctx)
	if err != nil {
		s.opt.Gate.Log.Warn("no OCSP responses for clients", "reason", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ocsp = all
}

func (s *Service) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.takeWork() {
		close(s.ready)
	}
}

// takeWork reports whether the GPUs do. The caller holds mu.
func (s *Service) takeWork() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// close has the engine end, which holds what sessions left on the GPUs.
func (s *Service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeWork() {
		s.ready = make(chan struct{})
	}
	s.admitted = false
	if s.stop != nil {
		s.stop()
	}
}

// Changed is enclave.GPUs'.
func (s *Service) Changed() <-chan struct{} { return s.changed }

// Before waits until the GPUs take work: an engine that starts earlier finds none.
func (s *Service) Before(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Started says that the engine runs, with its first process and how to kill it.
func (s *Service) Started(pid int, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine, s.stop, s.admitted = pid, stop, false
	if s.waited {
		s.waited = false
		s.change()
	}
	if !s.takeWork() {
		stop() // lost between Before and now
	}
}

// Ended says that it does not run any more: the next one is looked at before it gets requests.
func (s *Service) Ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.admitted
	s.engine, s.stop, s.admitted = 0, nil, false
	if !seen {
		return // somebody waits for it, or nobody is served
	}
	s.change()
}

// change has the GPUs looked at soon.
func (s *Service) change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Admit returns an error unless the engine was seen to compute on the GPUs.
func (s *Service) Admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.admitted {
		return errors.New("gpu: the engine was not seen to compute on the GPUs")
	}
	return nil
}

// waits reports whether the engine has not been started, and remembers that somebody was told so.
func (s *Service) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = s.opt.Waits != nil && s.engine == 0 && s.opt.Waits()
	return s.waited
}

// pollEngine is how often an engine that loads is asked.
const pollEngine = 200 * time.Millisecond

// probeTime bounds one token.
const probeTime = time.Minute

// Serving is enclave.GPUs': it waits until the engine has loaded its model, has it compute a token, and wants it to be
// among those that compute on the GPUs. Otherwise the engine is killed and the GPUs take no work: the next one starts when
// they have been attested again.
func (s *Service) Serving(ctx context.Context) error {
	err := s.seen(ctx)
	if err == nil || errors.Is(err, enclave.ErrEngineWaits) || ctx.Err() != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return err
	}
	s.close()
	return errors.Join(err, s.opt.Gate.Close(ctx))
}

func (s *Service) seen(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.LoadTime, fmt.Errorf("the engine is not ready after %s", s.opt.LoadTime))
	defer cancel()
	for s.opt.Engine.Ready(ctx) != nil {
		if s.waits() {
			return enclave.ErrEngineWaits
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEngine):
		}
	}
	s.mu.Lock()
	engine, seen, ready, work := s.engine, s.admitted, s.ready, s.takeWork()
	s.mu.Unlock()
	switch {
	case engine == 0:
		return errors.New("the engine has ended")
	case !work: // and it is being killed
		return errors.New("the GPUs take no work")
	}
	if !seen { // one that serves may have a queue, and is on the GPUs or not at any time
		probe, stop := context.WithTimeout(ctx, probeTime)
		defer stop()
		if err := s.opt.Engine.Probe(probe); err != nil {
			return fmt.Errorf("the engine computes nothing: %w", err)
		}
	}
	u, err := s.opt.Gate.Source.Usage(ctx)
	if err != nil {
		return err
	}
	if err := u.Serves(func(pid int) bool { return s.opt.Owns(engine, pid) }, s.opt.LeastMemory); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != engine || s.ready != ready {
		return errors.New("the engine has ended, or the GPUs were lost")
	}
	s.admitted = true
	return nil
}
