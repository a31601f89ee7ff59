//go:build !linux

package steps

import (
	"context"
	"io"

	"tally/mkimage/tree"
)

// Main does nothing here.
func Main([]string) {}

func enter(context.Context, request, *tree.Tree, io.Writer, *talk) (*report, error) {
	return nil, ErrUnsupported
}
