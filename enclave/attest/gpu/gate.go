// Package gpu is the enclave's side of GPU evidence: it collects evidence of every GPU and switch with a nonce of the
// enclave's key, verifies it as a client will, sets the GPUs ready only then, and does so again on a schedule.
//
// The hardware is behind [Source]. NVML needs cgo, so the one that talks to it is a process of its own ([Helper]).
package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/evidence"
)

// Collected is what a source returns.
type Collected struct {
	State   appraise.DriverState
	Devices []appraise.Device
}

// A Source is the machine's GPUs.
type Source interface {
	// Collect asks every GPU and switch with the nonce.
	Collect(ctx context.Context, nonce [32]byte) (*Collected, error)
	// SetReady lets the GPUs take work, or no more.
	SetReady(ctx context.Context, ready bool) error
	// Usage says who computes on them.
	Usage(ctx context.Context) (*Usage, error)
}

// A Gate decides whether the GPUs may serve. It is not safe for concurrent use.
type Gate struct {
	Source Source
	Verify appraise.Input // manifests, responses, roots and policy; devices, nonce and time are filled in

	GPUs, Switches int // that there must be, neither more nor fewer

	Now func() time.Time
	Log *slog.Logger
}

// A Set is evidence of all devices, as it is shipped to clients.
type Set struct {
	Document []byte   // appraise/gpu.ParseSet
	Digest   [32]byte // goes into the claims' field GPU
	Result   *appraise.Result
}

// ErrGate is wrapped by every error that says what the machine's GPUs are, not that they could not be asked.
var ErrGate = errors.New("GPUs refused")

// Attest collects and verifies evidence for the key that c is about, c.GPU aside, and sets the GPUs ready when it is in
// order. When anything fails they are set not ready, whatever they were before.
func (g *Gate) Attest(ctx context.Context, c evidence.Claims) (*Set, error) {
	set, err := g.attest(ctx, appraise.Nonce(c))
	if err == nil {
		if err = g.Source.SetReady(ctx, true); err == nil {
			g.Log.Info("GPUs verified and ready", "devices", len(set.Result.Devices))
			return set, nil
		}
		err = fmt.Errorf("GPU ready state: %w", err)
	}
	return nil, errors.Join(err, g.Close(ctx))
}

// Close sets the GPUs not ready, also when ctx has ended.
func (g *Gate) Close(ctx context.Context) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := g.Source.SetReady(late, false); err != nil {
		return fmt.Errorf("GPU ready state: %w", err)
	}
	return nil
}

const closeTimeout = 30 * time.Second

func (g *Gate) attest(ctx context.Context, nonce [32]byte) (*Set, error) {
	got, err := g.Source.Collect(ctx, nonce)
	if err != nil {
		return nil, fmt.Errorf("GPU evidence: %w", err)
	}
	if err := g.check(got); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGate, err)
	}
	in := g.Verify
	in.Devices, in.Driver, in.Nonce, in.Now = got.Devices, &got.State, &nonce, g.Now()
	res, err := appraise.Verify(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGate, err)
	}
	document, err := (&appraise.Set{Driver: got.State, Devices: got.Devices}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("GPU evidence: %w", err)
	}
	return &Set{Document: document, Digest: appraise.SetDigest(document), Result: res}, nil
}

// check refuses what no policy may allow, and other devices than there must be.
func (g *Gate) check(c *Collected) error {
	if err := c.State.Check(c.Devices); err != nil {
		return err
	}
	if c.State.GPUs != g.GPUs || c.State.Switches != g.Switches {
		return fmt.Errorf("%d GPUs and %d switches, want %d and %d", c.State.GPUs, c.State.Switches, g.GPUs, g.Switches)
	}
	return nil
}
