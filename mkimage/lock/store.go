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
// it as HEX.part and is taken up again, within 30 days. Several processes may use one store.
type Store struct{ dir string }

// NewStore returns the store in dir, which is made when something is put there.
func NewStore(dir string) *Store { return &Store{dir} }

// Path is where the file with that hash is, or would be.
func (s *Store) Path(h Hash) string { return filepath.Join(s.dir, "sha256", h.String()) }

// Unpacked is the directory of decompressed packages.
func (s *Store) Unpacked() string { return filepath.Join(s.dir, "unpacked") }

// Steps is the directory of the outputs of build steps.
func (s *Store) Steps() string { return filepath.Join(s.dir, "steps") }

// GoProxy is the directory of Go modules and toolchains that were imported, in the layout of a module
// proxy (https://go.dev/ref/mod#goproxy-protocol).
func (s *Store) GoProxy() string { return filepath.Join(s.dir, "goproxy") }

// sweep removes what killed processes left half-written.
func (s *Store) sweep() {
	for _, dir := range []string{filepath.Join(s.dir, "sha256"), s.Unpacked(), s.Steps()} {
		atomicfile.SweepAbandoned(dir, "")
	}
}

// Has says whether the file is there with the right size. Its bytes are checked by who reads it: Read,
// Copy and deb.Unpack.
func (s *Store) Has(h Hash, size int64) bool {
	fi, err := os.Stat(s.Path(h))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == size
}

// ErrDamaged says that a file of the store has not the bytes its name says.
var ErrDamaged = errors.New("cached file is damaged")

// Read returns the file and checks it.
func (s *Store) Read(o Object) ([]byte, error) {
	f, err := os.Open(s.Path(o.SHA256))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, o.Size+1))
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(data) != o.SHA256 {
		return nil, fmt.Errorf("%w: %s: remove it", ErrDamaged, s.Path(o.SHA256))
	}
	return data, nil
}

// Copy writes the file to w and checks it; after an error w has taken bytes that must not be used.
func (s *Store) Copy(ctx context.Context, w io.Writer, o Object) error {
	f, err := os.Open(s.Path(o.SHA256))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(ctxReader{ctx, f}, o.Size+1))
	if err == nil && (n != o.Size || Hash(h.Sum(nil)) != o.SHA256) {
		err = fmt.Errorf("%w: %s: remove it", ErrDamaged, s.Path(o.SHA256))
	}
	return err
}

// Put stores data.
func (s *Store) Put(data []byte) (Object, error) {
	o := Object{SHA256: sha256.Sum256(data), Size: int64(len(data))}
	if s.Has(o.SHA256, o.Size) {
		return o, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Path(o.SHA256)), 0o755); err != nil {
		return o, err
	}
	return o, atomicfile.WriteFile(s.Path(o.SHA256), data, 0o644)
}

// PutReader stores what r holds, if it has the hash and size wanted.
func (s *Store) PutReader(ctx context.Context, r io.Reader, want Object) error {
	if err := os.MkdirAll(filepath.Dir(s.Path(want.SHA256)), 0o755); err != nil {
		return err
	}
	f, err := atomicfile.Create(s.Path(want.SHA256), 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(ctxReader{ctx, r}, want.Size+1))
	if err != nil {
		return err
	}
	if got := Hash(h.Sum(nil)); n != want.Size || got != want.SHA256 {
		return fmt.Errorf("%d bytes with SHA-256 %s, want %d with %s", n, got, want.Size, want.SHA256)
	}
	return f.Commit()
}

// A ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(b)
	if err != nil && c.ctx.Err() != nil {
		err = context.Cause(c.ctx) // a stalled download says so, not "context canceled"
	}
	return n, err
}
