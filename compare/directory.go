package compare

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

const maxTreeEntries = 4 << 20

// directories compares two directory trees.
func directories(ctx context.Context, a, b string, opt Options) (*Report, error) {
	c := newComparer(ctx, a, b, kindTree, opt)
	x, err := diskTree(a)
	if err != nil {
		return nil, err
	}
	y, err := diskTree(b)
	if err != nil {
		return nil, err
	}
	if err := c.trees(Difference{Layer: LayerTree}, x, y); err != nil {
		return nil, err
	}
	if !readsXattrs {
		c.note("extended attributes are not read on this system and not compared")
	}
	return c.finish(len(c.all) == 0 && c.r.Omitted == 0), nil
}

// diskTree reads a directory; contents are opened when they are read.
func diskTree(dir string) (*fileTree, error) {
	var nodes []*node
	xattrs := newXattrReader()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(nodes) >= maxTreeEntries {
			return fmt.Errorf("%s: more than %d entries", dir, maxTreeEntries)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, err := diskNode(path, "/"+filepath.ToSlash(rel), info)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
		if takesXattrs(runtime.GOOS, n.kind) {
			n.xattrs, err = xattrs.read(path)
		}
		return err
	})
	return newTree(nodes), err
}

func diskNode(path, name string, info fs.FileInfo) (*node, error) {
	if name == "/." {
		name = "/"
	}
	n := &node{path: name, perm: uint32(info.Mode().Perm()), mtime: info.ModTime().Unix(), nsec: uint32(info.ModTime().Nanosecond())}
	for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if info.Mode()&m != 0 {
			n.perm |= bit
		}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: no owner and inode on this system", path)
	}
	n.uid, n.gid, n.nlink = st.Uid, st.Gid, uint32(st.Nlink)
	switch info.Mode().Type() {
	case 0:
		n.kind, n.content = "file", sourceOfFile(path, info.Size())
		if st.Nlink > 1 {
			n.id = [2]uint64{uint64(st.Dev), st.Ino}
		}
	case fs.ModeDir:
		n.kind = "directory"
	case fs.ModeSymlink:
		n.kind = "symlink"
		var err error
		if n.target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	case fs.ModeNamedPipe:
		n.kind = "fifo"
	case fs.ModeSocket:
		n.kind = "socket"
	case fs.ModeDevice | fs.ModeCharDevice:
		n.kind, n.device = "character device", fmt.Sprintf("%#x", st.Rdev)
	case fs.ModeDevice:
		n.kind, n.device = "block device", fmt.Sprintf("%#x", st.Rdev)
	default:
		return nil, fmt.Errorf("%s: a file of unknown type %s", path, info.Mode().Type())
	}
	return n, nil
}
