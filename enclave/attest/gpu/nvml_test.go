package gpu_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tally/enclave/attest/gpu"
	"tally/internal/testtool"
)

// TestNVMLHelper builds the helper that loads NVIDIA's library, and asks it. Without a driver it must say so in
// one line; what it does with one, no machine here shows.
func TestNVMLHelper(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: compiles go-nvml, with -short")
	}
	testtool.Need(t, "gcc")
	path := t.TempDir() + "/gpu-helper"
	build := exec.Command("go", "build", "-tags", "nvml", "-trimpath", "-o", path, "tally/cmd/gpu-helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-w -O1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h := &gpu.Helper{Path: path, Timeout: time.Minute}
	c, err := h.Collect(t.Context(), [32]byte{1})
	if err == nil {
		t.Logf("a driver answered: %+v, %d devices", c.State, len(c.Devices))
		return
	}
	if !strings.Contains(err.Error(), "NVML: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want NVML's reason in one line", err)
	}
	for _, args := range [][]string{{}, {"collect"}, {"ready", "on", "now"}} {
		if out, err := exec.Command(path, args...).CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %v %q, want one line", args, err, out)
		}
	}
}
