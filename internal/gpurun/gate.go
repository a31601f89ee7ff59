package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
	"tally/enclave/evidence"
)

// askHelper has a program ask the driver as it does in an enclave. The vendor's library may be where only the caller's environment
// says.
func askHelper(path string) *gpu.Helper {
	return &gpu.Helper{Path: path, Timeout: time.Minute, Run: func(ctx context.Context, path string, args []string, stdout, stderr io.Writer) error {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}, stdout, stderr
		return cmd.Run()
	}}
}

// A looker leaves the GPUs' ready state alone: they are not this program's to open or close.
type looker struct {
	*gpu.Helper
	state *appraise.DriverState
}

func (looker) SetReady(context.Context, bool) error { return nil }

func (l looker) Collect(ctx context.Context, nonce [32]byte) (*gpu.Collected, error) {
	c, err := l.Helper.Collect(ctx, nonce)
	if err == nil {
		*l.state = c.State
	}
	return c, err
}

// askGate says what the driver's library told the helper of these GPUs, and what an enclave's gate makes of it.
func askGate(ctx context.Context, path string, gpus int, now func() time.Time) string {
	roots, err := appraise.NVIDIA()
	if err != nil {
		return err.Error()
	}
	var state appraise.DriverState
	g := &gpu.Gate{Source: looker{askHelper(path), &state}, GPUs: gpus, Now: now, Log: slog.New(slog.DiscardHandler), Verify: appraise.Input{Roots: roots, Policy: appraise.Policy{
		Floors: map[appraise.Arch]appraise.Floor{appraise.Hopper: {Driver: "0", VBIOS: "0"}}, Modes: []appraise.Mode{appraise.ModeUnstated}, UnpinnedRIM: true, NoOCSP: true, MinGPUs: gpus,
	}}}
	_, err = g.Attest(ctx, evidence.Claims{Static: [32]byte{1}})
	said := "opens"
	if err != nil {
		said = strings.ReplaceAll(fmt.Sprintf("refuses them: %v", err), "\n", "; ")
	}
	return fmt.Sprintf("The image's helper, compiled with go-nvml's header, asked the driver's library: %d GPUs, confidential computing %s, developer tools %s. The enclave's gate %s.",
		state.GPUs, onOff(state.ConfidentialCompute), onOff(state.DeveloperTools), said)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// helperProof wants the helper to list the engine, in the enclave's own check.
func helperProof(ctx context.Context, path string, pid int, least uint64) string {
	u, err := askHelper(path).Usage(ctx)
	if err == nil {
		err = u.Serves(func(p int) bool { return p == pid }, least)
	}
	if err != nil {
		return fmt.Sprintf(" The enclave's check of the engine by that helper: refused: %v.", err)
	}
	return " The enclave's check of the engine by that helper: it is on the GPU with the weights' memory."
}
