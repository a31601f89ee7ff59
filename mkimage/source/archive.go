package source

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tally/mkimage/tree"
)

// The source archive (sources.tar) holds every local source of a build, so that spec, lock and archive
// are all that a rebuild needs beside what the lock names by hash: a tar with entries sorted by name, owner
// 0:0, time 0, modes 0644 and 0755. Names are relative to the lowest directory that contains the spec and
// all it refers to; the spec itself is in it.

// Limits on a source archive.
const (
	maxArchive      = 4 << 30 // bytes
	maxArchiveFiles = 100000
)

// base returns the lowest directory that holds the spec and all it refers to, and where the spec's
// directory is below it ("." or a relative path).
func (l *Local) base() (dir, rel string, err error) {
	up := 0
	paths := []string{}
	for _, f := range l.files() {
		paths = append(paths, f.Path)
	}
	for _, g := range l.programs() {
		paths = append(paths, g.Module)
	}
	for _, s := range l.Spec.Root {
		if s.Dir != nil {
			paths = append(paths, s.Dir.Path)
		}
	}
	for _, p := range paths {
		n := 0
		for rest := p; rest == ".." || strings.HasPrefix(rest, "../"); rest = strings.TrimPrefix(strings.TrimPrefix(rest, ".."), "/") {
			n++
		}
		up = max(up, n)
	}
	abs, err := filepath.Abs(l.Dir)
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(abs, strings.Repeat("../", up))
	rel, err = filepath.Rel(dir, abs)
	return dir, filepath.ToSlash(rel), err
}

// collect lists what the archive holds: name below the base to path on disk.
func (l *Local) collect(ctx context.Context, rel string) (map[string]string, error) {
	all := map[string]string{}
	add := func(p string) { all[path.Join(rel, p)] = filepath.Join(l.Dir, filepath.FromSlash(p)) }
	for _, f := range l.files() {
		add(f.Path)
	}
	for _, s := range l.Spec.Root {
		if s.Dir == nil {
			continue
		}
		t, err := l.dirTree(s.Dir)
		if err != nil {
			return nil, err
		}
		for _, e := range t.Entries() {
			if e.Path != "" {
				add(path.Join(s.Dir.Path, strings.TrimPrefix(strings.TrimPrefix(e.Path, s.Dir.Target), "/")))
			}
		}
	}
	c, err := l.command()
	if err != nil {
		return nil, err
	}
	for _, g := range l.programs() {
		s, err := c.List(ctx, filepath.Join(l.Dir, filepath.FromSlash(g.Module)), g.Package)
		if err != nil {
			return nil, err
		}
		for _, f := range s.Files {
			add(path.Join(g.Module, f))
		}
	}
	return all, nil
}

// specName is the name of the spec in an archive, below its directory.
const specName = "image.yaml"

// sources writes the archive to a temporary file and makes it an input.
func (a *assembler) sources(ctx context.Context) error {
	_, rel, err := a.base()
	if err != nil {
		return err
	}
	all, err := a.collect(ctx, rel)
	if err != nil {
		return err
	}
	name := filepath.Join(a.tmp, "sources.tar")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	names := []string{path.Join(rel, specName)}
	for n := range all {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Compare(x, y) })
	for _, n := range slices.Compact(names) {
		if n == path.Join(rel, specName) {
			err = writeTar(tw, n, 0o644, a.Raw)
		} else {
			err = copyToTar(tw, n, all[n])
		}
		if err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	a.in.Sources = onDisk(name)
	return f.Close()
}

func writeTar(tw *tar.Writer, name string, mode int64, data []byte) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

func copyToTar(tw *tar.Writer, name, file string) error {
	fi, err := os.Lstat(file)
	if err != nil {
		return err
	}
	e, err := dirEntry(file, name, fs.FileInfoToDirEntry(fi))
	if err != nil {
		return err
	}
	switch e.Kind {
	case tree.Dir:
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	case tree.Symlink:
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: e.Link, Mode: 0o777})
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return writeTar(tw, name, int64(e.Mode), data)
}

// Extract unpacks a source archive into dir, which must exist, and returns the path of the spec. Nothing
// is written outside dir: names must be clean and relative, and no entry may lie below a symbolic link.
func Extract(ctx context.Context, r io.Reader, dir string) (string, error) {
	tr := tar.NewReader(io.LimitReader(r, maxArchive))
	kinds := map[string]byte{}
	specPath := ""
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("source archive: %w", err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if err := checkArchiveName(name, kinds); err != nil {
			return "", err
		}
		if len(kinds) >= maxArchiveFiles {
			return "", fmt.Errorf("source archive: more than %d files", maxArchiveFiles)
		}
		kinds[name] = h.Typeflag
		if err := extractOne(tr, h, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return "", err
		}
		if path.Base(name) == specName && h.Typeflag == tar.TypeReg && (specPath == "" || strings.Count(name, "/") < strings.Count(specPath, "/")) {
			specPath = name
		}
	}
	if specPath == "" {
		return "", fmt.Errorf("source archive: no %s in it", specName)
	}
	return filepath.Join(dir, filepath.FromSlash(specPath)), nil
}

func checkArchiveName(name string, kinds map[string]byte) error {
	if err := tree.CheckPath(name); err != nil {
		return fmt.Errorf("source archive: %w", err)
	}
	if _, twice := kinds[name]; twice {
		return fmt.Errorf("source archive: path %q twice", name)
	}
	for p := tree.Parent(name); p != ""; p = tree.Parent(p) {
		if k, ok := kinds[p]; ok && k != tar.TypeDir {
			return fmt.Errorf("source archive: path %q lies below %q, which is no directory", name, p)
		}
	}
	return nil
}

func extractOne(tr *tar.Reader, h *tar.Header, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(file, 0o755)
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, file)
	case tar.TypeReg:
		var b bytes.Buffer
		if _, err := b.ReadFrom(io.LimitReader(tr, maxLocal+1)); err != nil {
			return fmt.Errorf("source archive: path %q: %w", h.Name, err)
		}
		mode := fs.FileMode(0o644)
		if h.Mode&0o100 != 0 {
			mode = 0o755
		}
		if err := os.WriteFile(file, b.Bytes(), mode); err != nil {
			return err
		}
		return os.Chmod(file, mode)
	}
	return fmt.Errorf("source archive: path %q: entry type %q: want files, directories and symbolic links", h.Name, h.Typeflag)
}
