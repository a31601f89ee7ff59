package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A failing file does as the file, but for errors.
type failing struct {
	*os.File
	write, sync, close error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.write != nil {
		return 0, f.write
	}
	return f.File.Write(p)
}
func (f *failing) Sync() error  { return errors.Join(f.File.Sync(), f.sync) }
func (f *failing) Close() error { return errors.Join(f.File.Close(), f.close) }

func TestWriteNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteNew(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	got, err := os.ReadFile(path)
	if fi, serr := os.Stat(path); serr != nil || fi.Mode() != 0o600 || err != nil || string(got) != "one" {
		t.Errorf("%q, %v, %v", got, err, fi)
	}
	full := errors.New("no space left")
	for name, f := range map[string]failing{"write": {write: full}, "sync": {sync: full}, "close": {close: full}} {
		at := filepath.Join(t.TempDir(), "key")
		if f.File, err = os.Create(at); err != nil {
			t.Fatal(err)
		}
		if err := fill(&f, at, []byte("x")); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file stays: %v", name, err)
		}
	}
}
