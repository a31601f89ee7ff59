package source

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tally/mkimage/tree"
)

// maxFiles bounds the files below one directory or in one archive.
const maxFiles = 1 << 20

// onDisk is a Content: a file by path.
type onDisk string

func (p onDisk) Open() (io.ReadCloser, error) { return os.Open(string(p)) }

// tree reads a directory, once. Owners are 0:0 and times the epoch. Modes are normalised, since version
// control keeps only the executable bit and a umask may have taken others: 0755 for directories and
// what its owner may execute, else 0644. Symbolic links stay what they are. Extended attributes are not read:
// version control has none, and what a disk adds is the machine's.
func (l *Local) tree(ctx context.Context, p string) (*tree.Tree, error) {
	if t := l.trees[p]; t != nil {
		return t, nil
	}
	root := l.disk(p)
	if rel, err := filepath.Rel(root, l.Dir); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil, fmt.Errorf("directory %q: holds the spec itself, and with it the lock that would pin it", p)
	}
	if fi, err := os.Lstat(root); err != nil {
		return nil, fmt.Errorf("directory %q: %w", p, err)
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("directory %q: is a %s", p, fi.Mode().Type())
	}
	t := tree.New()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || file == root {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if t.Len() > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		e := tree.Entry{Path: filepath.ToSlash(rel), MTime: l.Spec.Epoch, Source: "dir " + p}
		if err := describe(ctx, file, d, &e); err != nil {
			return err
		}
		return t.Add(e)
	})
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", p, err)
	}
	l.trees[p] = t
	return t, nil
}

// describe fills in kind, mode and content of what lies at file.
func describe(ctx context.Context, file string, d fs.DirEntry, e *tree.Entry) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		e.Kind, e.Mode = tree.Dir, 0o755
	case mode.IsRegular():
		o, err := hashFile(ctx, file)
		if err != nil {
			return err
		}
		e.Kind, e.Mode, e.Size, e.Digest, e.Data = tree.File, fileMode(mode), o.Size, o.SHA256, onDisk(file)
	case mode&fs.ModeSymlink != 0:
		e.Kind, e.Mode = tree.Symlink, 0o777
		e.Link, err = os.Readlink(file)
		return err
	default:
		return fmt.Errorf("%s: is a %s, want files, directories and symbolic links", e.Path, kindName(mode))
	}
	return nil
}

// fileMode keeps the owner's executable bit.
func fileMode(m fs.FileMode) uint32 {
	if m&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

func kindName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeDevice != 0:
		return "device node"
	}
	return m.Type().String()
}
