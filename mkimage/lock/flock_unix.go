//go:build unix

package lock

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes f for this process, or fails at once when another one has it. Closing f releases it.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
