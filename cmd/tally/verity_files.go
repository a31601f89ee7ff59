package main

import (
	"io"
	"slices"

	"tally/compare/erofs"
)

// filesAt returns the paths that have bytes in n bytes from off of an EROFS image; none when it is no such
// image or cannot be read. It is asked about images that are not verified, so the answer is a hint.
func filesAt(image io.ReaderAt, off int64, n int) []string {
	m, err := erofs.Open(image)
	if err != nil {
		return nil
	}
	var paths []string
	first, last := off/m.Super.BlockSize, (off+int64(n)-1)/m.Super.BlockSize
	for b := first; b <= last; b++ {
		paths = append(paths, m.Owner(uint64(b))...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
