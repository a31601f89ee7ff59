package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// An Area says in which file a block is.
type Area string

// The areas of a BlockError.
const (
	AreaData Area = "data"
	AreaHash Area = "hash"
)

// A BlockError is a block whose digest is not what the level above says: the tree is not verified.
type BlockError struct {
	Area  Area
	Block uint64 // in blocks of 4096 bytes from the start of the file
}

func (e *BlockError) Error() string {
	return fmt.Sprintf("%s block %d (byte %d): digest differs from the hash tree", e.Area, e.Block, e.Block*BlockSize)
}

// ErrRoot is returned when a single data block does not have the root hash as its digest, or the top
// hash block does not.
var ErrRoot = errors.New("root hash differs from the hash tree's")

// Verify checks every hash block and every data block against root. The superblock is not read: p says
// it all. The error is a *BlockError (first bad block: hash blocks from the top, then data blocks in
// order) or ErrRoot when the tree is not verified, anything else when it could not be read.
func Verify(ctx context.Context, data, hash io.ReaderAt, root RootHash, p Params) error {
	if err := p.check(); err != nil {
		return err
	}
	levels, _ := p.levels()
	h := newHasher(p.Salt)
	if len(levels) == 0 {
		block := make([]byte, BlockSize)
		if err := readFull(data, block, 0, AreaData); err != nil {
			return err
		}
		if !bytes.Equal(h.sum(nil, block), root[:]) {
			return ErrRoot
		}
		return nil
	}
	want := root[:]
	for l := len(levels) - 1; l > 0; l-- {
		var err error
		if want, err = readLevel(ctx, hash, h, levels[l], want, l == len(levels)-1); err != nil {
			return err
		}
	}
	v := &leafVerifier{p: p, data: data, hash: hash, level: levels[0], want: want, top: len(levels) == 1}
	return v.run(ctx)
}

// readLevel checks the blocks of a level against want, one digest each, and returns their content.
func readLevel(ctx context.Context, r io.ReaderAt, h *hasher, l level, want []byte, top bool) ([]byte, error) {
	content := make([]byte, l.count*BlockSize)
	for i := uint64(0); i < l.count; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		block := content[i*BlockSize:][:BlockSize]
		if err := readFull(r, block, l.start+i, AreaHash); err != nil {
			return nil, err
		}
		if !bytes.Equal(h.sum(nil, block), want[i*DigestSize:][:DigestSize]) {
			if top {
				return nil, ErrRoot
			}
			return nil, &BlockError{AreaHash, l.start + i}
		}
	}
	return content, nil
}

func readFull(r io.ReaderAt, b []byte, block uint64, area Area) error {
	n, err := r.ReadAt(b, int64(block)*BlockSize)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%s file ends in block %d, want %d more bytes", area, block+uint64(n/BlockSize), len(b)-n)
	}
	return err
}

// A leafVerifier checks leaf hash blocks and the data below them, a few at a time.
type leafVerifier struct {
	p          Params
	data, hash io.ReaderAt
	level      level
	want       []byte // digests of the leaf hash blocks
	top        bool   // the leaf level is the top: a mismatch is one of the root hash

	next atomic.Uint64
	mu   sync.Mutex
	at   uint64 // leaf of err
	err  error  // of the lowest leaf that failed
}

func (v *leafVerifier) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Add(workers)
	for range workers {
		go func() {
			defer wg.Done()
			h, buf, block := newHasher(v.p.Salt), make([]byte, chunkSize), make([]byte, BlockSize)
			for {
				i := v.next.Add(1) - 1
				if i >= v.level.count || v.failedBefore(i) {
					return
				}
				err := ctx.Err()
				if err == nil {
					err = v.leaf(h, i, buf, block)
				}
				if err != nil {
					v.fail(i, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return v.err
}

func (v *leafVerifier) failedBefore(i uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err != nil && v.at < i
}

func (v *leafVerifier) fail(i uint64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil || i < v.at {
		v.at, v.err = i, err
	}
}

func (v *leafVerifier) leaf(h *hasher, i uint64, buf, block []byte) error {
	if err := readFull(v.hash, block, v.level.start+i, AreaHash); err != nil {
		return err
	}
	var sum [DigestSize]byte
	if !bytes.Equal(h.sum(sum[:0], block), v.want[i*DigestSize:][:DigestSize]) {
		if v.top {
			return ErrRoot
		}
		return &BlockError{AreaHash, v.level.start + i}
	}
	first := i * perBlock
	n := min(uint64(perBlock), v.p.DataBlocks-first)
	buf = buf[:n*BlockSize]
	if err := readFull(v.data, buf, first, AreaData); err != nil {
		return err
	}
	for k := uint64(0); k < n; k++ {
		if !bytes.Equal(h.sum(sum[:0], buf[k*BlockSize:][:BlockSize]), block[k*DigestSize:][:DigestSize]) {
			return &BlockError{AreaData, first + k}
		}
	}
	if !bytes.Equal(block[n*DigestSize:], make([]byte, BlockSize-n*DigestSize)) {
		return &BlockError{AreaHash, v.level.start + i}
	}
	return nil
}
