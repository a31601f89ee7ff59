package enclave_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/internal/testtool"
)

// TestInteropSessionEvidence has clients that share no code with us, several at once so that they stand in one
// tree, ask an enclave for session evidence and check it from their own handshake hash to REPORTDATA.
func TestInteropSessionEvidence(t *testing.T) {
	const python = "/usr/bin/python3" // where Debian's python3-dissononce is found
	if err := exec.Command(python, "-c", "import dissononce").Run(); err != nil {
		testtool.Missing(t, "Debian package python3-dissononce is not installed")
	}
	opt := options(t)
	opt.Kinds = []channel.Kind{channel.Classical}
	opt.SessionWindow = 500 * time.Millisecond
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out, err := exec.CommandContext(t.Context(), python, "channel/testdata/interop.py", port, "-", "-", "ask").CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "ok" {
				t.Error(fmt.Errorf("client %d: %w\n%s", i, err, out))
			}
		}()
	}
	wg.Wait()
}
