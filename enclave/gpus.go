package enclave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/enclave/evidence"
)

// GPUs are what an enclave computes on whose release says that it has some. Its methods may be called from several goroutines.
//
// Serve has them attested for each key before the key is, wants the engine to compute on them before it accepts anybody, and does both
// again every so often. When that fails, all sessions end, their clients are told that a GPU was lost, and nobody is
// served until both have succeeded again, under a new key.
type GPUs interface {
	// Attest collects evidence of all GPUs for the key that c is about, c.GPU aside, verifies it, and lets them take
	// work. After an error they take none. A later look at GPUs that serve is about a random key.
	Attest(ctx context.Context, c evidence.Claims) (*GPUSet, error)

	// Serving returns an error unless the engine computes on the GPUs; after one they take no work until Attest. It may
	// wait for an engine that is being started, and returns ErrEngineWaits for one that is not, because it waits for what
	// comes in a session.
	Serving(ctx context.Context) error

	// Changed delivers when there is reason to look at once: the engine was started again, say. nil: never.
	Changed() <-chan struct{}
}

// A GPUSet is evidence of all GPUs, about one key.
type GPUSet struct {
	Digest [32]byte               // for the claims' field GPU
	Ship   func() ([]byte, error) // what a client gets who asks for it: an appraise/gpu.Shipment
}

// Times between looks at the GPUs.
const (
	defaultGPUInterval = time.Hour
	gpuRetry           = 30 * time.Second // and after a loss
)

// ErrEngineWaits is GPUs.Serving's word that the engine is not started before something has come in a session: sessions are
// opened then, and no request may reach an engine.
var ErrEngineWaits = errors.New("enclave: the engine waits for what comes in a session")

// errGPULost is why sessions end when GPUs were lost.
var errGPULost = errors.New("enclave: a GPU was lost")

// A gpuError is an errGPULost with what happened.
type gpuError struct{ error }

func (e *gpuError) Is(target error) bool { return target == errGPULost }
func (e *gpuError) Unwrap() error        { return e.error }

// A gpuState is whether the GPUs may serve. A nil one is that of an enclave without.
type gpuState struct {
	gpus GPUs
	opt  Options

	lost chan struct{} // whoever finds a loss tells watchGPUs, which is not always who looked

	mu     sync.Mutex
	losses uint64          // so far; keys of before a loss are not used after it
	ctx    context.Context // ends with cause errGPULost when a GPU is lost; nil while that is so
	cancel context.CancelCauseFunc
}

func newGPUState(opt Options) *gpuState {
	if opt.GPUs == nil {
		return nil
	}
	return &gpuState{gpus: opt.GPUs, opt: opt, lost: make(chan struct{}, 1)}
}

// era counts losses. What was attested in another one is void.
func (g *gpuState) era() uint64 {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.losses
}

// bind attests the GPUs for the key of c and puts their digest into c.
func (g *gpuState) bind(ctx context.Context, c *evidence.Claims) (*GPUSet, error) {
	if g == nil {
		return nil, nil
	}
	set, err := g.attest(ctx, *c)
	if err != nil {
		g.lose(ctx, err)
		return nil, &gpuError{fmt.Errorf("enclave: attesting the GPUs: %w", err)}
	}
	b, err := set.Ship()
	switch {
	case err != nil:
		return nil, fmt.Errorf("enclave: GPU set for clients: %w", err)
	case len(b) == 0 || len(b) > channel.MaxGPUEvidence:
		return nil, fmt.Errorf("enclave: GPU set of %d bytes, want 1 to %d", len(b), channel.MaxGPUEvidence)
	}
	c.GPU = set.Digest[:]
	return set, nil
}

// attest tells what came of it, unless ctx ended first.
func (g *gpuState) attest(ctx context.Context, c evidence.Claims) (*GPUSet, error) {
	set, err := g.gpus.Attest(ctx, c)
	switch {
	case err == nil:
		g.opt.observe(GPUsVerified, "")
	case ctx.Err() == nil:
		g.opt.observe(GPUsRefused, "")
	}
	return set, err
}

