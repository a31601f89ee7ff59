package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// An Area says in which file a block is.
type Area string

// The areas of a BlockError.
const (
	AreaData Area = "data"
	AreaHash Area = "hash"
)

// A BlockError is a block that is not what the level above it says: the tree is not verified.
type BlockError struct {
	Area    Area
	Block   uint64 // in blocks of 4096 bytes from the start of the file
	Padding bool   // the digest is right, but bytes after the last digest of a hash block are not zero
}

func (e *BlockError) Error() string {
	what := "digest differs from the hash tree"
	if e.Padding {
		what = "bytes after the last digest are not zero"
	}
	return fmt.Sprintf("%s block %d (byte %d): %s", e.Area, e.Block, e.Block*BlockSize, what)
}

// ErrRoot is returned when the top hash block, or the only data block, does not have the root hash as
// its digest: the tree is that of other data, or its parameters are others.
var ErrRoot = errors.New("root hash differs from the hash tree's")

// Verify checks every hash block and every data block against root. The superblock is not read: p says
// it all. data may be longer than p.DataBlocks, what follows is not covered.
//
// The error is ErrRoot or a *BlockError when the tree is not verified: of several bad blocks the one
// that covers or holds the first data. Anything else means that the files could not be read.
// Memory is flat: one chunk of 512 KiB for each worker and one block for each level.
func Verify(ctx context.Context, data, hash io.ReaderAt, root RootHash, p Params) error {
	if err := p.check(); err != nil {
		return err
	}
	v := &verifier{p: p, data: data, path: newPath(hash, root, p)}
	if len(v.path.levels) == 0 {
		return v.oneBlock(root)
	}
	var wg sync.WaitGroup
	wg.Add(workers)
	for range workers {
		go func() {
			defer wg.Done()
			v.work(ctx)
		}()
	}
	wg.Wait()
	return v.err
}

// readFull reads whole blocks; a file that ends in them is named with the block it ends in.
func readFull(r io.ReaderAt, b []byte, block uint64, area Area) error {
	n, err := r.ReadAt(b, int64(block)*BlockSize)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%s file ends in block %d, want %d more bytes", area, block+uint64(n/BlockSize), len(b)-n)
	}
	return fmt.Errorf("%s block %d: %w", area, block, err)
}

// A path is the way from the root down to one hash block: the verified block of each level. Going
// through the leaves in order reads each upper block once.
type path struct {
	r      io.ReaderAt
	h      *hasher
	root   RootHash
	p      Params
	levels []level
	blocks [][]byte // of levels[i], verified
	at     []uint64 // index of blocks[i] in its level, plus one; 0 when there is none yet
}

func newPath(r io.ReaderAt, root RootHash, p Params) *path {
	levels, _ := p.levels()
	w := &path{r: r, h: newHasher(p.Salt), root: root, p: p, levels: levels, at: make([]uint64, len(levels))}
	for range levels {
		w.blocks = append(w.blocks, make([]byte, BlockSize))
	}
	return w
}

// block returns the verified block i of a level, good until the next call.
func (w *path) block(lv int, i uint64) ([]byte, error) {
	b := w.blocks[lv]
	if w.at[lv] == i+1 {
		return b, nil
	}
	want := w.root[:]
	if lv+1 < len(w.levels) {
		above, err := w.block(lv+1, i/perBlock)
		if err != nil {
			return nil, err
		}
		want = above[i%perBlock*DigestSize:][:DigestSize]
	}
	w.at[lv] = 0
	n := w.levels[lv].start + i
	if err := readFull(w.r, b, n, AreaHash); err != nil {
		return nil, err
	}
	var sum RootHash
	switch used := w.digests(lv, i) * DigestSize; {
	case bytes.Equal(w.h.sum(sum[:0], b), want):
		if !allZero(b[used:]) {
			return nil, &BlockError{Area: AreaHash, Block: n, Padding: true}
		}
	case lv+1 == len(w.levels):
		return nil, ErrRoot
	default:
		return nil, &BlockError{Area: AreaHash, Block: n}
	}
	w.at[lv] = i + 1
	return b, nil
}

// digests is the number of digests in block i of a level.
func (w *path) digests(lv int, i uint64) uint64 {
	below := w.p.DataBlocks
	if lv > 0 {
		below = w.levels[lv-1].count
	}
	return min(perBlock, below-i*perBlock)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// A verifier gives leaf hash blocks to its workers in order.
type verifier struct {
	p    Params
	data io.ReaderAt

	mu   sync.Mutex
	path *path
	next uint64 // the next leaf
	at   uint64 // the leaf of err
	err  error  // of the lowest leaf that failed
}

// oneBlock checks data that is one block: there is no tree, the root hash is that block's digest.
func (v *verifier) oneBlock(root RootHash) error {
	block := make([]byte, BlockSize)
	if err := readFull(v.data, block, 0, AreaData); err != nil {
		return err
	}
	var sum RootHash
	if v.path.h.sum(sum[:0], block); sum != root {
		return ErrRoot
	}
	return nil
}

func (v *verifier) work(ctx context.Context) {
	h := newHasher(v.p.Salt)
	leaf := make([]byte, BlockSize)
	buf := make([]byte, min(perBlock, v.p.DataBlocks)*BlockSize)
	for {
		i, ok := v.take(ctx, leaf)
		if !ok {
			return
		}
		if err := v.check(h, i, leaf, buf); err != nil {
			v.mu.Lock()
			v.fail(i, err)
			v.mu.Unlock()
		}
	}
}

// take copies the next verified leaf hash block into leaf. There is none after an error: workers that
// are at an earlier leaf finish it, so that the first error is found.
func (v *verifier) take(ctx context.Context, leaf []byte) (uint64, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.next
	if v.err != nil || i == v.path.levels[0].count {
		return 0, false
	}
	v.next++
	err := ctx.Err()
	if err == nil {
		var b []byte
		if b, err = v.path.block(0, i); err == nil {
			copy(leaf, b)
			return i, true
		}
	}
	v.fail(i, err)
	return 0, false
}

func (v *verifier) fail(i uint64, err error) {
	if v.err == nil || i < v.at {
		v.at, v.err = i, err
	}
}

// check compares the data below leaf hash block i with its digests.
func (v *verifier) check(h *hasher, i uint64, leaf, buf []byte) error {
	first := i * perBlock
	buf = buf[:min(perBlock, v.p.DataBlocks-first)*BlockSize]
	if err := readFull(v.data, buf, first, AreaData); err != nil {
		return err
	}
	var sum RootHash
	for k := uint64(0); len(buf) > 0; k++ {
		if !bytes.Equal(h.sum(sum[:0], buf[:BlockSize]), leaf[k*DigestSize:][:DigestSize]) {
			return &BlockError{Area: AreaData, Block: first + k}
		}
		buf = buf[BlockSize:]
	}
	return nil
}
