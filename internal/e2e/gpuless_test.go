package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

// TestGPUReleaseWithoutGPU boots an image whose measured configuration wants a GPU, on a machine that has none: it says so and powers
// off, and nobody is served.
func TestGPUReleaseWithoutGPU(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	spec, lock, out := filepath.Join(l.repo, "internal/e2e/testdata/gpuless/image.yaml"), filepath.Join(l.dir, "gpuless.lock"), filepath.Join(l.dir, "gpuless")
	if msg, err := l.try(l.dir, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	said, err := l.try(l.dir, nil, "run", out, "--boot", "direct", "--accel", "tcg", "--until-serving", "--timeout", "3m")
	if err == nil || !strings.Contains(said, "tally-enclave: refused: gpu: the driver has no GPU") || strings.Contains(said, "serving on") {
		t.Errorf("%v\n%s", err, said)
	}
}
