package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"tally/mkimage/tree"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	maxMode        = 0o177777 // permission bits and, by some writers, the file type
)

// A change is what one layer does.
type change struct {
	removed []string // paths whiteouts name, in the archive's order
	emptied []string // directories with an opaque whiteout
	entries []tree.Entry
}

// readLayer reads an uncompressed layer. Contents refer to the file called name, which f is.
func readLayer(ctx context.Context, f io.ReadSeeker, name, source string, declared func(tree.Entry) bool) (*change, error) {
	tr := tar.NewReader(f)
	c := new(change)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		if n >= maxFiles {
			return nil, fmt.Errorf("more than %d entries", maxFiles)
		}
		e, err := entry(h, source)
		if err != nil {
			return nil, err
		}
		if done, err := c.special(h, e, declared); done || err != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		if e.Kind == tree.File {
			if err := e.Locate(tr, f, name); err != nil {
				return nil, fmt.Errorf("path %q: %w", e.Path, err)
			}
		}
		c.entries = append(c.entries, e)
	}
}

// special deals with what does not become an entry: the root, whiteouts, device nodes.
func (c *change) special(h *tar.Header, e tree.Entry, declared func(tree.Entry) bool) (bool, error) {
	dir, name := tree.Parent(e.Path), e.Path[strings.LastIndexByte(e.Path, '/')+1:]
	switch {
	case e.Path == "":
		if e.Kind != tree.Dir {
			return false, fmt.Errorf("path %q: the root is a %s", h.Name, e.Kind)
		}
		return true, nil // the root directory is the spec's to define
	case slices.ContainsFunc(strings.Split(dir, "/"), func(el string) bool { return strings.HasPrefix(el, whiteoutPrefix) }):
		return false, fmt.Errorf("path %q: lies below the name of a whiteout", e.Path)
	case !strings.HasPrefix(name, whiteoutPrefix):
		if e.Kind != tree.CharDev && e.Kind != tree.BlockDev {
			return false, nil
		}
		if declared == nil || !declared(e) {
			return false, fmt.Errorf("path %q: %s %d:%d: only the spec may name devices", e.Path, e.Kind, e.Major, e.Minor)
		}
		return true, nil
	case e.Kind != tree.File || e.Size != 0:
		return false, fmt.Errorf("path %q: whiteout that is no empty file", e.Path)
	case name == opaqueName:
		c.emptied = append(c.emptied, dir)
		return true, nil
	}
	gone := name[len(whiteoutPrefix):]
	if gone == "" || gone == "." || gone == ".." || strings.HasPrefix(gone, whiteoutPrefix) {
		return false, fmt.Errorf("path %q: unknown whiteout", e.Path)
	}
	c.removed = append(c.removed, strings.TrimPrefix(dir+"/"+gone, "/"))
	return true, nil
}

// entry translates a tar header. Owners are taken by number.
func entry(h *tar.Header, source string) (tree.Entry, error) {
	e := tree.Entry{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix(), Source: source}
	var err error
	if e.Path, err = cleanPath(h.Name); err != nil {
		return e, err
	}
	if h.Mode < 0 || h.Mode > maxMode || h.Uid < 0 || int64(h.Uid) > math.MaxUint32-1 || h.Gid < 0 || int64(h.Gid) > math.MaxUint32-1 {
		return e, fmt.Errorf("path %q: mode %#o or owner %d:%d out of range", e.Path, h.Mode, h.Uid, h.Gid)
	}
	if e.Xattrs, err = tree.Xattrs(h.PAXRecords); err != nil {
		return e, fmt.Errorf("path %q: %w", e.Path, err)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size = tree.File, h.Size
	case tar.TypeDir:
		e.Kind = tree.Dir
	case tar.TypeSymlink:
		e.Kind, e.Link, e.Mode = tree.Symlink, h.Linkname, 0o777
	case tar.TypeFifo:
		e.Kind = tree.FIFO
	case tar.TypeLink:
		e.Kind = tree.HardLink
		if e.Link, err = cleanPath(h.Linkname); err != nil || e.Link == "" {
			return e, fmt.Errorf("path %q: hard link to %.200q: outside the image", e.Path, h.Linkname)
		}
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
			return e, fmt.Errorf("path %q: device %d:%d out of range", e.Path, h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
		e.Kind = tree.CharDev
		if h.Typeflag == tar.TypeBlock {
			e.Kind = tree.BlockDev
		}
	default:
		return e, fmt.Errorf("path %q: entry type %q is not supported", e.Path, h.Typeflag)
	}
	return e, nil
}

// cleanPath turns "./usr/bin/", "usr/bin" and "/usr/bin" into "usr/bin" and refuses whatever climbs.
func cleanPath(s string) (string, error) {
	p := strings.TrimPrefix(s, "./")
	if p == s {
		p = strings.TrimPrefix(s, "/")
	}
	p = strings.TrimSuffix(p, "/")
	if p == "" || p == "." {
		return "", nil
	}
	return p, tree.CheckPath(p)
}
