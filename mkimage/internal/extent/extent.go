// Package extent finds what of a disk is not zero, in units of 64 KiB: what transport formats store.
package extent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Unit is the size in bytes of what is looked at as one.
const Unit = 64 << 10

// A Range is some whole units (the last one of a disk may be short) with a byte that is not zero in each.
type Range struct{ Offset, Size int64 } // bytes

// Scan returns the ranges of the first size bytes of r, ascending, with at least one zero unit between them.
func Scan(ctx context.Context, r io.ReaderAt, size int64) ([]Range, error) {
	var all []Range
	var zero [Unit]byte
	buf := make([]byte, Unit)
	for off := int64(0); off < size; off += Unit {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(Unit, size-off)]
		if err := ReadFull(r, b, off); err != nil {
			return nil, err
		}
		if bytes.Equal(b, zero[:len(b)]) {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Offset+all[n-1].Size == off {
			all[n-1].Size += int64(len(b))
		} else {
			all = append(all, Range{off, int64(len(b))})
		}
	}
	return all, nil
}

// ReadFull fills b from offset off of r.
func ReadFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("disk ends at byte %d, want %d", off+int64(n), off+int64(len(b)))
	}
	return err
}
