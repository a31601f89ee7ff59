package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// tarball reads a tar source into a tree. Its contents stay on disk, decompressed, below the assembler's
// directory.
func (a *assembler) tarball(ctx context.Context, t *spec.Tar) (*tree.Tree, error) {
	name := a.temporary()
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := a.expand(ctx, f, t.Path, t.Decompress); err != nil {
		return nil, fmt.Errorf("tar %q: %w", t.Path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	out, err := readTar(ctx, f, name, "tar "+t.Path)
	if err != nil {
		return nil, fmt.Errorf("tar %q: %w", t.Path, err)
	}
	return out, f.Close()
}

// readTar reads an uncompressed tar file. Owners are taken by number, modes and times as they are, extended
// attributes by tree.Xattrs; devices, sparse files and whatever leaves the archive's root are refused, and a path
// may come once. The global header in which git archive names its commit is passed over.
func readTar(ctx context.Context, f io.ReadSeeker, name, source string) (*tree.Tree, error) {
	tr := tar.NewReader(f)
	t := tree.New()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if t.Len() > maxFiles {
			return nil, fmt.Errorf("more than %d files", maxFiles)
		}
		if _, ok := h.PAXRecords["comment"]; ok && h.Typeflag == tar.TypeXGlobalHeader && len(h.PAXRecords) == 1 {
			continue // any other record would change what follows
		}
		e, err := tarEntry(h, source)
		if err != nil {
			return nil, err
		}
		if e.Path == "" {
			continue
		}
		if e.Kind == tree.File {
			if err := e.Locate(ctxReader{ctx, tr}, f, name); err != nil {
				return nil, fmt.Errorf("path %q: %w", e.Path, err)
			}
		}
		if t.Get(e.Path) != nil {
			return nil, fmt.Errorf("path %q: twice", e.Path)
		}
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
}

// tarEntry translates a header.
func tarEntry(h *tar.Header, source string) (tree.Entry, error) {
	e := tree.Entry{Mode: uint32(h.Mode) & 0o7777, MTime: h.ModTime.Unix(), Source: source}
	var err error
	if e.Path, err = tarPath(h.Name); err != nil {
		return e, err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return e, fmt.Errorf("path %q: owner %d:%d out of range", e.Path, h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	if e.Xattrs, err = tree.Xattrs(h.PAXRecords); err != nil {
		return e, fmt.Errorf("path %q: %w", e.Path, err)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size = tree.File, h.Size
	case tar.TypeDir:
		e.Kind = tree.Dir
	case tar.TypeSymlink:
		e.Kind, e.Link = tree.Symlink, h.Linkname
	case tar.TypeLink:
		e.Kind = tree.HardLink
		if e.Link, err = tarPath(h.Linkname); err != nil || e.Link == "" {
			return e, fmt.Errorf("path %q: hard link to %q: outside the archive", e.Path, h.Linkname)
		}
	case tar.TypeChar, tar.TypeBlock:
		return e, fmt.Errorf("path %q: device node: only the spec may name devices", e.Path)
	default:
		return e, fmt.Errorf("path %q: entry type %q is not supported", e.Path, h.Typeflag)
	}
	return e, nil
}

// tarPath turns "./usr/bin/" into "usr/bin" and refuses whatever climbs or is absolute.
func tarPath(s string) (string, error) {
	p := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
	if p == "" || p == "." {
		return "", nil
	}
	return p, tree.CheckPath(p)
}
