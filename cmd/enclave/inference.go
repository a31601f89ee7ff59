//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"tally/enclave"
	"tally/enclave/attest/gpu"
	"tally/enclave/infer"
	"tally/enclave/operate"
	"tally/enclave/secrets"
	"tally/internal/guest"
)

// engineStart is how long a request waits for an engine that is being started.
const engineStart = 30 * time.Second

// serveAll runs what the configuration asks for: the service, its engine, Confer's wire and the operator's page. When one
// of them ends, all do.
func serveAll(ctx context.Context, c *guest.Config, ln net.Listener, a enclave.Attester, r *guest.Reaper, m *operate.Metrics, log *slog.Logger) error {
	var engine enclave.Engine = enclave.Echo{}
	opt := enclave.Options{Logger: log, Observe: m.Session, Beacon: beaconFrom(c.Beacon), Cover: c.Cover}
	ready := func(context.Context) error { return nil }
	var parts []func(context.Context) error
	if c.Engine != nil {
		e, err := newEngine(c, r, m, log)
		if err != nil {
			return err
		}
		defer e.release()
		engine, ready = e.Engine, e.ready
		parts = append(parts, func(ctx context.Context) error {
			return guest.RunEngine(ctx, c.Engine, r, "/proc/self/exe", log, e.hooks)
		}, func(ctx context.Context) error {
			awaitReady(ctx, e.ready, m)
			<-ctx.Done()
			return nil
		})
		if e.gpus != nil {
			opt.GPUs, opt.GPUInterval = e.gpus, c.GPUs.Attest
		}
		opt.Secrets = e.secrets
		if c.Confer != nil {
			part, err := conferPart(c.Confer, a, e.Engine, m, log)
			if err != nil {
				return err
			}
			parts = append(parts, part)
		}
	}
	if c.Operator.IsValid() {
		op, err := net.Listen("tcp", c.Operator.String())
		if err != nil {
			return err
		}
		parts = append(parts, func(ctx context.Context) error { return operate.Serve(ctx, op, m, ready) })
	}
	serving := func() {
		fmt.Printf("tally-enclave: serving on %s\n", place(c))
		bootPhase(m, "serving")
	}
	parts = append(parts, func(ctx context.Context) error { return runServer(ctx, ln, a, engine, opt, serving) })
	return together(ctx, parts)
}

// An engine is the inference server with what it computes on.
type engine struct {
	*infer.Engine
	gpus    *gpu.Service   // nil: none
	secrets *secrets.Taker // nil: none
	hooks   guest.Hooks
	release func() // of the GPUs
}

func newEngine(c *guest.Config, r *guest.Reaper, m *operate.Metrics, log *slog.Logger) (*engine, error) {
	e := &engine{hooks: guest.Hooks{Ended: m.EngineEnded}, release: func() {}}
	opt := infer.Options{Socket: guest.EngineSocket, Patience: engineStart, Observe: m.Request}
	if c.GPUs != nil {
		opt.Admit = func() error { return e.gpus.Admit() }
	}
	var err error
	if e.Engine, err = infer.New(opt, time.Now); err != nil {
		return nil, err
	}
	if c.Secrets != nil {
		if err := e.waitForSecrets(c, m, log); err != nil {
			return nil, err
		}
	}
	if c.GPUs == nil {
		return e, nil
	}
	if e.gpus, err = newGPUs(c.GPUs, e.Engine, e.waits(), r, log); err != nil {
		return nil, err
	}
	e.hooks = guest.Hooks{Before: inTurn(e.hooks.Before, e.gpus.Before), Started: e.gpus.Started, Ended: func(n int) { e.gpus.Ended(); m.EngineEnded(n) }}
	e.release, err = guest.OpenGPUs()
	return e, err
}

// ready is whether requests are answered.
func (e *engine) ready(ctx context.Context) error {
	if e.secrets != nil && e.secrets.Waits() {
		return operate.ErrWaitsForSecrets
	}
	if e.gpus != nil {
		if err := e.gpus.Admit(); err != nil {
			return err
		}
	}
	return e.Ready(ctx)
}

// together runs parts until one ends or ctx does, then waits for all of them.
func together(ctx context.Context, parts []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, len(parts))
	for _, p := range parts {
		go func() {
			defer cancel()
			ends <- p(ctx)
		}()
	}
	var err error
	for range parts {
		err = errors.Join(err, <-ends)
	}
	return err
}

// awaitReady notes when the engine is healthy for the first time: its model is loaded then.
func awaitReady(ctx context.Context, ready func(context.Context) error, m *operate.Metrics) {
	for ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	bootPhase(m, "ready")
}

// bootPhase notes how long after the kernel's start a phase is reached, by the kernel's own count.
func bootPhase(m *operate.Metrics, phase string) {
	var since unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &since) == nil {
		m.Boot(phase, time.Duration(since.Nano()))
	}
}
