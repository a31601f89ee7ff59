package main

import (
	"errors"
	"os/exec"
	"strconv"
)

// exitStatus extracts the exit code of a program that ran to its end.
func exitStatus(err error) (string, bool) {
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		return "", false
	}
	return strconv.Itoa(ee.ExitCode()), true
}
