package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"tally/internal/atomicfile"
	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
)

// Limits on an inputs file.
const (
	maxInputs  = 256 << 30 // bytes
	maxModFile = 16 << 20  // bytes of a go.mod or .info file
)

func hashBytes(b []byte) lock.Hash { return sha256.Sum256(b) }

// An importer reads one inputs file.
type importer struct {
	ctx     context.Context
	lock    *lock.Lock
	store   *lock.Store
	tr      *tar.Reader
	objects map[string]lock.Object // by name in the file
	sums    map[string]string      // of modules and toolchains, by name of the zip in the file
	zips    []string               // of modules, by name in the file
	last    string
	n       int // of files
}

// Import takes from an inputs file what k pins, into the store. Every byte is checked against the lock
// before it is kept; what the lock does not name is an error, and so is an input of the lock that is neither in the file nor
// in the store: a file that was cut ends as a whole one does. It returns how many files were taken.
func Import(ctx context.Context, r io.Reader, k *lock.Lock, store *lock.Store) (int, error) {
	x := &importer{ctx: ctx, lock: k, store: store, tr: tar.NewReader(io.LimitReader(ctxReader{ctx, r}, maxInputs)),
		objects: map[string]lock.Object{}, sums: map[string]string{}}
	for _, o := range objects(k) {
		x.objects[inputsStore+o.SHA256.String()] = o
	}
	for _, m := range k.Modules {
		name, err := x.expect(m.Path, m.Version, m.Sum)
		if err != nil {
			return 0, err
		}
		x.zips = append(x.zips, name)
	}
	for _, t := range k.Toolchains {
		if _, err := x.expect(gosrc.ToolchainModule, gosrc.ToolchainVersion(t.Version, t.Platform), t.Sum); err != nil {
			return 0, err
		}
	}
	if err := x.head(); err != nil {
		return 0, fmt.Errorf("inputs file: %w", err)
	}
	for {
		h, err := x.tr.Next()
		if errors.Is(err, io.EOF) {
			return x.n, x.complete()
		}
		if err == nil {
			err = x.one(h)
		}
		if err != nil {
			return x.n, fmt.Errorf("inputs file: %w", err)
		}
	}
}

// complete wants everything in the store that a build without network takes from there; not the proofs of where packages
// come from and the Go toolchain, which Export may leave out.
func (x *importer) complete() error {
	for _, o := range objects(x.lock) {
		if !proof(x.lock, o) && !x.store.Has(o.SHA256, o.Size) {
			return fmt.Errorf("inputs file: ends without %s%s, and the cache has it neither: want every input of the lock", inputsStore, o.SHA256)
		}
	}
	for _, name := range x.zips {
		file := filepath.Join(x.store.GoProxy(), filepath.FromSlash(strings.TrimPrefix(name, inputsProxy)))
		if fi, err := os.Stat(file); err != nil || !fi.Mode().IsRegular() {
			return fmt.Errorf("inputs file: ends without %s, and the cache has it neither: want every input of the lock", name)
		}
	}
	return nil
}

// expect notes the sum of a module's zip under its name in the file, and returns that.
func (x *importer) expect(p, version, sum string) (name string, err error) {
	ep, err := module.EscapePath(p)
	if err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	ev, err := module.EscapeVersion(version)
	if err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	name = inputsProxy + ep + "/@v/" + ev + ".zip"
	x.sums[name] = sum
	return name, nil
}

// head reads the first entry, which says what the file is. That it was made for another lock does not
// matter: each file is held against this one.
func (x *importer) head() error {
	h, err := x.tr.Next()
	if err != nil {
		return fmt.Errorf("want a tar file: %w", err)
	}
	line, err := io.ReadAll(io.LimitReader(x.tr, 256))
	if err != nil {
		return err
	}
	if h.Name != inputsHead || !strings.HasPrefix(string(line), inputsPrefix) {
		return fmt.Errorf("starts with %.80q, want the file %s", h.Name, inputsHead)
	}
	return nil
}

func (x *importer) one(h *tar.Header) error {
	name := h.Name
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%.200q: entry type %q, want files only", name, h.Typeflag)
	}
	if name <= x.last {
		return fmt.Errorf("%.200q: twice or not in order", name)
	}
	x.last = name
	switch {
	case name == inputsTar:
		return nil // for who has nothing but this file; here the spec is on disk
	case strings.HasPrefix(name, inputsStore):
		return x.object(name)
	case strings.HasPrefix(name, inputsProxy):
		return x.module(name, h.Size)
	}
	return fmt.Errorf("%.200q: not the name of an input", name)
}

func (x *importer) object(name string) error {
	o, ok := x.objects[name]
	if !ok {
		return fmt.Errorf("%.200q: no input of this lock", name)
	}
	x.n++
	if err := x.store.PutReader(x.ctx, x.tr, o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// module takes a file of a module proxy. A zip must have the sum of the lock; a go.mod is checked by the
// go command, against go.sum.
func (x *importer) module(name string, size int64) error {
	if err := checkProxyName(name); err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	sum := ""
	if path.Ext(name) == ".zip" {
		if sum = x.sums[name]; sum == "" {
			return fmt.Errorf("%.200q: no module of this lock", name)
		}
	} else if size > maxModFile {
		return fmt.Errorf("%.200q: %d bytes, want at most %d", name, size, maxModFile)
	}
	x.n++
	file := filepath.Join(x.store.GoProxy(), filepath.FromSlash(strings.TrimPrefix(name, inputsProxy)))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := atomicfile.Create(file, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(f, io.LimitReader(x.tr, maxLocal)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if sum != "" {
		got, err := dirhash.HashZip(f.Name(), dirhash.Hash1)
		if err == nil && got != sum {
			err = fmt.Errorf("sum %s, want %s", got, sum)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return f.Commit()
}

// checkProxyName wants goproxy/ESCAPED-PATH/@v/ESCAPED-VERSION.EXT.
func checkProxyName(name string) error {
	p, file, ok := strings.Cut(strings.TrimPrefix(name, inputsProxy), "/@v/")
	ext := path.Ext(file)
	if !ok || ext != ".info" && ext != ".mod" && ext != ".zip" {
		return errors.New("not a file of a module proxy")
	}
	if _, err := module.UnescapePath(p); err != nil {
		return err
	}
	_, err := module.UnescapeVersion(strings.TrimSuffix(file, ext))
	return err
}
