//go:build !linux

package atomicfile

import "errors"

// exchange is Linux's.
func exchange(string, string) error { return errors.ErrUnsupported }

// mountPoint is Linux's.
func mountPoint(string) bool { return false }
