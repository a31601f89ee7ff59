package verity

// chunkSize is about what one worker hashes at a time, in bytes: the data below one leaf hash block of
// SHA-256 and 4096-byte blocks. Every block size divides it.
const chunkSize = 128 * BlockSize

// A buffer holds a chunk of data and then also what a worker made of it. It stays with a chunk that is
// early, so that a slow worker holds back the fast one and not memory.
type buffer struct {
	data    []byte
	digests []byte // for the ladder
}

type job struct {
	index uint64
	*buffer
}

// chunks says how data is cut into chunks, and these belong to leaf hash blocks: a chunk fills whole
// ones, or, when leaves is 0, a leaf takes the digests of several chunks.
type chunks struct {
	blocks uint64 // data blocks in a chunk, a power of two
	leaves uint64 // leaf hash blocks over it
}

func (g *geometry) chunks() chunks {
	n := uint64(chunkSize / g.DataBlockSize)
	return chunks{n, n / g.perBlock}
}

func (w *Writer) work() {
	defer w.wg.Done()
	h := newHasher(w.g)
	leaves := make([]byte, max(1, w.chunks.leaves)*uint64(w.g.HashBlockSize))
	for j := range w.jobs {
		w.finish(j, w.hashChunk(h, j, leaves))
	}
}

// hashChunk makes the digests that the ladder wants: those of the chunk's data blocks, or those of the
// leaf hash blocks over it, which it writes.
func (w *Writer) hashChunk(h *hasher, j job, leaves []byte) error {
	j.digests = j.digests[:0]
	size := w.g.DataBlockSize
	if w.chunks.leaves == 0 || len(w.g.levels) == 0 {
		for b := j.data; len(b) > 0; b = b[size:] {
			j.digests = h.sum(j.digests, b[:size])
		}
		return nil
	}
	n, leafData := 0, int(w.g.perBlock)*size
	for b := j.data; len(b) > 0; n++ {
		leaf := leaves[n*w.g.HashBlockSize:][:w.g.HashBlockSize]
		part := b[:min(leafData, len(b))]
		w.hashLeaf(h, leaf, part)
		j.digests = h.sum(j.digests, leaf)
		b = b[len(part):]
	}
	_, err := w.hash.WriteAt(leaves[:n*w.g.HashBlockSize], w.g.offset(0, j.index*w.chunks.leaves))
	return err
}

// hashLeaf fills one leaf hash block with the digests of the data below it.
func (w *Writer) hashLeaf(h *hasher, leaf, data []byte) {
	size, slot := w.g.DataBlockSize, w.g.slot
	digests := leaf[:0]
	for ; len(data) > 0; data = data[size:] {
		digests = h.sum(digests, data[:size])
		if gap := slot - w.g.size; gap > 0 {
			n := len(digests)
			digests = digests[:n+gap]
			clear(digests[n:])
		}
	}
	clear(leaf[len(digests):])
}
