package verity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// workers hash at the same time. Two saturate what a disk delivers and what small machines have.
const workers = 2

// chunkSize is what one worker hashes at a time: the data below one leaf hash block.
const chunkSize = perBlock * BlockSize

// A Writer is given the data in order and writes the hash tree to a file as it goes. Memory is flat: a
// few chunks of 512 KiB and 32 bytes for each 512 KiB of data.
type Writer struct {
	p      Params
	hash   io.WriterAt
	levels []level

	chunk []byte // being filled
	next  uint64 // index of the chunk being filled
	jobs  chan job
	free  chan []byte
	wg    sync.WaitGroup
	upper []byte // digests of the leaf hash blocks; with one data block, of that block

	mu     sync.Mutex
	err    error
	closed bool
}

type job struct {
	index uint64
	data  []byte
}

// NewWriter starts a tree over p.DataBlocks blocks. Close must be called, also after an error.
func NewWriter(hash io.WriterAt, p Params) (*Writer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	w := &Writer{p: p, hash: hash, jobs: make(chan job, workers), free: make(chan []byte, 2*workers)}
	w.levels, _ = p.levels()
	w.upper = make([]byte, (p.DataBlocks+perBlock-1)/perBlock*DigestSize)
	for range cap(w.free) {
		w.free <- make([]byte, 0, chunkSize)
	}
	w.wg.Add(workers)
	for range workers {
		go w.work()
	}
	return w, nil
}

// SetUUID changes the UUID that Close writes into the superblock, for UUIDs derived from the content.
func (w *Writer) SetUUID(u [16]byte) { w.p.UUID = u }

// Write hashes the next bytes of the data. Pieces may have any size.
func (w *Writer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if err := w.room(); err != nil {
			return n - len(b), err
		}
		k := copy(w.chunk[len(w.chunk):cap(w.chunk)], b)
		w.chunk, b = w.chunk[:len(w.chunk)+k], b[k:]
		w.dispatch(false)
	}
	return n, nil
}

// ReadFrom hashes all of r without copying: it reads straight into the workers' buffers.
func (w *Writer) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		if err := w.room(); err != nil {
			if errors.Is(err, errTooMuch) {
				// One more byte decides whether the data is longer than it should be.
				if n, _ := io.ReadFull(r, make([]byte, 1)); n == 0 {
					return total, nil
				}
			}
			return total, err
		}
		n, err := io.ReadFull(r, w.chunk[len(w.chunk):cap(w.chunk)])
		total += int64(n)
		w.chunk = w.chunk[:len(w.chunk)+n]
		w.dispatch(false)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}

var errTooMuch = errors.New("data: longer than the declared number of blocks")

// room makes sure that there is a chunk with space, and that no worker has failed.
func (w *Writer) room() error {
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	switch {
	case err != nil:
		return err
	case w.closed:
		return errors.New("verity: write after close")
	case w.chunk != nil:
		return nil
	case w.next*perBlock >= w.p.DataBlocks:
		return errTooMuch
	}
	c := <-w.free
	// The last chunk is as short as the data, so that nobody can write past the end.
	left := min(uint64(perBlock), w.p.DataBlocks-w.next*perBlock)
	w.chunk = c[: 0 : left*BlockSize]
	return nil
}

// dispatch hands a full chunk to a worker.
func (w *Writer) dispatch(force bool) {
	if w.chunk == nil || len(w.chunk) < cap(w.chunk) && !force {
		return
	}
	w.jobs <- job{w.next, w.chunk}
	w.next++
	w.chunk = nil
}

func (w *Writer) work() {
	defer w.wg.Done()
	h := newHasher(w.p.Salt)
	block := make([]byte, BlockSize)
	for j := range w.jobs {
		if err := w.hashChunk(h, j, block); err != nil {
			w.mu.Lock()
			w.err = errors.Join(w.err, err)
			w.mu.Unlock()
		}
		if cap(j.data) == chunkSize { // the last chunk may be cut short and is not needed again
			w.free <- j.data[:0]
		}
	}
}

// hashChunk writes the leaf hash block over one chunk and keeps that block's digest.
func (w *Writer) hashChunk(h *hasher, j job, block []byte) error {
	if len(w.levels) == 0 {
		h.sum(w.upper[:0], j.data)
		return nil
	}
	leaves := block[:0]
	for b := j.data; len(b) > 0; b = b[BlockSize:] {
		leaves = h.sum(leaves, b[:BlockSize])
	}
	clear(block[len(leaves):])
	h.sum(w.upper[j.index*DigestSize:][:0], block)
	_, err := w.hash.WriteAt(block, int64(w.levels[0].start+j.index)*BlockSize)
	return err
}

// Close writes the upper levels and the superblock and returns the root hash. It fails when the data
// was not exactly as long as declared.
func (w *Writer) Close() (RootHash, error) {
	if w.closed {
		return RootHash{}, errors.New("verity: closed twice")
	}
	got := w.next*chunkSize + uint64(len(w.chunk))
	w.closed = true
	close(w.jobs)
	w.wg.Wait()
	if w.err != nil {
		return RootHash{}, w.err
	}
	if want := w.p.DataBlocks * BlockSize; min(got, want) != want || w.chunk != nil {
		return RootHash{}, fmt.Errorf("data: %d bytes, want %d", got, want)
	}
	root, err := w.finishLevels()
	if err != nil || w.p.NoSuperblock {
		return root, err
	}
	sb := append(w.p.marshalSuperblock(), make([]byte, BlockSize-superblockSize)...)
	_, err = w.hash.WriteAt(sb, w.p.HashOffset)
	return root, err
}

// finishLevels writes the levels above the leaves, each from the digests of the one below.
func (w *Writer) finishLevels() (RootHash, error) {
	h := newHasher(w.p.Salt)
	digests := w.upper
	block := make([]byte, BlockSize)
	for l := 1; l < len(w.levels); l++ {
		var above []byte
		for i := uint64(0); i < w.levels[l].count; i++ {
			n := copy(block, digests[i*BlockSize:])
			clear(block[n:])
			if _, err := w.hash.WriteAt(block, int64(w.levels[l].start+i)*BlockSize); err != nil {
				return RootHash{}, err
			}
			above = h.sum(above, block)
		}
		digests = above
	}
	return RootHash(digests[:DigestSize]), nil
}

// A hasher computes SHA-256(salt ‖ block) without allocating.
type hasher struct {
	h    hash.Hash
	salt []byte
}

func newHasher(salt []byte) *hasher { return &hasher{sha256.New(), salt} }

func (h *hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	h.h.Write(h.salt)
	h.h.Write(block)
	return h.h.Sum(dst)
}

// Format hashes all of data, which must be p.DataBlocks blocks, and writes the hash area.
func Format(ctx context.Context, data io.Reader, hash io.WriterAt, p Params) (RootHash, error) {
	w, err := NewWriter(hash, p)
	if err != nil {
		return RootHash{}, err
	}
	_, err = w.ReadFrom(ctxReader{ctx, data})
	root, cerr := w.Close()
	if err != nil {
		return RootHash{}, err
	}
	return root, cerr
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
