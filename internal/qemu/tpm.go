package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// TPMBinary is the software TPM; TPMPackage the Debian package that has it.
const (
	TPMBinary  = "swtpm"
	TPMPackage = "swtpm"
)

// A TPM is a running software TPM 2.0 with fresh state. The host owns it: what it says about a guest is
// worth no more than the host's word.
type TPM struct {
	Socket string // for Machine.TPM
	dir    string
	cmd    *exec.Cmd
}

// StartTPM starts a software TPM that lives until Stop or the end of ctx.
func StartTPM(ctx context.Context) (*TPM, error) {
	path, err := exec.LookPath(TPMBinary)
	if err != nil {
		return nil, errors.New(TPMBinary + " is not installed")
	}
	dir, err := os.MkdirTemp("", "tally-tpm-")
	if err != nil {
		return nil, err
	}
	t := &TPM{Socket: filepath.Join(dir, "ctrl"), dir: dir}
	t.cmd = exec.CommandContext(ctx, path, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+t.Socket, "--flags", "startup-clear")
	ownGroup(t.cmd)
	if err := t.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for range 500 {
		if _, err := os.Stat(t.Socket); err == nil {
			return t, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Stop()
	return nil, fmt.Errorf("%s: no control socket after 5 s", TPMBinary)
}

// Stop ends the TPM and removes its state.
func (t *TPM) Stop() {
	t.cmd.Process.Kill()
	t.cmd.Wait()
	os.RemoveAll(t.dir)
}
