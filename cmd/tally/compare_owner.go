package main

import (
	"errors"
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
		name := filepath.Join(p, name)
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if st.Size() > maxSourceFile {
			return nil, errors.New(name + ": too large")
		}
		if raw[i], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(filepath.Join(p, "sources.tar"))
	if err != nil {
		return source.NewOwners(raw[0], raw[1], nil, store)
	}
	defer f.Close()
	return source.NewOwners(raw[0], raw[1], f, store)
}
