package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/urfave/cli/v2"

	"tally/mkimage/lock"
	"tally/mkimage/source"
)

// maxSourceFile is the largest spec or lock read for owners, in bytes.
const maxSourceFile = lock.MaxLock

// owners returns who owns a path of the root file system on either side, "" when that is not known. A disk has its
// spec and its lock beside it. They are read when the first path is asked for: equal images need none.
func owners(c *cli.Context, e *env, a, b string) (both [2]func(string) string) {
	for i, p := range []string{a, b} {
		var once sync.Once
		of := func(string) string { return "" }
		both[i] = func(path string) string {
			once.Do(func() {
				store, err := openStore(c)
				if err != nil {
					return
				}
				switch o, err := readOwners(p, store); {
				case err == nil:
					of = o.Of
				case !errors.Is(err, os.ErrNotExist):
					e.logf("%s: owners of files are not known: %v", p, err)
				}
			})
			return of(path)
		}
	}
	return both
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
