package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// MaxArchive is the size in bytes above which a source archive is refused.
const MaxArchive = 8 << 30

// Extract unpacks a source archive into dir, which must be absent or empty, and returns the path of the
// spec; the lock lies beside it, as lock.FileName. Only what WriteArchive writes is accepted: nothing is
// written outside dir, over another entry or through a link. What Extract made stays on error.
func Extract(ctx context.Context, r io.Reader, dir string) (string, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", fmt.Errorf("%s: directory is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	x := &extractor{root: root, kinds: map[string]byte{}, tr: tar.NewReader(io.LimitReader(ctxReader{ctx, r}, MaxArchive))}
	for {
		h, err := x.tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = x.one(h)
		}
		if err != nil {
			return "", fmt.Errorf("source archive: %w", err)
		}
	}
	if !x.headed {
		return "", errors.New("source archive: empty")
	}
	for _, name := range []string{spec.FileName, lock.FileName} {
		if x.kinds[path.Join(x.base, name)] != tar.TypeReg {
			return "", fmt.Errorf("source archive: no file %q in it", path.Join(x.base, name))
		}
	}
	return filepath.Join(dir, filepath.FromSlash(x.base), spec.FileName), nil
}

type extractor struct {
	root   *os.Root // holds where names mean the same: "a" is a link called "A" to some file systems
	base   string
	headed bool
	last   string
	kinds  map[string]byte // of the entries so far, by name
	tr     *tar.Reader
}

func (x *extractor) one(h *tar.Header) error {
	if !x.headed {
		x.headed = true
		return x.head(h)
	}
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if err := x.check(name, h); err != nil {
		return err
	}
	x.kinds[name], x.last = h.Typeflag, name
	file := filepath.FromSlash(name)
	if err := x.root.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.root.MkdirAll(file, 0o755)
	case tar.TypeSymlink:
		return x.root.Symlink(h.Linkname, file)
	case tar.TypeReg:
		return x.file(file, fs.FileMode(fileMode(fs.FileMode(h.Mode&0o777))))
	}
	return fmt.Errorf("path %.200q: entry type %q, want files, directories and symbolic links", h.Name, h.Typeflag)
}

// head reads the first entry, which says what the archive is.
func (x *extractor) head(h *tar.Header) error {
	line, err := io.ReadAll(io.LimitReader(x.tr, tree.MaxPath+64))
	if err != nil {
		return err
	}
	base, ok := strings.CutPrefix(string(line), headPrefix)
	base, ended := strings.CutSuffix(base, "\n")
	if h.Name != headName || h.Typeflag != tar.TypeReg || !ok || !ended {
		return fmt.Errorf("starts with %.80q, want the file %s", h.Name, headName)
	}
	if base != "." {
		if err := tree.CheckPath(base); err != nil {
			return err
		}
	}
	x.base = base
	return nil
}

// check wants clean relative names in strict order, each once, and none below what is no directory.
func (x *extractor) check(name string, h *tar.Header) error {
	if err := tree.CheckPath(name); err != nil {
		return err
	}
	if strings.Contains(name, "\\") {
		return fmt.Errorf("path %.200q: backslash", name)
	}
	if name <= x.last || name == headName {
		return fmt.Errorf("path %.200q: twice or not in order", name)
	}
	if len(x.kinds) >= maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	if h.Typeflag == tar.TypeSymlink && (h.Linkname == "" || len(h.Linkname) > tree.MaxPath || strings.Contains(h.Linkname, "\x00")) {
		return fmt.Errorf("path %.200q: link target of %d bytes", name, len(h.Linkname))
	}
	for p := tree.Parent(name); p != ""; p = tree.Parent(p) {
		if k, ok := x.kinds[p]; ok && k != tar.TypeDir {
			return fmt.Errorf("path %.200q: lies below %q, which is no directory", name, p)
		}
	}
	return nil
}

func (x *extractor) file(file string, mode fs.FileMode) error {
	f, err := x.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(x.tr, maxLocal+1))
	if err == nil && n > maxLocal {
		err = fmt.Errorf("%s: more than %d bytes", file, int64(maxLocal))
	}
	// Whatever the umask: the executable bit decides about the image.
	return errors.Join(err, f.Chmod(mode), f.Close())
}