// check looks at GPUs that serve. What they say is thrown away, and is about a key that nobody has: what they have said about the one that
// serves, recorded, does not answer it.
func (g *gpuState) check(ctx context.Context, c evidence.Claims) error {
	_, err := io.ReadFull(g.opt.Rand, c.Static[:])
	if err == nil {
		_, err = g.attest(ctx, c)
	}
	if err == nil {
		err = g.engine(ctx)
	}
	if err != nil {
		g.lose(ctx, err)
	}
	return err
}

// engine wants it on the GPUs, or not there at all.
func (g *gpuState) engine(ctx context.Context) error {
	if err := g.gpus.Serving(ctx); !errors.Is(err, ErrEngineWaits) {
		return err
	}
	return nil
}

// lose ends all sessions, unless ctx ended, which is no finding about the GPUs.
func (g *gpuState) lose(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.losses++
	if g.ctx == nil {
		return
	}
	g.opt.Logger.Error("GPUs lost: sessions end", "reason", err)
	g.opt.observe(GPUsLost, "")
	g.cancel(errGPULost)
	g.ctx, g.cancel = nil, nil
	select {
	case g.lost <- struct{}{}:
	default:
	}
}

// regain opens the enclave, unless GPUs were lost since era.
func (g *gpuState) regain(era uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.losses != era {
		return false
	}
	if g.ctx == nil {
		g.ctx, g.cancel = context.WithCancelCause(context.Background())
		g.opt.Logger.Info("GPUs verified, and the engine computes on them")
		g.opt.observe(GPUsServe, "")
	}
	return true
}

// serving reports whether sessions may be opened.
func (g *gpuState) serving() bool {
	if g == nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ctx != nil
}

// join returns a context for a session, which ends with ctx and, with cause errGPULost, when a GPU is lost.
func (g *gpuState) join(ctx context.Context) (context.Context, context.CancelFunc) {
	if g == nil {
		return context.WithCancel(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	g.mu.Lock()
	era := g.ctx
	g.mu.Unlock()
	if era == nil {
		cancel(errGPULost)
		return ctx, func() {}
	}
	stop := context.AfterFunc(era, func() { cancel(errGPULost) })
	return ctx, func() { stop(); cancel(nil) }
}

// openGPUs is the first look, or the first after a loss: a key, and the GPUs with it, are attested anew.
func (s *server) openGPUs(ctx context.Context) error {
	if s.gpus == nil {
		return nil
	}
	era := s.gpus.era()
	if err := s.gpus.engine(ctx); err != nil {
		s.gpus.lose(ctx, err)
		return &gpuError{fmt.Errorf("enclave: the engine does not compute on the GPUs: %w", err)}
	}
	if !s.gpus.regain(era) {
		return errGPULost
	}
	return nil
}

// watchGPUs looks at the GPUs until ctx ends. Accepting sessions never waits for it.
func (s *server) watchGPUs(ctx context.Context) {
	for wait := s.opt.GPUInterval; ; {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.gpus.lost:
			t.Stop()
			wait = min(s.opt.GPUInterval, gpuRetry)
			continue
		case <-s.gpus.gpus.Changed():
		case <-t.C:
		}
		t.Stop()
		wait = s.opt.GPUInterval
		if s.lookAtGPUs(ctx) != nil {
			wait = min(wait, gpuRetry)
		}
	}
}

func (s *server) lookAtGPUs(ctx context.Context) error {
	if s.gpus.serving() {
		return s.gpus.check(ctx, s.keys.claims())
	}
	err := s.keys.renew(ctx)
	if err == nil {
		err = s.openGPUs(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.opt.Logger.Warn("GPUs still not verified", "reason", err)
	}
	return err
}
