// Package scratch makes directories for what a command needs while it runs, and removes those of commands that were
// killed: an image's sources and parts are gigabytes.
package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// young is how long a directory is nobody's: it has been made and is not locked yet.
const young = time.Minute

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
	path, err := os.MkdirTemp(parent, name+mark)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	lock(f) // where there are no locks, nobody else gets one either, and nothing is swept
	return &Dir{path, f}, nil
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

// removeDead removes a directory that is old enough and that nobody holds.
func removeDead(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || time.Since(fi.ModTime()) < young || lock(f) != nil {
		return
	}
	os.RemoveAll(path)
}
