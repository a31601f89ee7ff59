//go:build !unix

package scratch

import (
	"errors"
	"os"
)

// lock refuses: then nothing is ever swept.
func lock(*os.File) error { return errors.ErrUnsupported }
