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
	said := bootOnly(t, "image", "vsock: done")
	for _, what := range []string{"session", "truncated", "nobody", "closed"} {
		if !strings.Contains(said, "vsock: "+what+": <nil>") {
			t.Errorf("%s did not end well\n%s", what, said)
		}
	}
}

// TestVsockEnclave boots the enclave itself where its configuration wants it at a port of vsock.
func TestVsockEnclave(t *testing.T) {
	bootOnly(t, "enclave", "tally-enclave: serving on vsock:7443")
}

// bootOnly builds testdata/vsock/NAME.yaml and boots it until it says what is wanted. It returns all that it said.
func bootOnly(t *testing.T, name, until string) string {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	spec, lock, out := filepath.Join(l.repo, "internal/e2e/testdata/vsock", name+".yaml"), filepath.Join(l.dir, "vsock-"+name+".lock"), filepath.Join(l.dir, "vsock-"+name)
	if msg, err := l.try(l.dir, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "5m", "--until", until)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return string(said)
}
