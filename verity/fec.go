package verity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// FEC says how the error correction data of a tree is laid out, as `veritysetup --fec-device` writes it.
//
// What it covers is the data, then the hash file from the top level on, to the end of the last whole block
// in the file (or up to the error correction data, when that is in the hash file too). Cut into 255-Roots
// parts of equal size, the last filled up with zeros, the parts are the rows of a table: each column, of
// one byte from each part, has Roots bytes of Reed-Solomon parity (rs.go), and these stand at Offset one
// column after the other. The parts are whole blocks, so that a lost block costs each column it is in
// one byte.
type FEC struct {
	Roots  int   // parity bytes of a column, 2 to 24
	Offset int64 // where they start in the file, a multiple of 512 bytes
	// HashFileSize is the size in bytes of the hash file, or Offset when they are in that file.
	HashFileSize int64
}

// Limits of FEC.Roots.
const (
	MinFECRoots = 2
	MaxFECRoots = 24
)

// fecPart is how many columns a worker does at a time.
const fecPart = 32 << 10

// covered reads what error correction covers as one file; zeros follow it.
type covered struct {
	data, hash         io.ReaderAt
	dataSize, hashSize int64 // bytes of either that are covered
	hashStart          int64 // of the tree in the hash file
	part               int64 // size in bytes of a part: the number of columns
	rows               int   // number of parts
}

// newCovered checks f against the tree.
func newCovered(data, hash io.ReaderAt, g *geometry, f FEC) (*covered, error) {
	if g.DataBlockSize != g.HashBlockSize {
		return nil, fmt.Errorf("error correction: data blocks of %d and hash blocks of %d bytes, want the same size", g.DataBlockSize, g.HashBlockSize)
	}
	block := int64(g.DataBlockSize)
	start, end := int64(g.start)*block, int64(g.end)*block
	switch {
	case f.Roots < MinFECRoots || f.Roots > MaxFECRoots:
		return nil, fmt.Errorf("error correction: %d roots, want %d to %d", f.Roots, MinFECRoots, MaxFECRoots)
	case f.Offset < 0 || f.Offset%sector != 0 || f.Offset > 1<<62:
		return nil, fmt.Errorf("error correction: offset %d, want a multiple of %d", f.Offset, sector)
	case len(g.levels) > 0 && f.HashFileSize < end:
		return nil, fmt.Errorf("error correction: %d bytes of hash file in front of it, want at least %d", f.HashFileSize, end)
	}
	c := &covered{
		data: data, hash: hash, dataSize: g.dataSize(), hashStart: start,
		hashSize: max(0, f.HashFileSize/block*block-start), rows: rsLength - f.Roots,
	}
	if c.hashSize > 1<<62 || c.dataSize > 1<<62 {
		return nil, errors.New("error correction: more than 2^62 bytes to cover")
	}
	blocks := (c.dataSize + c.hashSize) / block
	c.part = (blocks + int64(c.rows) - 1) / int64(c.rows) * block
	if c.part > (math.MaxInt64-f.Offset)/int64(f.Roots) {
		return nil, fmt.Errorf("error correction: %d columns, too many", c.part)
	}
	return c, nil
}

// ReadAt never reaches an end.
func (c *covered) ReadAt(b []byte, off int64) (int, error) {
	total := len(b)
	for len(b) > 0 {
		r, at, left := c.data, off, c.dataSize-off
		if left <= 0 {
			r, at, left = c.hash, off-c.dataSize+c.hashStart, c.dataSize+c.hashSize-off
		}
		if left <= 0 {
			clear(b)
			break
		}
		n := int(min(int64(len(b)), left))
		if k, err := r.ReadAt(b[:n], at); k < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return total - len(b) + k, err
		}
		b, off = b[n:], off+int64(n)
	}
	return total, nil
}

// FECSize is the size in bytes of the error correction data.
func FECSize(p Params, f FEC) (int64, error) {
	g, err := p.geometry()
	if err != nil {
		return 0, err
	}
	c, err := newCovered(nil, nil, g, f)
	if err != nil {
		return 0, err
	}
	return c.part * int64(f.Roots), nil
}

// WriteFEC computes the error correction data of data and its finished hash file, and writes it to fec at
// f.Offset. The workers use both files at the same time; memory is flat: at most 2 MiB for each.
func WriteFEC(ctx context.Context, data, hash io.ReaderAt, fec io.WriterAt, p Params, f FEC) error {
	g, err := p.geometry()
	if err != nil {
		return err
	}
	c, err := newCovered(data, hash, g, f)
	if err != nil {
		return err
	}
	var (
		enc  = newRSEncoder(f.Roots)
		next atomic.Int64
		wg   sync.WaitGroup
		errs [workers]error
	)
	for i := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			e := newColumns(c, enc)
			for errs[i] == nil {
				at := (next.Add(1) - 1) * fecPart
				if at >= c.part {
					return
				}
				errs[i] = e.write(ctx, fec, f, at)
			}
			next.Store(c.part / fecPart) // the others stop too
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one is enough to say
		}
	}
	return nil
}

// A FECError says that error correction data is not that of the files: it, or what it covers, has changed.
type FECError struct {
	Offset int64 // the first byte that differs, from the start of the file
}

func (e *FECError) Error() string {
	return fmt.Sprintf("error correction data differs at byte %d", e.Offset)
}

// CheckFEC computes the error correction data anew and compares. The error is a *FECError for the first
// byte that differs; when the files cannot be read, or fec ends early, it is another.
func CheckFEC(ctx context.Context, data, hash, fec io.ReaderAt, p Params, f FEC) error {
	c := &comparer{r: fec}
	if err := WriteFEC(ctx, data, hash, c, p, f); err != nil {
		return err
	}
	if c.differs {
		return &FECError{c.at}
	}
	return nil
}

// A comparer takes writes and notes the first byte that its file has otherwise.
type comparer struct {
	r io.ReaderAt

	mu      sync.Mutex
	differs bool
	at      int64
}

func (c *comparer) WriteAt(b []byte, off int64) (int, error) {
	have := make([]byte, len(b))
	if n, err := c.r.ReadAt(have, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("ends before byte %d", off+int64(len(b)))
		}
		return 0, fmt.Errorf("error correction file: %w", err)
	}
	for i := range b {
		if b[i] != have[i] {
			c.mu.Lock()
			if at := off + int64(i); !c.differs || at < c.at {
				c.differs, c.at = true, at
			}
			c.mu.Unlock()
			break
		}
	}
	return len(b), nil
}

// columns computes the parity of fecPart columns at a time.
type columns struct {
	c      *covered
	enc    *rsEncoder
	state  []uint64
	row    []byte
	parity []byte
}

func newColumns(c *covered, enc *rsEncoder) *columns {
	n := int(min(fecPart, c.part))
	return &columns{c, enc, make([]uint64, n*enc.words), make([]byte, n), make([]byte, 0, n*enc.roots)}
}

// write writes the parity of the columns from byte at of each part on.
func (e *columns) write(ctx context.Context, fec io.WriterAt, f FEC, at int64) error {
	n := int(min(fecPart, e.c.part-at))
	state := e.state[:n*e.enc.words]
	clear(state)
	for i := range e.c.rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := e.c.ReadAt(e.row[:n], int64(i)*e.c.part+at); err != nil {
			return fmt.Errorf("error correction: %w", err)
		}
		e.enc.add(state, e.row[:n])
	}
	e.parity = e.enc.parity(e.parity[:0], state)
	_, err := fec.WriteAt(e.parity, f.Offset+at*int64(f.Roots))
	return err
}
