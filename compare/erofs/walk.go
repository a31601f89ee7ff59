package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const direntSize = 12

// A walker reads the tree and counts against the caps.
type walker struct {
	m                             *Image
	entries, paths, links, xattrs int64
	seen                          map[uint64]bool // directories
}

// A dirent is one entry of a directory.
type dirent struct {
	nid  uint64
	typ  byte
	name string
}

// dir adds the directory n at path, and everything below it. The root's path is "".
func (w *walker) dir(path string, n, parent *Inode) error {
	if w.seen == nil {
		w.seen = map[uint64]bool{}
	}
	if w.seen[n.NID] {
		return fmt.Errorf("directory %q: nid %d is another directory already", path, n.NID)
	}
	w.seen[n.NID] = true
	if err := w.add(path, n); err != nil {
		return err
	}
	entries, err := w.readDir(n)
	if err != nil {
		return fmt.Errorf("directory %q: %w", path+"/", err)
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		if names[e.name] {
			return fmt.Errorf("directory %q: name %q twice", path+"/", e.name)
		}
		names[e.name] = true
		if err := w.entry(path, e, n, parent); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(dir string, e dirent, n, parent *Inode) error {
	switch {
	case e.name == "." && e.nid == n.NID, e.name == ".." && e.nid == parent.NID:
		return nil
	case e.name == "" || e.name == "." || e.name == ".." || len(e.name) > 255 || strings.ContainsAny(e.name, "/\x00"):
		return fmt.Errorf("directory %q: entry %.64q to nid %d is not allowed", dir+"/", e.name, e.nid)
	}
	path := dir + "/" + e.name
	child, err := w.m.inode(e.nid, w)
	if err != nil {
		return fmt.Errorf("path %q: %w", path, err)
	}
	if direntTypes[child.Kind()] != e.typ {
		return fmt.Errorf("path %q: directory says type %d, inode says mode %#o", path, e.typ, child.Mode)
	}
	if child.Kind() == KindDir {
		return w.dir(path, child, n)
	}
	return w.add(path, child)
}

func (w *walker) add(path string, n *Inode) error {
	w.paths += int64(len(path))
	if len(path) > maxPath || w.paths > maxPathBytes {
		return fmt.Errorf("path %.64q…: %d bytes: want at most %d, %d in all", path, len(path), maxPath, maxPathBytes)
	}
	if path == "" {
		path = "/"
	}
	w.m.files = append(w.m.files, file{path, n})
	return nil
}

// readDir returns the entries of n. Directories of a real image share no blocks, so all entries together
// are at most what fits the image.
func (w *walker) readDir(n *Inode) ([]dirent, error) {
	var all []dirent
	bs := w.m.Super.BlockSize
	r := w.m.Content(n)
	for off := int64(0); off < n.Size; off += bs {
		b := make([]byte, min(bs, n.Size-off))
		if _, err := r.ReadAt(b, off); err != nil && int64(len(b))+off < n.Size {
			return nil, err
		}
		entries, err := parseDirents(b)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", off/bs, err)
		}
		if w.entries += int64(len(entries)); w.entries > w.m.Size()/direntSize {
			return nil, errors.New("directories share blocks: more entries than the image has room for")
		}
		all = append(all, entries...)
	}
	return all, nil
}

// parseDirents decodes one directory block: the first name's offset says how many entries there are.
func parseDirents(b []byte) ([]dirent, error) {
	le := binary.LittleEndian
	if len(b) < direntSize {
		return nil, fmt.Errorf("%d bytes: want at least an entry of %d", len(b), direntSize)
	}
	first := int(le.Uint16(b[8:]))
	if first < direntSize || first > len(b) || first%direntSize != 0 {
		return nil, fmt.Errorf("first name at byte %d of %d: want a multiple of %d", first, len(b), direntSize)
	}
	entries := make([]dirent, first/direntSize)
	for i := range entries {
		e := b[i*direntSize:]
		start, end := int(le.Uint16(e[8:])), len(b)
		last := i == len(entries)-1
		if !last {
			end = int(le.Uint16(e[direntSize+8:]))
		}
		if start < first || start > end || end > len(b) {
			return nil, fmt.Errorf("entry %d: name at bytes %d to %d of %d", i, start, end, len(b))
		}
		name := b[start:end]
		if last { // the last name ends at a NUL or with the block
			name, _, _ = bytes.Cut(name, []byte{0})
		}
		entries[i] = dirent{nid: le.Uint64(e), typ: e[10], name: string(name)}
	}
	return entries, nil
}

// Walk calls f for every path: a directory before what it holds, its entries in the order in which they are
// stored. Paths begin with "/"; the root is "/". Walk stops at the first error and returns it.
func (m *Image) Walk(f func(path string, n *Inode) error) error {
	for _, e := range m.files {
		if err := f(e.path, e.node); err != nil {
			return err
		}
	}
	return nil
}
