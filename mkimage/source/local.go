// Package source brings the inputs of a lock together: packages from the store, local files, directories
// and Go programs from where the spec is, and hands them to mkimage as bytes and trees.
package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// A Local is a spec on disk with what it refers to beside it.
type Local struct {
	Spec    *spec.Spec
	Raw     []byte   // bytes of the spec
	Dir     string   // directory of the spec
	Environ []string // for the go command
}

// maxLocal is the largest local file read, in bytes.
const maxLocal = 1 << 30

// Open reads the spec at file.
func Open(file string, environ []string) (*Local, error) {
	s, raw, err := spec.Load(file)
	if err != nil {
		return nil, err
	}
	return &Local{Spec: s, Raw: raw, Dir: filepath.Dir(file), Environ: environ}, nil
}

// files lists the local files the spec names, without duplicates.
func (l *Local) files() []*spec.File {
	var all []*spec.File
	for _, s := range l.Spec.Root {
		if s.File != nil {
			all = append(all, s.File)
		}
	}
	for _, f := range l.Spec.Firmware {
		if f.File != nil {
			all = append(all, f.File)
		}
	}
	return all
}

// programs lists the Go programs the spec names.
func (l *Local) programs() []*spec.Go {
	all := []*spec.Go{&l.Spec.Init}
	for _, s := range l.Spec.Root {
		if s.Go != nil {
			all = append(all, s.Go)
		}
	}
	return all
}

// Pin records every local input in k: spec, files, directories, Go sources, modules and toolchain.
func (l *Local) Pin(ctx context.Context, k *lock.Lock) error {
	k.Schema, k.Spec = lock.Schema, sha256.Sum256(l.Raw)
	k.Files, k.Dirs, k.Go, k.Modules = []lock.File{}, []lock.Dir{}, []lock.Go{}, []lock.Module{}
	if k.Suites == nil {
		k.Suites, k.Packages = []lock.Suite{}, []lock.Package{}
	}
	for _, f := range l.files() {
		data, err := l.read(f.Path)
		if err != nil {
			return err
		}
		k.Files = append(k.Files, lock.File{Path: f.Path, SHA256: sha256.Sum256(data), Size: int64(len(data))})
	}
	for _, s := range l.Spec.Root {
		if s.Dir == nil {
			continue
		}
		t, err := l.dirTree(s.Dir)
		if err != nil {
			return err
		}
		k.Dirs = append(k.Dirs, lock.Dir{Path: s.Dir.Path, Tree: t.Digest(0)})
	}
	if err := l.pinGo(ctx, k); err != nil {
		return err
	}
	sortUnique(&k.Files, func(f lock.File) string { return f.Path })
	sortUnique(&k.Dirs, func(d lock.Dir) string { return d.Path })
	sortUnique(&k.Go, func(g lock.Go) string { return g.Module + "\x00" + g.Package })
	sortUnique(&k.Modules, func(m lock.Module) string { return m.Path + "\x00" + m.Version })
	return nil
}

func sortUnique[T comparable](list *[]T, key func(T) string) {
	slices.SortFunc(*list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	*list = slices.Compact(*list)
}

func (l *Local) read(p string) ([]byte, error) {
	f, err := os.Open(filepath.Join(l.Dir, filepath.FromSlash(p)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLocal+1))
	if err == nil && len(data) > maxLocal {
		err = fmt.Errorf("%s: more than %d bytes", p, maxLocal)
	}
	return data, err
}

// command returns the go command that the module of the init asks for.
func (l *Local) command() (gosrc.Command, error) {
	data, err := l.read(path.Join(l.Spec.Init.Module, "go.mod"))
	if err != nil {
		return gosrc.Command{}, err
	}
	m, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return gosrc.Command{}, err
	}
	c := gosrc.Command{Environ: l.Environ}
	switch {
	case m.Toolchain != nil:
		c.Toolchain = m.Toolchain.Name
	case m.Go != nil:
		c.Toolchain = "go" + m.Go.Version
	default:
		return c, errors.New("go.mod: want a toolchain or go line: it names the release that builds the guest")
	}
	if strings.Count(c.Toolchain, ".") != 2 {
		return c, fmt.Errorf("go.mod: toolchain %q: want an exact release like go1.26.8", c.Toolchain)
	}
	return c, nil
}

func (l *Local) pinGo(ctx context.Context, k *lock.Lock) error {
	c, err := l.command()
	if err != nil {
		return err
	}
	k.Toolchain = c.Toolchain
	for _, g := range l.programs() {
		s, err := c.List(ctx, filepath.Join(l.Dir, filepath.FromSlash(g.Module)), g.Package)
		if err != nil {
			return err
		}
		h := sha256.New()
		fmt.Fprintf(h, "tally go source v1\n%s\n", g.Package)
		for _, name := range s.Files {
			data, err := l.read(path.Join(g.Module, name))
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%x %q\n", sha256.Sum256(data), name)
		}
		k.Go = append(k.Go, lock.Go{Module: g.Module, Package: g.Package, Source: lock.Hash(h.Sum(nil))})
		if err := l.pinModules(k, g, s.Modules); err != nil {
			return err
		}
	}
	return nil
}

