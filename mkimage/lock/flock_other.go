//go:build !unix

package lock

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock every process downloads for itself.
func lockFile(*os.File) error { return errors.ErrUnsupported }
