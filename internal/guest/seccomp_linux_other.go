//go:build linux && !amd64

package guest

import "errors"

// seccomp has no filter for this architecture, and an engine does not run without one.
func seccomp(bool) error { return errors.New("no filter for this architecture") }