// pinModules takes the checksums of modules from go.sum.
func (l *Local) pinModules(k *lock.Lock, g *spec.Go, modules []gosrc.Module) error {
	if len(modules) == 0 {
		return nil
	}
	data, err := l.read(path.Join(g.Module, "go.sum"))
	if err != nil {
		return err
	}
	sums := map[gosrc.Module]string{}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) == 3 {
			sums[gosrc.Module{Path: f[0], Version: f[1]}] = f[2]
		}
	}
	for _, m := range modules {
		if sums[m] == "" {
			return fmt.Errorf("go.sum: no checksum of module %s %s", m.Path, m.Version)
		}
		k.Modules = append(k.Modules, lock.Module{Path: m.Path, Version: m.Version, Sum: sums[m]})
	}
	return nil
}

// A StaleError says that a local input is not what the lock pinned.
type StaleError struct{ What string }

func (e *StaleError) Error() string { return e.What + " is not what the lock pinned" }

// Check compares every local input with the lock and names the first that differs.
func (l *Local) Check(ctx context.Context, k *lock.Lock) error {
	var now lock.Lock
	if err := l.Pin(ctx, &now); err != nil {
		return err
	}
	switch {
	case now.Spec != k.Spec:
		return &StaleError{"the spec"}
	case now.Toolchain != k.Toolchain:
		return &StaleError{"the toolchain (" + now.Toolchain + ", locked " + k.Toolchain + ")"}
	}
	for _, diff := range []string{
		firstDiff("file", now.Files, k.Files, func(f lock.File) string { return f.Path }),
		firstDiff("directory", now.Dirs, k.Dirs, func(d lock.Dir) string { return d.Path }),
		firstDiff("go source", now.Go, k.Go, func(g lock.Go) string { return g.Package }),
		firstDiff("module", now.Modules, k.Modules, func(m lock.Module) string { return m.Path }),
	} {
		if diff != "" {
			return &StaleError{diff}
		}
	}
	return nil
}

func firstDiff[T comparable](kind string, now, was []T, key func(T) string) string {
	for _, n := range now {
		if !slices.Contains(was, n) {
			return kind + " " + key(n)
		}
	}
	for _, w := range was {
		if !slices.Contains(now, w) {
			return kind + " " + key(w)
		}
	}
	return ""
}

// onDisk is a Content: a file by path.
type onDisk string

func (p onDisk) Open() (io.ReadCloser, error) { return os.Open(string(p)) }

// dirTree reads a directory. Owner is 0:0, time 0; modes are normalised, since version control keeps only
// the executable bit and a umask may have taken others: 0755 for directories and executables, else 0644.
func (l *Local) dirTree(d *spec.Dir) (*tree.Tree, error) {
	t := tree.New()
	root := filepath.Join(l.Dir, filepath.FromSlash(d.Path))
	err := filepath.WalkDir(root, func(p string, de fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		e, err := dirEntry(p, path.Join(d.Target, filepath.ToSlash(rel)), de)
		if err != nil {
			return err
		}
		e.Source = "dir " + d.Path
		return t.Add(e)
	})
	return t, err
}

func dirEntry(file, name string, de fs.DirEntry) (tree.Entry, error) {
	e := tree.Entry{Path: name, Mode: 0o644}
	fi, err := de.Info()
	if err != nil {
		return e, err
	}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		e.Kind, e.Mode = tree.Dir, 0o755
	case mode.IsRegular():
		if mode&0o100 != 0 {
			e.Mode = 0o755
		}
		e.Kind, e.Size, e.Data = tree.File, fi.Size(), onDisk(file)
		e.Digest, err = hashFile(file)
	case mode&fs.ModeSymlink != 0:
		e.Kind, e.Mode = tree.Symlink, 0o777
		e.Link, err = os.Readlink(file)
	default:
		err = fmt.Errorf("%s: %s: want files, directories and symbolic links", file, mode.Type())
	}
	return e, err
}

func hashFile(file string) (sum [32]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

// expand undoes the compression a spec names.
func expand(f *spec.File, data []byte) ([]byte, error) {
	if f.Decompress == "" {
		return data, nil
	}
	r, err := newXZ(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxLocal+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	if len(out) > maxLocal {
		return nil, fmt.Errorf("%s: unpacks to more than %d bytes", f.Path, maxLocal)
	}
	return out, nil
}
