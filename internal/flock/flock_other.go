//go:build !unix

package flock

import (
	"errors"
	"os"
)

// Try refuses: there are no such locks.
func Try(*os.File) error { return errors.ErrUnsupported }
