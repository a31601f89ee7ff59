package scripts

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"tally/mkimage/tree"
)

// A work is one call of Apply.
type work struct {
	ctx    context.Context
	t      *tree.Tree
	epoch  int64
	source string   // of entries that the running step adds
	units  []string // to enable, sorted
}

// maxFile is the size in bytes above which a step refuses to read a file.
const maxFile = 4 << 20

// read returns the contents of a file of the tree; ok is false when nothing is there.
func (w *work) read(p string) (data []byte, ok bool, err error) {
	e := w.t.Get(p)
	switch {
	case e == nil:
		return nil, false, nil
	case e.Kind != tree.File:
		return nil, false, fmt.Errorf("path %q is a %s from %s, want a file", p, e.Kind, e.Source)
	case e.Size > maxFile:
		return nil, false, fmt.Errorf("path %q from %s: %d bytes, want at most %d", p, e.Source, e.Size, maxFile)
	}
	var b bytes.Buffer
	err = e.CopyTo(w.ctx, &b, make([]byte, 32<<10))
	return b.Bytes(), true, err
}

// write puts a file into the tree, in place of an older one of the same name. A file that is the same
// already stays, whoever made it.
func (w *work) write(p string, mode, gid uint32, data []byte) error {
	old, ok, err := w.read(p)
	if err != nil {
		return err
	}
	if e := w.t.Get(p); ok && bytes.Equal(old, data) && e.Mode == mode && e.GID == gid {
		return nil
	}
	e := tree.NewFile(p, mode, data, w.source)
	e.MTime, e.GID = w.epoch, gid
	return w.t.Replace(e)
}

// writeNew is write for a file that must not replace one.
func (w *work) writeNew(p string, mode, gid uint32, data []byte) error {
	if w.t.Get(p) != nil {
		return nil
	}
	return w.write(p, mode, gid, data)
}

// copyNew copies a file of the tree unless there is one at its destination. A missing source is an error.
func (w *work) copyNew(from, to string, mode uint32) error {
	if w.t.Get(to) != nil {
		return nil
	}
	data, ok, err := w.read(from)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("path %q is missing, want the contents of %q", from, to)
	}
	return w.writeNew(to, mode, 0, data)
}

// link makes a symbolic link unless something is there.
func (w *work) link(p, target string) error {
	if w.t.Get(p) != nil {
		return nil
	}
	return w.t.Add(tree.Entry{Path: p, Kind: tree.Symlink, Mode: 0o777, Link: target, MTime: w.epoch, Source: w.source})
}

// dir makes a directory unless something is there.
func (w *work) dir(p string, mode, gid uint32) error {
	if w.t.Get(p) != nil {
		return nil
	}
	return w.t.Add(tree.Entry{Path: p, Kind: tree.Dir, Mode: mode, GID: gid, MTime: w.epoch, Source: w.source})
}

// below lists the paths of files in dir and its subdirectories whose names end in suffix, sorted.
func (w *work) below(dir, suffix string) []string {
	var all []string
	for _, e := range w.t.Entries() {
		if e.Kind == tree.File && strings.HasPrefix(e.Path, dir+"/") && strings.HasSuffix(e.Path, suffix) {
			all = append(all, e.Path)
		}
	}
	return all
}
