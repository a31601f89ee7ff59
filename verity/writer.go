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

// A Writer is given the data in order and writes the hash tree to a file as it goes: leaf hash blocks by
// the workers that made them, each upper block when its last digest is known. Memory is flat, whatever
// the size of the data: four chunks of 512 KiB and one block for each level.
//
// A Writer is for one goroutine. Close must be called, also after an error, or its workers stay.
type Writer struct {
	g      *geometry
	hash   io.WriterAt
	chunks chunks

	chunk *buffer // being filled; nil between chunks
	next  uint64  // index of the chunk being filled
	jobs  chan job
	free  chan *buffer // what bounds the chunks that are in flight
	wg    sync.WaitGroup

	mu     sync.Mutex
	err    error // the first of a worker or of the ladder
	ladder *ladder
	turn   uint64             // the chunk whose digests the ladder takes next
	early  map[uint64]*buffer // chunks hashed before their turn

	closed bool
}

// NewWriter starts a tree over p.DataBlocks blocks, to be written to hash, which may be a fresh file or
// one with other things around the hash area. What lies where the levels go is overwritten, and so are
// 512 bytes for the superblock.
func NewWriter(hash io.WriterAt, p Params) (*Writer, error) {
	g, err := p.geometry()
	if err != nil {
		return nil, err
	}
	g.Salt = append([]byte(nil), p.Salt...)
	w := &Writer{
		g: g, hash: hash, chunks: g.chunks(), early: map[uint64]*buffer{},
		jobs: make(chan job, workers), free: make(chan *buffer, 2*workers),
	}
	from := 0
	if w.chunks.leaves > 0 {
		from = 1 // the workers write the leaves
	}
	w.ladder = newLadder(hash, g, from)
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
func (w *Writer) SetUUID(u [16]byte) { w.g.UUID = u }

// Write hashes the next bytes of the data. Pieces may have any size.
func (w *Writer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if err := w.room(); err != nil {
			return n - len(b), err
		}
		c := w.chunk
		k := copy(c.data[len(c.data):cap(c.data)], b)
		c.data, b = c.data[:len(c.data)+k], b[k:]
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
		c := w.chunk
		n, err := io.ReadFull(r, c.data[len(c.data):cap(c.data)])
		total += int64(n)
		c.data = c.data[:len(c.data)+n]
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
	case w.next*w.chunks.blocks >= w.g.DataBlocks:
		return errTooMuch
	}
	b := <-w.free
	// The last chunk is as short as the data, so that nobody can write past the end.
	size := int(min(w.chunks.blocks, w.g.DataBlocks-w.next*w.chunks.blocks)) * w.g.DataBlockSize
	if b == nil {
		b = &buffer{data: make([]byte, size)}
	}
	b.data = b.data[:0:size] // a later chunk is never longer
	w.chunk = b
	return nil
}

// dispatch hands the chunk to a worker when it is full.
func (w *Writer) dispatch() {
	if len(w.chunk.data) < cap(w.chunk.data) {
		return
	}
	w.jobs <- job{w.next, w.chunk}
	w.next++
	w.chunk = nil
}

// finish takes a chunk's digests to the level above, in the order of the chunks, and gives its buffer
// back. It does so after an error too: the next Write must find a buffer to learn of it.
func (w *Writer) finish(j job, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(err)
	w.early[j.index] = j.buffer
	for {
		b, ok := w.early[w.turn]
		if !ok {
			return
		}
		delete(w.early, w.turn)
		w.turn++
		w.fail(w.ladder.add(b.digests))
		w.free <- b // never blocks: a chunk in flight has left the channel
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
	if have := w.received(); have != uint64(w.g.dataSize()) {
		return RootHash{}, fmt.Errorf("data: %d bytes, want %d", have, w.g.dataSize())
	}
	root, err := w.ladder.finish()
	if err == nil && !w.g.NoSuperblock {
		err = w.writeSuperblock()
	}
	if err != nil {
		return RootHash{}, err
	}
	return root, nil
}

// received is the number of bytes that were written.
func (w *Writer) received() uint64 {
	n := min(w.next*w.chunks.blocks, w.g.DataBlocks) * uint64(w.g.DataBlockSize)
	if w.chunk != nil {
		n += uint64(len(w.chunk.data))
	}
	return n
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
