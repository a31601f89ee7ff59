package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

// TestVsockInAGuest has sessions over vsock in a guest whose kernel has its loopback, which the one that runs this test may not have.
func TestVsockInAGuest(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	spec, lock, out := filepath.Join(l.repo, "internal/e2e/testdata/vsock/image.yaml"), filepath.Join(l.dir, "vsock.lock"), filepath.Join(l.dir, "vsock")
	if msg, err := l.try(l.dir, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "5m", "--until", "vsock: done")
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, what := range []string{"session", "truncated", "nobody", "closed"} {
		if !strings.Contains(string(said), "vsock: "+what+": <nil>") {
			t.Errorf("%s did not end well\n%s", what, said)
		}
	}
}
