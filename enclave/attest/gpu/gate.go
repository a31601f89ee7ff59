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

// State is what the driver says about the machine's GPUs. Nothing signs it: it is believed because the enclave that
// asks is measured.
type State struct {
	ConfidentialCompute bool `json:"confidential_compute"` // on for all of them
	DeveloperTools      bool `json:"developer_tools"`      // on: memory can be read from outside
	GPUs                int  `json:"gpus"`                 // as many as the driver sees
	Switches            int  `json:"switches"`             // likewise
	SwitchesUnlocked    int  `json:"switches_unlocked"`    // of them: whose NVLink traffic may be watched from outside
}

// Collected is what a source returns.
type Collected struct {
	State   State
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
	Document []byte   // appraise/gpu.ParseEvidence
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
	// The caller's context may be what ended: the GPUs are closed all the same.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if cerr := g.Source.SetReady(late, false); cerr != nil {
		err = errors.Join(err, fmt.Errorf("GPU ready state: %w", cerr))
	}
	return nil, err
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
	in.Devices, in.Nonce, in.Now = got.Devices, &nonce, g.Now()
	res, err := appraise.Verify(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGate, err)
	}
	document, err := appraise.MarshalEvidence(got.Devices)
	if err != nil {
		return nil, fmt.Errorf("GPU evidence: %w", err)
	}
	return &Set{Document: document, Digest: appraise.SetDigest(document), Result: res}, nil
}

// check refuses what no policy may allow, and other devices than there must be.
func (g *Gate) check(c *Collected) error {
	gpus, switches := 0, 0
	for _, d := range c.Devices {
		if d.Arch.Switch() {
			switches++
		} else {
			gpus++
		}
	}
	switch {
	case c.State.GPUs == 0:
		return errors.New("the driver sees no GPU: a GPU release does not serve without")
	case !c.State.ConfidentialCompute: // first: GPUs without it give no evidence
		return errors.New("confidential computing is off")
	case c.State.DeveloperTools:
		return errors.New("developer tools are on")
	case gpus == 0:
		return fmt.Errorf("the driver sees %d GPUs and 0 gave evidence: a GPU release does not serve without", c.State.GPUs)
	case gpus != c.State.GPUs:
		return fmt.Errorf("the driver sees %d GPUs, %d gave evidence", c.State.GPUs, gpus)
	case switches != c.State.Switches:
		return fmt.Errorf("the driver sees %d switches, %d gave evidence", c.State.Switches, switches)
	case c.State.SwitchesUnlocked != 0:
		return fmt.Errorf("%d switches are not locked", c.State.SwitchesUnlocked)
	case gpus != g.GPUs || switches != g.Switches:
		return fmt.Errorf("%d GPUs and %d switches, want %d and %d", gpus, switches, g.GPUs, g.Switches)
	}
	return nil
}
