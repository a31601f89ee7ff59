package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"tally/release"
	"tally/release/publish"
)

// A finder finds released files by digest, in directories first and then where a network leads to.
type finder struct {
	dirs   []string
	places []place
}

// newFinder takes the places of --from, and directories to look in after those.
func newFinder(from []string, beside ...string) (*finder, error) {
	f := new(finder)
	for _, where := range from {
		if !strings.Contains(where, "://") {
			f.dirs = append(f.dirs, where)
			continue
		}
		p, err := openPlace(where)
		if err != nil {
			return nil, err
		}
		f.places = append(f.places, p)
	}
	f.dirs = append(f.dirs, beside...)
	return f, nil
}

// open opens the file with that digest. Its content is not checked here.
func (f *finder) open(ctx context.Context, d release.Digest) (io.ReadCloser, error) {
	var file io.ReadCloser
	err := fmt.Errorf("file with SHA-256 %s: %w", d, fs.ErrNotExist)
	if len(f.dirs) > 0 {
		file, err = publish.OpenByDigest(d, f.dirs...)
	}
	for _, p := range f.places {
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		var there error
		if file, there = p.file(ctx, d); errors.Is(there, fs.ErrNotExist) {
			there = fmt.Errorf("%w, nor in %s", err, p)
		}
		err = there
	}
	return file, err
}
