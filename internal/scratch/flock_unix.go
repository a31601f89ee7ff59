//go:build unix

package scratch

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes f for this process, or fails at once when another one has it. Closing f releases it, and so does a death.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
