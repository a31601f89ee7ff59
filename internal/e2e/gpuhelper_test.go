package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	appraise "tally/enclave/appraise/gpu"
	attest "tally/enclave/attest/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/internal/testtool"
)

// helper compiles examples/gpu/helper with a driver that answers as macros say, from a published report of a GPU, and
// returns it with the report's device and nonce.
func helper(t *testing.T, dir string, macros ...string) (*attest.Helper, appraise.Device, [32]byte) {
	t.Helper()
	gcc := testtool.Need(t, "gcc")
	all, err := appraise.ParseEvidence(read(t, "../../enclave/appraise/gpu/testdata/vectors/attestation-sdk/hopper_evidence.json"), nil)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d devices, %v", len(all), err)
	}
	r, err := appraise.ParseReport(all[0].Report)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"report": all[0].Report, "chain": all[0].Chain} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "gpu-helper")
	args := []string{"-O1", "-Wall", "-Wextra", "-Werror", "-Itestdata/nvml", "-I../../cmd/gpu-helper", "-DDIR=\"" + dir + "\"", "-o", program, "../../examples/gpu/helper/gpu-helper.c",
		"../../cmd/gpu-helper/nscq.c", "testdata/nvml/nvml.c"}
	if out, err := exec.Command(gcc, append(args, macros...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &attest.Helper{Path: program, Timeout: time.Minute}, all[0], r.RequestNonce
}

// TestGPUHelper has the enclave's reader take what the image's helper prints.
func TestGPUHelper(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	h, d, nonce := helper(t, dir)
	got, err := h.Collect(ctx, nonce)
	want := &attest.Collected{State: appraise.DriverState{ConfidentialCompute: true, GPUs: 2}, Devices: []appraise.Device{d, d}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, ready := range []struct {
		is   bool
		want string
	}{{true, "1"}, {false, "0"}} {
		if err := h.SetReady(ctx, ready.is); err != nil || string(read(t, filepath.Join(dir, "ready"))) != ready.want {
			t.Errorf("ready %v: %v, %q", ready.is, err, read(t, filepath.Join(dir, "ready")))
		}
	}
	out, err := exec.Command(h.Path, "usage").Output()
	const usage = `{"schema": "tally.gpu-helper/v1", "processes": [{"gpu": 0, "pid": 10, "memory": 5000000000}, {"gpu": 0, "pid": 11}, ` +
		`{"gpu": 1, "pid": 20, "memory": 5000000000}], "used": [1001, 1002]}` + "\n"
	if err != nil || string(out) != usage {
		t.Errorf("usage: %v, %s", err, out)
	}
	if _, err := h.Collect(ctx, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "report: NVML: Unknown Error") {
		t.Errorf("another nonce: %v", err)
	}
	for _, args := range [][]string{{}, {"collect"}, {"collect", "00"}, {"collect", strings.Repeat("A", 64)}, {"collect", hex.EncodeToString(nonce[:]), "x"}, {"ready", "maybe"}, {"usage", "x"}, {"x"}} {
		cmd := exec.Command(h.Path, args...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "gpu-helper: ") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
}

// TestGPUHelperStates: the state is reported, and a driver that is not as expected ends the helper.
func TestGPUHelperStates(t *testing.T) {
	ctx := context.Background()
	for macro, want := range map[string]attest.Collected{
		"-DGPUS=0":                       {State: appraise.DriverState{ConfidentialCompute: true}},
		"-DFEATURE=0":                    {State: appraise.DriverState{GPUs: 2}},
		"-DFEATURE=0 -DGPUS=1 -DMULTI=1": {State: appraise.DriverState{ConfidentialCompute: true, GPUs: 1}, Devices: make([]appraise.Device, 1)},
		"-DDEVTOOLS=1 -DGPUS=1":          {State: appraise.DriverState{ConfidentialCompute: true, DeveloperTools: true, GPUs: 1}, Devices: make([]appraise.Device, 1)},
	} {
		h, _, nonce := helper(t, t.TempDir(), strings.Fields(macro)...)
		got, err := h.Collect(ctx, nonce)
		if err != nil || got.State != want.State || len(got.Devices) != len(want.Devices) {
			t.Errorf("%s: %+v, %v", macro, got, err)
		}
	}
	for macro, want := range map[string]string{
		"-DINIT=NVML_ERROR_UNKNOWN": "init: NVML: Unknown Error",
		"-DGPUS=33":                 "33 GPUs, want at most 32",
		"-DARCH=10":                 "a GPU of architecture 10: want Hopper (9)",
		"-DTOO_LARGE=0x10000":       "more than it has room for",
	} {
		h, _, nonce := helper(t, t.TempDir(), macro)
		if got, err := h.Collect(ctx, nonce); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", macro, got, err, want)
		}
	}
}

// TestGPUHelperSwitches has the image's helper ask a library of switches that is none.
func TestGPUHelperSwitches(t *testing.T) {
	dir := t.TempDir()
	h, d, nonce := helper(t, dir)
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-nscq.so.2"), "../../enclave/attest/gpu/testdata/fakelib/nscq.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v, err := gputest.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	want := []appraise.Device{d, d}
	for i := range 2 {
		s, err := v.Device(appraise.LS10, "", "96.10.55.00.01")
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Evidence(nonce)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
		for name, data := range map[string][]byte{"report": e.Report, "chain": e.Chain} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("switch%d.%s", i, name)), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	spoilt := func(how string) *attest.Helper {
		return &attest.Helper{Path: h.Path, Timeout: time.Minute, Run: func(ctx context.Context, path string, args []string, out, complaint io.Writer) error {
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LD_LIBRARY_PATH=" + dir, "FAKE=" + dir, "FAKE_NSCQ=" + how}, out, complaint
			return cmd.Run()
		}}
	}
	got, err := spoilt("").Collect(t.Context(), nonce)
	same := func(a, b appraise.Device) bool {
		return a.Arch == b.Arch && bytes.Equal(a.Report, b.Report) && bytes.Equal(a.Chain, b.Chain)
	}
	if err != nil || got.State != (appraise.DriverState{ConfidentialCompute: true, GPUs: 2, Switches: 2}) || !slices.EqualFunc(want, got.Devices, same) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := spoilt("mode").Collect(t.Context(), nonce); err != nil || got.State.SwitchesUnlocked != 2 {
		t.Errorf("switches that are not locked: %+v, %v", got, err)
	}
	for how, words := range map[string]string{"create": "session: NSCQ: code -7", "input": "nonce: NSCQ", "pcie_mode": "pcie_mode: NSCQ", "certificate": "certificate: NSCQ", "attestation_report": "attestation_report: NSCQ"} {
		if _, err := spoilt(how).Collect(t.Context(), nonce); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", how, err, words)
		}
	}
}
