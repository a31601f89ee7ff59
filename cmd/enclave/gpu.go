//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
	"tally/internal/guest"
)

// helperTime bounds one call of the helper: eight GPUs give their reports one after the other.
const helperTime = 2 * time.Minute

// newGPUs makes the GPUs that the configuration wants of those that are there.
func newGPUs(c *guest.GPUs, engine gpu.Engine, waits func() bool, r *guest.Reaper, log *slog.Logger) (*gpu.Service, error) {
	in, rims, err := gpuInput(c)
	if err != nil {
		return nil, err
	}
	opt := gpu.Options{
		Gate: &gpu.Gate{Source: &gpu.Helper{Path: c.Helper, Timeout: helperTime, Run: r.Command}, Verify: in,
			GPUs: c.Count, Switches: c.Switches, Now: time.Now, Log: log},
		RIMs: rims, Engine: engine, Owns: inNamespaceOf, LeastMemory: uint64(c.EngineMemoryMiB) << 20, LoadTime: c.LoadTime, Waits: waits,
	}
	if c.OCSP != "" {
		opt.OCSP = func(ctx context.Context) ([][]byte, error) { return fetchOCSP(ctx, c.OCSP) }
	}
	return gpu.NewService(opt)
}

// gpuInput is what the enclave holds its GPUs to, with the manifests as files. It asks for no OCSP responses: what it has of
// them comes from the host, and clients judge how old they are.
func gpuInput(c *guest.GPUs) (in appraise.Input, rims [][]byte, err error) {
	p := appraise.Policy{Floors: map[appraise.Arch]appraise.Floor{}, NoOCSP: true, MinGPUs: c.Count, MinSwitches: c.Switches}
	for _, f := range c.Accept {
		arch := appraise.Arch(strings.ToUpper(f.Family))
		if !arch.Switch() {
			err = appraise.CheckDriverVersion(f.Driver)
		}
		if err == nil {
			err = appraise.CheckVBIOSVersion(f.VBIOS)
		}
		if err != nil {
			return in, nil, fmt.Errorf("%s: gpu.accept: %s: %w", guest.ConfigPath, f.Family, err)
		}
		p.Floors[arch] = appraise.Floor{Driver: f.Driver, VBIOS: f.VBIOS}
	}
	for _, m := range c.Modes {
		p.Modes = append(p.Modes, appraise.Mode(m))
	}
	for _, path := range c.RIMs {
		text, err := readAtMost(path, appraise.MaxRIM)
		if err != nil {
			return in, nil, fmt.Errorf("gpu.rims: %w", err)
		}
		r, err := appraise.ParseRIM(text)
		if err != nil {
			return in, nil, fmt.Errorf("gpu.rims: %s: %w", path, err)
		}
		// The verified root pins them, as the release does for clients.
		in.RIMs, rims, p.RIMs = append(in.RIMs, r), append(rims, text), append(p.RIMs, r.SHA256)
	}
	in.Policy = p
	if err := p.Check(); err != nil {
		return in, nil, fmt.Errorf("%s: gpu: %w", guest.ConfigPath, err)
	}
	in.Roots, err = appraise.NVIDIA()
	return in, rims, err
}

func readAtMost(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}

// inNamespaceOf reports whether a process is in the PID namespace that the engine's first process made.
func inNamespaceOf(engine, pid int) bool {
	its, err := guest.PIDNamespace(engine)
	if err != nil {
		return false
	}
	ours, err := guest.PIDNamespace(pid)
	return err == nil && ours == its
}

// Limits of what the host hands over as OCSP responses.
const (
	ocspTime = 15 * time.Second
	maxOCSP  = 512 << 10 // bytes of the JSON
)

// fetchOCSP gets the host's responses. Nothing here depends on them.
func fetchOCSP(ctx context.Context, url string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ocspTime)
	defer cancel()
	b, err := fetch(ctx, url, maxOCSP)
	if err != nil {
		return nil, fmt.Errorf("OCSP: %w", err)
	}
	var all [][]byte
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("OCSP: %w", err)
	}
	if len(all) > appraise.MaxResponses {
		return nil, fmt.Errorf("OCSP: %d responses, want at most %d", len(all), appraise.MaxResponses)
	}
	for i, r := range all {
		if len(r) == 0 || len(r) > appraise.MaxOCSP {
			return nil, fmt.Errorf("OCSP response %d: %d bytes, want 1 to %d", i, len(r), appraise.MaxOCSP)
		}
	}
	return all, nil
}
