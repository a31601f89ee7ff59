// Package source brings the inputs of a lock together: packages from the store; local files, directories
// and Go programs from where the spec is; and hands them to mkimage as bytes and trees.
//
// The order of calls, from a spec's path to an image:
//
//	k, err := lock.Parse(raw, "image.lock")
//	l, err := source.Open("image.yaml", k.Variant, os.Environ())
//	err = l.Check(ctx, k)                     // local inputs are what the lock pinned
//	err = fetcher.All(ctx, k)                 // everything else is in the store
//	in, err := l.Assemble(ctx, k, raw, store, tmp, jobs)
//	m, err := mkimage.Build(ctx, in, out, log)
//
// Assemble first writes the source archive (sources.tar) and then builds from what it unpacks from it: so
// the archive cannot lack anything that the build reads, and a file that changes meanwhile is an error. A
// rebuild elsewhere starts with [Extract] instead.
package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"tally/mkimage/deb"
	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// A Local is a spec on disk with what it refers to beside it. Open returns one.
type Local struct {
	Spec    *spec.Spec
	Raw     []byte   // bytes of the spec
	Dir     string   // directory of the spec, absolute
	Environ []string // of the caller, for the go command
	GoProxy string   // directory of imported modules (lock.Store.GoProxy), or ""
	Offline bool     // the go command may ask nobody
	Steps   StepOptions

	commands map[string]*gosrc.Command // by toolchain
	sources  map[string]*gosrc.Sources // by program
	trees    map[string]*tree.Tree     // of directories, by path, without target
	sums     map[string]lock.Object    // of files, by path
}

// maxLocal is the largest local file read, in bytes.
const maxLocal = 4 << 30

// Open reads the spec at file and takes one variant of it, as spec.Load does. environ is the environment for the go
// command.
func Open(file, variant string, environ []string) (*Local, error) {
	s, raw, err := spec.Load(file, variant)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	l := &Local{Spec: s, Raw: raw, Dir: dir, Environ: environ, commands: map[string]*gosrc.Command{}}
	l.forget()
	return l, nil
}

// forget drops what was read of the disk.
func (l *Local) forget() {
	l.sources, l.trees, l.sums = map[string]*gosrc.Sources{}, map[string]*tree.Tree{}, map[string]lock.Object{}
}

// disk is where a path of the spec lies.
func (l *Local) disk(p string) string { return filepath.Join(l.Dir, filepath.FromSlash(p)) }

// ReadFile reads a small file that the spec names, such as a keyring.
func (l *Local) ReadFile(p string) ([]byte, error) {
	f, err := os.Open(l.disk(p))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, deb.MaxKeyring+1))
}

// Pin records every local input in k as it is now: spec, files, directories, Go sources, modules and
// toolchains.
func (l *Local) Pin(ctx context.Context, k *lock.Lock) error {
	l.forget()
	k.Schema, k.Spec, k.Variant = lock.Schema, sha256.Sum256(l.Raw), l.Spec.Variant
	k.Files, k.Dirs, k.Go, k.Modules, k.Toolchains = []lock.File{}, []lock.Dir{}, []lock.Go{}, []lock.Module{}, []lock.Toolchain{}
	for _, p := range l.Spec.Files() {
		o, err := l.hash(ctx, p)
		if err != nil {
			return err
		}
		k.Files = append(k.Files, lock.File{Path: p, Object: o})
	}
	for _, p := range l.Spec.Dirs() {
		t, err := l.tree(ctx, p)
		if err != nil {
			return err
		}
		k.Dirs = append(k.Dirs, lock.Dir{Path: p, Tree: t.Digest(l.Spec.Epoch), Count: t.Len() - 1})
	}
	if _, _, err := l.checkConfig(); err != nil {
		return err
	}
	if err := errors.Join(l.pinLayouts(ctx, k), k.PinModels(l.Spec)); err != nil {
		return err
	}
	for _, g := range l.Spec.Programs() {
		if err := l.pinProgram(ctx, k, g); err != nil {
			return fmt.Errorf("go source %s: %w", g.Package, err)
		}
	}
	sortUnique(&k.Files, func(f lock.File) string { return f.Path })
	sortUnique(&k.Dirs, func(d lock.Dir) string { return d.Path })
	sortUnique(&k.Go, func(g lock.Go) string { return g.Module + "\x00" + g.Package })
	sortUnique(&k.Modules, func(m lock.Module) string { return m.Path + "\x00" + m.Version })
	sortUnique(&k.Toolchains, func(t lock.Toolchain) string { return t.Version + "\x00" + t.Platform })
	return nil
}

func sortUnique[T comparable](list *[]T, key func(T) string) {
	slices.SortFunc(*list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	*list = slices.Compact(*list)
}

// hash returns hash and size of a local file, read once.
func (l *Local) hash(ctx context.Context, p string) (lock.Object, error) {
	if o, ok := l.sums[p]; ok {
		return o, nil
	}
	o, err := hashFile(ctx, l.disk(p))
	if err != nil {
		return o, fmt.Errorf("file %q: %w", p, err)
	}
	l.sums[p] = o
	return o, nil
}

// hashFile reads a regular file of at most maxLocal bytes.
func hashFile(ctx context.Context, file string) (lock.Object, error) {
	var o lock.Object
	fi, err := os.Stat(file)
	if err != nil {
		return o, err
	}
	if !fi.Mode().IsRegular() {
		return o, fmt.Errorf("%s: want a regular file", fi.Mode().Type())
	}
	f, err := os.Open(file)
	if err != nil {
		return o, err
	}
	defer f.Close()
	h := sha256.New()
	o.Size, err = io.Copy(h, io.LimitReader(ctxReader{ctx, f}, maxLocal+1))
	if err == nil && o.Size > maxLocal {
		err = fmt.Errorf("more than %d bytes", int64(maxLocal))
	}
	h.Sum(o.SHA256[:0])
	return o, err
}

// small reads a local text file.
func (l *Local) small(p string) ([]byte, error) {
	f, err := os.Open(l.disk(p))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const limit = 64 << 20
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s: more than %d bytes", p, limit)
	}
	return data, err
}

// A ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
