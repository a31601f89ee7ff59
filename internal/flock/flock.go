// Package flock locks files and directories for as long as a process lives (flock(2)).
package flock

import "errors"

// ErrHeld is returned by Try for what another one has locked.
var ErrHeld = errors.New("locked by another process")
