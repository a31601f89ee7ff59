package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
)

// A verityOutput is a file that a verity command writes: one that exists and is written into, or a new
// one that appears when it is whole.
type verityOutput struct {
	*os.File
	atomic *atomicfile.File // nil when written in place
	closed bool
}

func openVerityOutput(name string, inPlace bool) (*verityOutput, error) {
	if inPlace {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &verityOutput{File: f}, nil
	}
	f, err := atomicfile.Create(name, 0o644)
	if err != nil {
		return nil, err
	}
	return &verityOutput{File: f.File, atomic: f}, nil
}

// finish makes the file durable and, if new, visible.
func (o *verityOutput) finish() error {
	if o.atomic != nil {
		return o.atomic.Commit()
	}
	o.closed = true
	return errors.Join(syncFile(o.File), o.Close())
}

// abort removes a new file that was not finished.
func (o *verityOutput) abort() {
	if o.atomic != nil {
		o.atomic.Abort()
	} else if !o.closed {
		o.Close()
	}
}

// syncFile makes the file durable. Character devices cannot be synced and need not be.
func syncFile(f *os.File) error {
	fi, err := f.Stat()
	if err != nil || fi.Mode()&fs.ModeCharDevice != 0 {
		return err
	}
	return f.Sync()
}

// writeInPlace says whether a file of that name is something to write into: a device is never replaced by
// a file of its name, and what lies in front of an offset stays.
func writeInPlace(name string, offset int64) (bool, error) {
	fi, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case fi.IsDir():
		return false, fmt.Errorf("%s: is a directory, want a file or a device", name)
	}
	return offset > 0 || !fi.Mode().IsRegular(), nil
}

// sameFile says whether two names are those of one file, which need not exist yet.
func sameFile(a, b string) bool {
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	if aerr == nil && berr == nil {
		return os.SameFile(ai, bi)
	}
	a, aerr = filepath.Abs(a)
	b, berr = filepath.Abs(b)
	return aerr == nil && berr == nil && a == b
}

// fileSize is the size of a file or a device; the place to read from is the start afterwards.
func fileSize(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return size, err
}
