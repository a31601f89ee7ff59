package main

import (
	"context"
	"errors"
	"fmt"
)

// Exit codes are verdicts (DESIGN 3).
const (
	exitOK         = 0 // the answer is yes
	exitFailed     = 1 // the operation failed: no answer, no output file, empty stdout
	exitUsage      = 2 // wrong flags or arguments: no answer, no output file, empty stdout
	exitDiffers    = 3 // bytes differ
	exitUnverified = 4 // a signature, proof or hash tree is not verified
	exitAppraisal  = 5 // appraisal failed
)

// An exitError carries the verdict a command ends with. Code 3, 4 and 5 are answers: what the command
// printed on stdout stands. For code 1 and 2 stdout is discarded.
type exitError struct {
	code   int
	reason string // stable word for scripts, e.g. "rollback"; empty when there is none
	hint   string // what the user may do about it; empty when there is nothing to say
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef is a mistake in the command line (exit 2).
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// verdict ends a command with an answer other than yes (exit 3, 4 or 5) and its stable reason word.
func verdict(code int, reason, format string, args ...any) error {
	return &exitError{code: code, reason: reason, err: fmt.Errorf(format, args...)}
}

// withHint adds a line that tells the user what to do about err.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var ee *exitError
	if errors.As(err, &ee) {
		c := *ee
		c.hint = fmt.Sprintf(format, args...)
		c.err = err
		return &c
	}
	return &exitError{code: exitFailed, hint: fmt.Sprintf(format, args...), err: err}
}

// exitCode says how the process ends after err.
func exitCode(err error) int {
	var ee *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ee):
		return ee.code
	case errors.Is(err, context.Canceled):
		return exitFailed
	}
	return exitFailed
}
