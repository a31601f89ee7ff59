package verity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// workers hash at the same time. Two saturate what a disk delivers and what small machines have.
const workers = 2

// chunkSize is what one worker hashes at a time: the data below one leaf hash block.
const chunkSize = perBlock * BlockSize

// A Writer is given the data in order and writes the hash tree to a file as it goes: leaf hash blocks by
// the workers that made them, each upper block when its last digest is known. Memory is flat, whatever
// the size of the data: four chunks of 512 KiB and one block for each level.
//
// A Writer is for one goroutine. Close must be called, also after an error, or its workers stay.
type Writer struct {
	p      Params
	hash   io.WriterAt
	levels []level

	chunk []byte // being filled; nil between chunks
	next  uint64 // index of the chunk being filled
	jobs  chan job
	free  chan []byte // buffers: what bounds the chunks that are in flight
	wg    sync.WaitGroup

	mu     sync.Mutex
	err    error // the first of a worker or of the ladder
	ladder *ladder
	early  map[uint64]early // chunks hashed before their turn

	closed bool
}

type job struct {
	index uint64
	data  []byte
}

// An early chunk keeps its buffer, so that a slow worker holds back the fast one and not memory.
type early struct {
	digest RootHash
	buffer []byte
}

// NewWriter starts a tree over p.DataBlocks blocks, to be written to hash, which may be a fresh file or
// one with other things in front of p.HashOffset. What lies where the tree goes is overwritten; unlike
// veritysetup, which writes 512 bytes of superblock, with zeros up to the end of that block.
func NewWriter(hash io.WriterAt, p Params) (*Writer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	p.Salt = append([]byte(nil), p.Salt...)
	levels, _ := p.levels()
	w := &Writer{
		p: p, hash: hash, levels: levels, ladder: newLadder(hash, p.Salt, levels), early: map[uint64]early{},
		jobs: make(chan job, workers), free: make(chan []byte, 2*workers),
	}
	for range cap(w.free) {
		w.free <- nil // made when first used: small data needs few
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
		w.dispatch()
	}
	return n, nil
}

// ReadFrom hashes all of r without copying: it reads straight into the workers' buffers.
func (w *Writer) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		if err := w.room(); errors.Is(err, errTooMuch) {
			// The data is complete. One more byte, or none, decides whether it is too long.
			n, rerr := io.ReadFull(r, make([]byte, 1))
			switch {
			case n > 0:
				return total, err
			case errors.Is(rerr, io.EOF):
				return total, nil
			}
			return total, rerr
		} else if err != nil {
			return total, err
		}
		n, err := io.ReadFull(r, w.chunk[len(w.chunk):cap(w.chunk)])
		total += int64(n)
		w.chunk = w.chunk[:len(w.chunk)+n]
		w.dispatch()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return total, nil // Close says whether that was all
		} else if err != nil {
			return total, err
		}
	}
}

var (
	errTooMuch = errors.New("data: longer than the declared number of blocks")
	errClosed  = errors.New("verity: writer is closed")
)

// room makes sure that there is a chunk with space, and that no worker has failed.
func (w *Writer) room() error {
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	switch {
	case w.closed:
		return errClosed
	case err != nil:
		return err
	case w.chunk != nil:
		return nil
	case w.next*perBlock >= w.p.DataBlocks:
		return errTooMuch
	}
	b := <-w.free
	// The last chunk is as short as the data, so that nobody can write past the end.
	size := int(min(perBlock, w.p.DataBlocks-w.next*perBlock)) * BlockSize
	if cap(b) < size {
		b = make([]byte, size)
	}
	w.chunk = b[:0:size]
	return nil
}

// dispatch hands the chunk to a worker when it is full.
func (w *Writer) dispatch() {
	if len(w.chunk) < cap(w.chunk) {
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
		digest, err := w.hashChunk(h, j, block)
		w.finish(j, digest, err)
	}
}

// hashChunk writes the leaf hash block over one chunk and returns that block's digest. Without levels
// the chunk is the one data block, and its digest the root hash.
func (w *Writer) hashChunk(h *hasher, j job, block []byte) (digest RootHash, err error) {
	if len(w.levels) == 0 {
		h.sum(digest[:0], j.data)
		return digest, nil
	}
	leaves := block[:0]
	for b := j.data; len(b) > 0; b = b[BlockSize:] {
		leaves = h.sum(leaves, b[:BlockSize])
	}
	clear(block[len(leaves):])
	h.sum(digest[:0], block)
	_, err = w.hash.WriteAt(block, w.levels[0].offset(j.index))
	return digest, err
}

// finish takes a chunk's digest to the level above, in the order of the chunks, and gives its buffer
// back. It does so after an error too: the next Write must find a buffer to learn of it.
func (w *Writer) finish(j job, digest RootHash, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(err)
	w.early[j.index] = early{digest, j.data}
	for {
		e, ok := w.early[w.ladder.next]
		if !ok {
			return
		}
		delete(w.early, w.ladder.next)
		w.fail(w.ladder.add(e.digest))
		w.free <- e.buffer // never blocks: a chunk in flight has left the channel
	}
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Close writes what is left of the upper levels and the superblock, and returns the root hash. It fails
// when the data was not exactly as long as declared.
func (w *Writer) Close() (RootHash, error) {
	if w.closed {
		return RootHash{}, errClosed
	}
	w.closed = true
	close(w.jobs)
	w.wg.Wait()
	if w.err != nil {
		return RootHash{}, w.err
	}
	if want := (w.p.DataBlocks + perBlock - 1) / perBlock; w.next != want {
		return RootHash{}, fmt.Errorf("data: %d bytes, want %d", w.next*chunkSize+uint64(len(w.chunk)), w.p.DataBlocks*BlockSize)
	}
	root, err := w.ladder.finish()
	if err != nil || w.p.NoSuperblock {
		return root, err
	}
	sb := append(w.p.marshalSuperblock(), make([]byte, BlockSize-superblockSize)...)
	if _, err := w.hash.WriteAt(sb, w.p.HashOffset); err != nil {
		return RootHash{}, err
	}
	return root, nil
}

// Format hashes all of data, which must be exactly p.DataBlocks blocks, and writes the hash area. After
// an error the hash file is incomplete and has no superblock of this run.
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
