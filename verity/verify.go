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
	Block   uint64 // in blocks of the area's size from the start of the file
	Offset  int64  // the same in bytes
	Level   int    // of a hash block; 0 is the level over the data
	First   uint64 // first data block that it is or covers
	Count   uint64 // number of data blocks
	Padding bool   // the digest is right, but a hash block has bytes beside its digests that are not zero
}

func (e *BlockError) Error() string {
	what := "digest differs from the hash tree"
	if e.Padding {
		what = "bytes beside the digests are not zero"
	}
	at := ""
	if e.Area == AreaHash {
		at = fmt.Sprintf("level %d, ", e.Level)
	}
	return fmt.Sprintf("%s block %d (%sbyte %d): %s", e.Area, e.Block, at, e.Offset, what)
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
	v, err := newVerifier(data, hash, root, p)
	if err != nil {
		return err
	}
	v.run(ctx)
	return v.err
}

func newVerifier(data, hash io.ReaderAt, root RootHash, p Params) (*verifier, error) {
	g, err := p.geometry()
	if err != nil {
		return nil, err
	}
	if root.Size() != g.size {
		return nil, fmt.Errorf("root hash: %d bytes, want the %d of %s", root.Size(), g.size, g.Hash)
	}
	return &verifier{g: g, data: data, root: root, path: newPath(hash, root, g)}, nil
}

// readFull reads whole blocks; a file that ends in them is named with the block it ends in.
func readFull(r io.ReaderAt, b []byte, block uint64, size int, area Area) error {
	n, err := r.ReadAt(b, int64(block)*int64(size))
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%s file ends in block %d, want %d more bytes", area, block+uint64(n/size), len(b)-n)
	}
	return fmt.Errorf("%s block %d: %w", area, block, err)
}

// A verifier gives chunks of data, with their verified digests, to its workers in order.
type verifier struct {
	g    *geometry
	data io.ReaderAt
	root RootHash

	mu   sync.Mutex
	path *path
	next uint64 // the next data block
	at   uint64 // the data block at which err was found
	err  error  // of the lowest data block that failed

	// found takes each bad block instead of err, under mu; the check then goes on behind it.
	found func(*BlockError)
}

func (v *verifier) run(ctx context.Context) {
	if len(v.g.levels) == 0 {
		v.err = v.oneBlock()
		return
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
}

// oneBlock checks data that is one block: there is no tree, the root hash is that block's digest.
func (v *verifier) oneBlock() error {
	block := make([]byte, v.g.DataBlockSize)
	if err := readFull(v.data, block, 0, len(block), AreaData); err != nil {
		return err
	}
	if !bytes.Equal(v.path.h.sum(nil, block), v.root.digest[:v.g.size]) {
		return ErrRoot
	}
	return nil
}

func (v *verifier) work(ctx context.Context) {
	h := newHasher(v.g)
	most := min(v.g.chunks().blocks, v.g.DataBlocks)
	digests := make([]byte, 0, most*uint64(v.g.size))
	buf := make([]byte, most*uint64(v.g.DataBlockSize))
	for {
		first, d := v.take(ctx, digests)
		if len(d) == 0 {
			return
		}
		if err := v.check(h, first, d, buf); err != nil {
			v.mu.Lock()
			v.fail(first, err)
			v.mu.Unlock()
		}
	}
}

// take appends the verified digests of the next data blocks to d and says which the first is. There are
// none after an error: workers that are at earlier data finish it, so that the first error is found.
func (v *verifier) take(ctx context.Context, d []byte) (first uint64, _ []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	first = v.next
	for v.err == nil && v.next < v.g.DataBlocks && len(d) < cap(d) {
		err := ctx.Err()
		var leaf []byte
		if err == nil {
			leaf, err = v.path.block(0, v.next/v.g.perBlock)
		}
		var be *BlockError
		switch {
		case err == nil:
			n := min(uint64((cap(d)-len(d))/v.g.size), v.g.perBlock-v.next%v.g.perBlock, v.g.DataBlocks-v.next)
			for range n {
				d = append(d, leaf[v.next%v.g.perBlock*uint64(v.g.slot):][:v.g.size]...)
				v.next++
			}
		case v.found != nil && errors.As(err, &be):
			v.found(be)
			v.next = be.First + be.Count // nothing says what is right below it
			if len(d) > 0 {
				return first, d
			}
			first = v.next
		default:
			v.fail(v.next, err)
		}
	}
	return first, d
}

func (v *verifier) fail(at uint64, err error) {
	if v.err == nil || at < v.at {
		v.at, v.err = at, err
	}
}

// check compares data from block first on with its digests.
func (v *verifier) check(h *hasher, first uint64, digests, buf []byte) error {
	size := v.g.DataBlockSize
	buf = buf[:len(digests)/v.g.size*size]
	if err := readFull(v.data, buf, first, size, AreaData); err != nil {
		return err
	}
	var sum [maxDigest]byte
	for block := first; len(buf) > 0; block++ {
		if !bytes.Equal(h.sum(sum[:0], buf[:size]), digests[:v.g.size]) {
			be := &BlockError{Area: AreaData, Block: block, Offset: int64(block) * int64(size), First: block, Count: 1}
			if v.found == nil {
				return be
			}
			v.mu.Lock()
			v.found(be)
			v.mu.Unlock()
		}
		buf, digests = buf[size:], digests[v.g.size:]
	}
	return nil
}
