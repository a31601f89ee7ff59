package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"tally/compare"
	"tally/internal/cli"
	"tally/mkimage/lock"
	"tally/mkimage/source"
)

// maxSourceFile is the largest spec or lock read for owners, in bytes.
const maxSourceFile = lock.MaxLock

// owners returns who owns a path of an image on either side, "" when that is not known. A disk has its spec and its
// lock beside it.
func owners(c *cli.Context, e *env, a, b string) (both [2]func(compare.Tree, string) string) {
	for i, p := range []string{a, b} {
		both[i] = lazyOwner(e, p, func() (*source.Owners, error) {
			store, err := openStore(c)
			if err != nil {
				return nil, err
			}
			return readOwners(p, store)
		})
	}
	return both
}

// lazyOwner loads when the first path is asked for: equal images need no owners.
func lazyOwner(e *env, name string, load func() (*source.Owners, error)) func(compare.Tree, string) string {
	var once sync.Once
	var o *source.Owners
	return func(tree compare.Tree, path string) string {
		once.Do(func() {
			var err error
			if o, err = load(); err != nil {
				o = nil
				if !errors.Is(err, os.ErrNotExist) {
					e.logf("%s: owners of files are not known: %v", name, err)
				}
			}
		})
		switch {
		case o == nil:
			return ""
		case tree == compare.Initrd:
			return o.OfInitrd(path)
		}
		return o.Of(path)
	}
}

func readOwners(p string, store *lock.Store) (*source.Owners, error) {
	if st, err := os.Stat(p); err == nil && !st.IsDir() {
		p = filepath.Dir(p)
	}
	var raw [2][]byte
	for i, name := range []string{"image.yaml", lock.FileName} {
		var err error
		if raw[i], err = readBeside(filepath.Join(p, name)); err != nil {
			return nil, err
		}
	}
	f, err := openBeside(filepath.Join(p, "sources.tar"))
	if errors.Is(err, os.ErrNotExist) {
		return source.NewOwners(raw[0], raw[1], nil, store)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return source.NewOwners(raw[0], raw[1], f, store)
}

func readBeside(name string) ([]byte, error) {
	f, err := openBeside(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSourceFile+1))
	if err == nil && len(b) > maxSourceFile {
		err = fmt.Errorf("%s: longer than %d bytes", name, maxSourceFile)
	}
	return b, err
}

// openBeside opens a file that lies beside what is compared. Anything else, such as a pipe, may be waited for for ever.
func openBeside(name string) (*os.File, error) {
	if st, err := os.Stat(name); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %s: want a regular file", name, st.Mode().Type())
	}
	return os.Open(name)
}
