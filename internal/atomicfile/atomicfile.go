// Package atomicfile writes files and directories that are either whole or absent: a failed or
// interrupted command leaves nothing half-written behind.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// NoMarker is the marker of a directory that replaces none but an empty one: no file has that name.
const NoMarker = "\x00"

// tmpMark stands in the name of a temporary file, between a dot with the destination's name and digits.
const tmpMark = ".tmp-"

// A File is a temporary file beside its destination. Commit renames it into place, Abort removes it;
// Abort after Commit does nothing, so `defer f.Abort()` is the usual shape.
type File struct {
	*os.File
	dst  string
	done bool
}

// Create starts writing what will become path with permissions perm (whatever the umask). A symbolic link at path stays:
// what it names is replaced. What is there and no file, a device or a pipe, is refused: a rename would take its place.
func Create(path string, perm fs.FileMode) (*File, error) {
	path, fi, err := follow(path)
	switch {
	case err != nil:
		return nil, err
	case fi != nil && fi.IsDir():
		return nil, fmt.Errorf("%s: is a directory, want a file or nothing there", path)
	case fi != nil && !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is no regular file, and only one is replaced", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+tmpMark)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{File: f, dst: path}, nil
}

// follow returns where path leads, and what is there; nothing when path is free.
func follow(path string) (string, fs.FileInfo, error) {
	if path == "" {
		return "", nil, errors.New("an output has an empty name")
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", nil, fmt.Errorf("%s: is a symbolic link to what is not there", path)
		}
		return path, nil, nil // nothing there; without its directory the creation says so
	}
	if err != nil {
		return "", nil, err
	}
	if l, err := os.Lstat(path); err != nil || l.Mode()&fs.ModeSymlink == 0 {
		return path, fi, err
	}
	real, err := filepath.EvalSymlinks(path)
	return real, fi, err
}

// Commit makes the file durable and visible under its final name.
func (f *File) Commit() error {
	if f.done {
		return errors.New("atomicfile: commit after commit or abort")
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), f.dst); err != nil {
		return err
	}
	f.done = true
	return nil
}

// Abort removes the temporary file unless it was committed.
func (f *File) Abort() {
	if !f.done {
		f.done = true
		f.Close()
		os.Remove(f.Name())
	}
}

// WriteFile writes data to path as a whole or not at all.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// Sweep removes the temporary files in dir that killed processes left. Only who keeps all others from writing
// there may call it.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, ok := temporaryOf(e.Name()); ok && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// A Dir is a temporary directory beside its destination, with the life cycle of File.
type Dir struct {
	Path   string // where to write meanwhile
	dst    string
	marker string
	done   bool
}

// CreateDir starts filling what will become the directory dst. An existing dst is replaced by Commit
// only when it contains a file named marker (an earlier result of ours); otherwise CreateDir refuses. A symbolic link at
// dst stays, as in Create.
func CreateDir(dst, marker string) (*Dir, error) {
	dst, fi, err := follow(dst)
	if err != nil {
		return nil, err
	}
	if fi != nil && !fi.IsDir() {
		return nil, fmt.Errorf("%s: is no directory", dst)
	}
	if base := filepath.Base(filepath.Clean(dst)); base == "." || base == ".." || base == string(filepath.Separator) {
		return nil, fmt.Errorf("%s: another directory cannot take its place, want one with a name", dst)
	}
	if why := pinned(dst, fi); why != "" {
		return nil, fmt.Errorf("%s: is %s: another directory cannot take its place", dst, why)
	}
	if err := replaceable(dst, dst, marker); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dst)), 0o755); err != nil {
		return nil, err
	}
	SweepAbandoned(filepath.Dir(filepath.Clean(dst)), filepath.Base(dst))
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dst)), "."+filepath.Base(dst)+tmpMark)
	if err != nil {
		return nil, err
	}
	return &Dir{Path: tmp, dst: dst, marker: marker}, nil
}

// pinned says why a directory that is there has to stay where it is, or "". It would show at the end otherwise: after minutes, or
// as a caller whose directory is gone.
func pinned(dst string, fi fs.FileInfo) string {
	if fi == nil {
		return ""
	}
	if here, err := os.Stat("."); err == nil && os.SameFile(here, fi) {
		return "the current directory"
	}
	if mountPoint(dst) {
		return "a mount point"
	}
	return ""
}

// replaceable wants the directory dir, which is or was at dst, to be absent, empty or an earlier result.
func replaceable(dir, dst, marker string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return err
	}
	if marker == NoMarker {
		return fmt.Errorf("%s: directory is not empty", dst)
	}
	if _, err := os.Lstat(filepath.Join(dir, marker)); err != nil {
		return fmt.Errorf("%s: directory is not empty and has no %s of an earlier run", dst, marker)
	}
	return nil
}

// Commit puts the directory in place of dst, unless something has come there meanwhile that is no earlier result.
func (d *Dir) Commit() error {
	if d.done {
		return errors.New("atomicfile: commit after commit or abort")
	}
	if err := os.Chmod(d.Path, 0o755); err != nil {
		return err
	}
	if d.marker == NoMarker {
		return d.commitNew()
	}
	if exchange(d.Path, d.dst) == nil {
		if err := replaceable(d.Path, d.dst, d.marker); err != nil {
			return errors.Join(err, exchange(d.Path, d.dst))
		}
		d.done = true
		return os.RemoveAll(d.Path) // what was there before
	}
	old := d.Path + ".old"
	if err := os.Rename(d.dst, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := replaceable(old, d.dst, d.marker); err != nil {
		return errors.Join(err, os.Rename(old, d.dst))
	}
	if err := os.Rename(d.Path, d.dst); err != nil {
		return errors.Join(err, os.Rename(old, d.dst))
	}
	d.done = true
	return os.RemoveAll(old)
}

// commitNew leaves it to the kernel, in one step, to replace only an empty directory: of many that come at once one wins, and
// stays. os.Rename would replace none.
func (d *Dir) commitNew() error {
	err := syscall.Rename(d.Path, d.dst)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%s: directory is not empty", d.dst)
	case err != nil:
		return &os.LinkError{Op: "rename", Old: d.Path, New: d.dst, Err: err}
	}
	d.done = true
	return nil
}

// Abort removes the temporary directory unless it was committed.
func (d *Dir) Abort() {
	if !d.done {
		d.done = true
		os.RemoveAll(d.Path)
	}
}
