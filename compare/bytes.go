package compare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

const chunkSize = 1 << 20

// A source is some bytes of one side.
type source = *io.SectionReader

func newSource(b []byte) source { return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))) }

// sub returns the bytes from off on of a source.
func sub(s source, off, size int64) source { return io.NewSectionReader(s, off, size) }

// eachChunk reads both sources up to the shorter one's end, two chunks at a time in parallel, and calls f
// with the bytes of each; f may be called from two goroutines. It stops early when f returns false.
func eachChunk(ctx context.Context, a, b source, f func(off int64, x, y []byte) bool) error {
	size := min(a.Size(), b.Size())
	var next atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			x, y := make([]byte, min(chunkSize, size)), make([]byte, min(chunkSize, size))
			for !stop.Load() {
				off := next.Add(chunkSize) - chunkSize
				if off >= size {
					return
				}
				n := min(chunkSize, size-off)
				if errs[i] = readBoth(ctx, a, b, x[:n], y[:n], off); errs[i] != nil || !f(off, x[:n], y[:n]) {
					stop.Store(true)
				}
			}
		}()
	}
	wg.Wait()
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}

func readBoth(ctx context.Context, a, b source, x, y []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, s := range []struct {
		r source
		b []byte
	}{{a, x}, {b, y}} {
		if n, err := s.r.ReadAt(s.b, off); n < len(s.b) {
			return fmt.Errorf("reading byte %d: %w", off+int64(n), err)
		}
	}
	return nil
}

// equal says whether two sources have the same bytes. This is the only verdict: no digest stands for it.
func equal(ctx context.Context, a, b source) (bool, error) {
	if a.Size() != b.Size() {
		return false, nil
	}
	var differ atomic.Bool
	err := eachChunk(ctx, a, b, func(_ int64, x, y []byte) bool {
		if !bytes.Equal(x, y) {
			differ.Store(true)
			return false
		}
		return true
	})
	return !differ.Load(), err
}

// A byteDiff says where two sources differ, up to the end of the shorter one.
type byteDiff struct {
	first  int64   // offset of the first byte that differs; -1: none
	count  int64   // bytes that differ
	x, y   byte    // the first ones
	blocks []int64 // numbers of the blocks that differ, in order; at most maxBlocks
}

const maxBlocks = 1 << 20

// diffBytes finds every difference in blocks of blockSize, which divides chunkSize.
func diffBytes(ctx context.Context, a, b source, blockSize int64) (byteDiff, error) {
	chunks := make([]byteDiff, (min(a.Size(), b.Size())+chunkSize-1)/chunkSize)
	err := eachChunk(ctx, a, b, func(off int64, x, y []byte) bool {
		d := &chunks[off/chunkSize]
		d.first = -1
		if bytes.Equal(x, y) {
			return true
		}
		for at := int64(0); at < int64(len(x)); at += blockSize {
			p, q := x[at:min(int64(len(x)), at+blockSize)], y[at:min(int64(len(x)), at+blockSize)]
			if bytes.Equal(p, q) {
				continue
			}
			d.blocks = append(d.blocks, (off+at)/blockSize)
			for i := range p {
				if p[i] != q[i] {
					if d.count++; d.count == 1 {
						d.first, d.x, d.y = off+at+int64(i), p[i], q[i]
					}
				}
			}
		}
		return true
	})
	all := byteDiff{first: -1}
	for _, d := range chunks {
		if d.count == 0 {
			continue
		}
		if all.count == 0 {
			all.first, all.x, all.y = d.first, d.x, d.y
		}
		all.count += d.count
		all.blocks = append(all.blocks, d.blocks[:min(len(d.blocks), maxBlocks-len(all.blocks))]...)
	}
	return all, err
}

// readAll reads a source of at most limit bytes; ok is false for a larger one.
func readAll(s source, limit int64) (b []byte, ok bool, err error) {
	if s.Size() > limit {
		return nil, false, nil
	}
	b = make([]byte, s.Size())
	if n, err := s.ReadAt(b, 0); n < len(b) {
		return nil, false, err
	}
	return b, true, nil
}

// readWhole reads a source that must be of at most limit bytes.
func readWhole(s source, limit int64) ([]byte, error) {
	b, ok, err := readAll(s, limit)
	if err == nil && !ok {
		err = fmt.Errorf("%d bytes: want at most %d", s.Size(), limit)
	}
	return b, err
}

// sourceOfFile opens a file for each read: a tree may have more files than descriptors.
func sourceOfFile(path string, size int64) source {
	return io.NewSectionReader(lazyFile(path), 0, size)
}

type lazyFile string

func (f lazyFile) ReadAt(b []byte, off int64) (int, error) {
	file, err := os.Open(string(f))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.ReadAt(b, off)
}

// readRegular reads a small file that came with what is compared. Its length and kind are someone else's choice:
// a pipe would wait for ever, and a file of holes fill the memory.
func readRegular(path string, limit int64) ([]byte, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %s: want a regular file", path, st.Mode().Type())
	}
	s, done, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := readWhole(s, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
