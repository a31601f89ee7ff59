package gpu_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/internal/testtool"
)

// TestNVMLHelper builds the helper that loads NVIDIA's libraries, and asks it. Without a driver it must say so in one line; what it
// does with one is shown on libraries that are ours and lay out the vendor's structures by hand: the real ones no machine here has.
func TestNVMLHelper(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: compiles go-nvml, with -short")
	}
	gcc := testtool.Need(t, "gcc")
	dir := t.TempDir()
	path := dir + "/gpu-helper"
	build := exec.Command("go", "build", "-tags", "nvml", "-trimpath", "-o", path, "tally/cmd/gpu-helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-w -O1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	withoutDriver(t, path)
	for lib, source := range map[string]string{"libnvidia-ml.so.1": "nvml.c", "libnvidia-nscq.so.2": "nscq.c"} {
		if out, err := exec.Command(gcc, "-shared", "-fPIC", "-Wall", "-o", dir+"/"+lib, "testdata/fakelib/"+source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	withFakeLibraries(t, path, dir)
}

func withoutDriver(t *testing.T, path string) {
	t.Helper()
	h := &gpu.Helper{Path: path, Timeout: time.Minute}
	c, err := h.Collect(t.Context(), [32]byte{1})
	if err == nil {
		t.Logf("a driver answered: %+v, %d devices", c.State, len(c.Devices))
		return
	}
	if !strings.Contains(err.Error(), "NVML: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want NVML's reason in one line", err)
	}
	for _, args := range [][]string{{}, {"collect"}, {"usage", "now"}, {"ready", "on", "now"}} {
		if out, err := exec.Command(path, args...).CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %v %q, want one line", args, err, out)
		}
	}
}

// withFakeLibraries has the helper collect from two GPUs and two switches, whose evidence for one nonce is put into files.
func withFakeLibraries(t *testing.T, path, dir string) {
	t.Helper()
	v, err := gputest.New(now)
	fatal(t, err)
	nonce := [32]byte{7, 8, 9}
	var want []appraise.Device
	for i, name := range []string{"gpu0", "gpu1", "switch0", "switch1"} {
		arch, driver, vbios := appraise.Hopper, "550.90.07", "96.00.5E.00.01"
		if i > 1 {
			arch, driver, vbios = appraise.LS10, "", "96.10.55.00.01"
		}
		d, err := v.Device(arch, driver, vbios)
		fatal(t, err)
		e, err := d.Evidence(nonce)
		fatal(t, err)
		want = append(want, e)
		fatal(t, os.WriteFile(dir+"/"+name+".report", e.Report, 0o600))
		fatal(t, os.WriteFile(dir+"/"+name+".chain", e.Chain, 0o600))
	}
	helper := func(mode, spoil string) *gpu.Helper {
		return &gpu.Helper{Path: path, Timeout: time.Minute, Run: func(ctx context.Context, path string, args []string, out, complaint io.Writer) error {
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LD_LIBRARY_PATH=" + dir, "FAKE=" + dir, "FAKE_MODE=" + mode, "FAKE_NSCQ=" + spoil}, out, complaint
			return cmd.Run()
		}}
	}
	for mode, s := range map[string]appraise.DriverState{
		"100": {ConfidentialCompute: true}, "110": {ConfidentialCompute: true, DeveloperTools: true}, "001": {ConfidentialCompute: true}, "000": {},
	} {
		c, err := helper(mode, "").Collect(t.Context(), nonce)
		fatal(t, err)
		s.GPUs, s.Switches = 2, 2
		expect := want
		if !s.ConfidentialCompute {
			expect = want[2:]
		}
		same := slices.EqualFunc(expect, c.Devices, func(a, b appraise.Device) bool {
			return a.Arch == b.Arch && bytes.Equal(a.Report, b.Report) && bytes.Equal(a.Chain, b.Chain)
		})
		if c.State != s || !same {
			t.Errorf("mode %s: %+v with %d devices, want %+v", mode, c.State, len(c.Devices), s)
		}
	}
	c, err := helper("100", "mode").Collect(t.Context(), nonce)
	if err != nil || c.State.SwitchesUnlocked != 2 {
		t.Errorf("switches that are not locked: %+v, %v", c, err)
	}
	for spoil, words := range map[string]string{"create": "session: NSCQ: code -7", "input": "nonce: NSCQ", "pcie_mode": "pcie_mode: NSCQ", "certificate": "certificate: NSCQ", "attestation_report": "attestation_report: NSCQ"} {
		if _, err := helper("100", spoil).Collect(t.Context(), nonce); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", spoil, err, words)
		}
	}
	if _, err := helper("100", "").Collect(t.Context(), [32]byte{1}); err == nil || !strings.Contains(err.Error(), "report: NVML") {
		t.Errorf("another nonce: %v", err)
	}
	u, err := helper("100", "").Usage(t.Context())
	if err != nil || !slices.Equal(u.Used, []uint64{100, 101}) || len(u.Processes) != 2 || u.Processes[0].PID != 41 || *u.Processes[0].Memory != 64 || u.Processes[1].PID != 42 || u.Processes[1].Memory != nil {
		t.Errorf("usage %+v, %v", u, err)
	}
	for ready, text := range map[bool]string{true: "1", false: "0"} {
		fatal(t, helper("100", "").SetReady(t.Context(), ready))
		if b, err := os.ReadFile(dir + "/ready"); err != nil || string(b) != text {
			t.Errorf("ready state %q, %v; want %s", b, err, text)
		}
	}
	fatal(t, os.Remove(dir+"/libnvidia-nscq.so.2"))
	if c, err = helper("100", "").Collect(t.Context(), nonce); err != nil || c.State.Switches != 0 || len(c.Devices) != 2 {
		t.Errorf("no library of switches: %+v, %v", c, err)
	}
}
