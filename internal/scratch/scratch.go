// Package scratch makes directories for what a command needs while it runs, and removes those of commands that were
// killed: an image's sources and parts are gigabytes.
package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"tally/internal/flock"
)

// mark tells our directories, which are locked, from others of like names, which need not be.
const mark = ".scratch-"

// A Dir is a directory that no other process takes away while this one lives.
type Dir struct {
	Path string   // absolute
	lock *os.File // the directory itself, locked
}

// New makes a directory NAME.scratch-DIGITS in parent, or in the directory for temporary files when parent is "". First it removes
// those of that name whose makers live no more, as far as it can: what stays is in nobody's way.
func New(parent, name string) (*Dir, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, err
	}
	sweep(parent, name)
	for range tries {
		d, err := attempt(parent, name)
		if d != nil || err != nil {
			return d, err
		}
	}
	return nil, errors.New(parent + ": directories " + name + mark + "* are taken away as they are made")
}

// tries is how often another one may sweep what is not locked yet: each time it must be that fast.
const tries = 100

// attempt returns nil when another one swept the directory between its making and its locking.
func attempt(parent, name string) (*Dir, error) {
	path, err := os.MkdirTemp(parent, name+mark)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	// Where there are no locks, nobody else gets one either, and nothing is swept.
	if !errors.Is(flock.Try(f), flock.ErrHeld) && isStill(path, f) {
		return &Dir{path, f}, nil
	}
	return nil, f.Close()
}

func isStill(path string, f *os.File) bool {
	now, err := os.Lstat(path)
	was, ferr := f.Stat()
	return err == nil && ferr == nil && os.SameFile(now, was)
}

// Remove removes the directory with all in it.
func (d *Dir) Remove() error { return errors.Join(os.RemoveAll(d.Path), d.lock.Close()) }

func sweep(parent, name string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), name+mark)
		if ok && e.IsDir() && digits != "" && strings.Trim(digits, "0123456789") == "" {
			removeDead(filepath.Join(parent, e.Name()))
		}
	}
}

// removeDead removes a directory that nobody holds.
func removeDead(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if flock.Try(f) == nil {
		os.RemoveAll(path)
	}
}
