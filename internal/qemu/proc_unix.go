//go:build unix

package qemu

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the terminal's Ctrl-C from QEMU: the caller decides when the machine ends.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
