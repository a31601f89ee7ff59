package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"tally/mkimage/source"
)

// TestStaleHint: the advice to lock anew goes with an input that is another, and with nothing else.
func TestStaleHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{&source.StaleError{What: "the spec"}, true}, {context.Canceled, false}, {os.ErrNotExist, false}} {
		err := explainStale(fmt.Errorf("image.lock: %w", c.err), specArg{file: "image.yaml"})
		var ee *exitError
		if got := errors.As(err, &ee) && ee.hint != ""; got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: hint %v, want %v", err, got, c.want)
		}
	}
}
