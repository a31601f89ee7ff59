package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
)

// A Store keeps files by their SHA-256 below a directory: sha256/HEX. What is half downloaded lies beside
// it as HEX.part and is taken up again.
type Store struct{ dir string }

// NewStore returns the store in dir, which is made when something is put there.
func NewStore(dir string) *Store { return &Store{dir} }

// Path is where the file with that hash is, or would be.
func (s *Store) Path(h Hash) string { return filepath.Join(s.dir, "sha256", h.String()) }

// Unpacked is the directory of decompressed packages.
func (s *Store) Unpacked() string { return filepath.Join(s.dir, "unpacked") }

// Has says whether the file is there with the right size. Its bytes are checked by who reads it: Open
// and deb.Unpack.
func (s *Store) Has(h Hash, size int64) bool {
	fi, err := os.Stat(s.Path(h))
	return err == nil && fi.Mode().IsRegular() && (size < 0 || fi.Size() == size)
}

// ErrDamaged says that a file of the store has not the bytes its name says.
var ErrDamaged = errors.New("cached file is damaged")

// Read returns the file with that hash and checks it.
func (s *Store) Read(h Hash) ([]byte, error) {
	data, err := os.ReadFile(s.Path(h))
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(data) != h {
		return nil, fmt.Errorf("%w: %s: remove it", ErrDamaged, s.Path(h))
	}
	return data, nil
}

// Put stores data.
func (s *Store) Put(data []byte) (Hash, error) {
	h := Hash(sha256.Sum256(data))
	if s.Has(h, int64(len(data))) {
		return h, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Path(h)), 0o755); err != nil {
		return h, err
	}
	return h, atomicfile.WriteFile(s.Path(h), data, 0o644)
}

// PutReader stores what r holds, if it has the hash and size wanted.
func (s *Store) PutReader(ctx context.Context, r io.Reader, want Hash, size int64) error {
	if err := os.MkdirAll(filepath.Dir(s.Path(want)), 0o755); err != nil {
		return err
	}
	f, err := atomicfile.Create(s.Path(want), 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(ctxReader{ctx, r}, size+1))
	if err != nil {
		return err
	}
	if got := Hash(h.Sum(nil)); n != size || got != want {
		return fmt.Errorf("%d bytes with SHA-256 %s, want %d with %s", n, got, size, want)
	}
	return f.Commit()
}

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
