//go:build linux

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/enclave/operate"
	"tally/internal/guest"
)

func gpuConfig(t *testing.T) (*guest.GPUs, []byte) {
	t.Helper()
	v, err := gputest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := v.RIM(appraise.Hopper, "550.90.07", 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "driver.xml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return &guest.GPUs{Helper: "/helper", Count: 8, Switches: 4, Accept: []guest.GPUFloor{{Family: "hopper", Driver: "550.90.07", VBIOS: "96.00.5E.00.01"}, {Family: "ls10", VBIOS: "96.10.55.00.01"}},
		Modes: []string{"ppcie"}, RIMs: []string{path}, EngineMemoryMiB: 7, LoadTime: time.Minute, Attest: time.Hour}, text
}

// TestGPUInput: what the measured configuration says is what the gate holds GPUs to, and the vendor's roots are the only ones.
func TestGPUInput(t *testing.T) {
	c, text := gpuConfig(t)
	in, rims, err := gpuInput(c)
	if err != nil {
		t.Fatal(err)
	}
	p := in.Policy
	if p.MinGPUs != 8 || p.MinSwitches != 4 || len(p.Floors) != 2 || p.Floors[appraise.Hopper] != (appraise.Floor{Driver: "550.90.07", VBIOS: "96.00.5E.00.01"}) ||
		p.Floors[appraise.LS10] != (appraise.Floor{VBIOS: "96.10.55.00.01"}) || len(p.Modes) != 1 || p.Modes[0] != appraise.ModePPCIE ||
		len(p.RIMs) != 1 || p.UnpinnedRIM || !p.NoOCSP || len(rims) != 1 || string(rims[0]) != string(text) || len(in.RIMs) != 1 || p.RIMs[0] != in.RIMs[0].SHA256 {
		t.Errorf("%+v", in)
	}
	if vendor, err := appraise.NVIDIA(); err != nil || in.Roots.Device == nil || !in.Roots.Device.Equal(vendor.Device) || !in.Roots.RIM.Equal(vendor.RIM) {
		t.Errorf("roots %+v, %v", in.Roots, err)
	}
	for name, x := range map[string]struct {
		change func(*guest.GPUs)
		want   string
	}{
		"driver":    {func(c *guest.GPUs) { c.Accept[0].Driver = "550.x" }, "gpu.accept: hopper"},
		"vbios":     {func(c *guest.GPUs) { c.Accept[1].VBIOS = "96.10.GG" }, "gpu.accept: ls10"},
		"no file":   {func(c *guest.GPUs) { c.RIMs[0] += "x" }, "no such file"},
		"large":     {func(c *guest.GPUs) { c.RIMs[0] = large(t) }, "more than"},
		"no tag":    {func(c *guest.GPUs) { c.RIMs[0] = "/proc/self/status" }, "gpu.rims: /proc/self/status: RIM"},
		"no family": {func(c *guest.GPUs) { c.Accept = nil }, "no family"},
	} {
		c, _ := gpuConfig(t)
		x.change(c)
		if _, _, err := gpuInput(c); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
		if _, err := newGPUs(c, nil, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: GPUs without an error", name)
		}
	}
}

// TestNoGPU: a configuration that wants GPUs does not serve on a machine without.
func TestNoGPU(t *testing.T) {
	if all, err := filepath.Glob("/proc/driver/nvidia/gpus/*"); err != nil || len(all) > 0 {
		t.Skip("SKIPPED: this machine has a GPU")
	}
	c, _ := gpuConfig(t)
	_, err := newEngine(&guest.Config{Engine: &guest.Engine{GPU: true}, GPUs: c}, new(guest.Reaper), new(operate.Metrics), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "gpu: the driver has no GPU") {
		t.Errorf("%v", err)
	}
}

func large(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large.xml")
	if err := os.WriteFile(path, make([]byte, appraise.MaxRIM+1), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFetchOCSP(t *testing.T) {
	text := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }))
	defer s.Close()
	for in, want := range map[string]int{`["MAA=","MAE="]`: 2, `[]`: 0, `["?"]`: -1, `[""]`: -1, `{}`: -1, `["` + strings.Repeat("A", 40000) + `"]`: -1, "": -1,
		"[" + strings.Repeat(`"MAA=",`, 255) + `"MAA="]`: 256, "[" + strings.Repeat(`"MAA=",`, 256) + `"MAA="]`: -1} {
		text = in
		all, err := fetchOCSP(t.Context(), s.URL)
		if (err == nil) != (want >= 0) || err == nil && len(all) != want {
			t.Errorf("%.40s: %d responses, %v", in, len(all), err)
		}
	}
	s.Close()
	if _, err := fetchOCSP(t.Context(), s.URL); err == nil {
		t.Error("no host: no error")
	}
}

// TestInNamespaceOf: a process that the driver names is the engine's when it is in the engine's PID namespace.
func TestInNamespaceOf(t *testing.T) {
	if !inNamespaceOf(os.Getpid(), os.Getpid()) {
		t.Error("a process is not in its own namespace")
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if inNamespaceOf(os.Getpid(), pid) || inNamespaceOf(pid, os.Getpid()) {
			t.Errorf("process %d is somewhere", pid)
		}
	}
}
