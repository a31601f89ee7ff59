package verity

import (
	"hash"
	"io"
)

// A hasher computes the digest of a block and its salt without allocating. Keeping the state after the
// salt would save nothing for the usual 32 bytes, which do not fill a 64-byte SHA-256 block.
type hasher struct {
	h     hash.Hash
	salt  []byte
	after bool // format 0
}

func newHasher(g *geometry) *hasher { return &hasher{g.Hash.new(), g.Salt, g.Format0} }

// sum appends the digest to dst.
func (h *hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	if !h.after {
		h.h.Write(h.salt)
	}
	h.h.Write(block)
	if h.after {
		h.h.Write(h.salt)
	}
	return h.h.Sum(dst)
}

// A ladder writes the levels from a first one up. It is given the digests of that level in order and
// holds one unfinished block a level.
type ladder struct {
	g     *geometry
	h     *hasher
	w     io.WriterAt
	from  int    // the level that the digests it is given belong into
	rungs []rung // of g.levels[i]; those below from are not used
	sum   []byte // scratch: one digest
	root  RootHash
}

// A rung is the block of a level that is being filled, and its index in the level.
type rung struct {
	block []byte
	index uint64
}

func newLadder(w io.WriterAt, g *geometry, from int) *ladder {
	l := &ladder{g: g, h: newHasher(g), w: w, from: min(from, len(g.levels)), rungs: make([]rung, len(g.levels)), root: g.root}
	for i := l.from; i < len(l.rungs); i++ {
		l.rungs[i].block = make([]byte, 0, g.HashBlockSize)
	}
	return l
}

// add takes the next digests, one after the other.
func (l *ladder) add(digests []byte) error {
	for ; len(digests) > 0; digests = digests[l.g.size:] {
		if err := l.push(l.from, digests[:l.g.size]); err != nil {
			return err
		}
	}
	return nil
}

// push puts a digest into the level's block; above the top level it is the root hash.
func (l *ladder) push(at int, digest []byte) error {
	if at == len(l.g.levels) {
		copy(l.root.digest[:], digest)
		return nil
	}
	r := &l.rungs[at]
	r.block = appendSlot(r.block, digest, l.g.slot)
	if len(r.block) < int(l.g.perBlock)*l.g.slot {
		return nil
	}
	return l.flush(at)
}

// appendSlot appends a digest and the zeros up to the next one.
func appendSlot(b, digest []byte, slot int) []byte {
	n := len(b)
	b = append(b, digest...)[:n+slot]
	clear(b[n+len(digest):])
	return b
}

// flush writes the level's block, filled up with zeros, and pushes its digest one level up.
func (l *ladder) flush(at int) error {
	r := &l.rungs[at]
	block := r.block[:l.g.HashBlockSize]
	clear(block[len(r.block):])
	if _, err := l.w.WriteAt(block, l.g.offset(at, r.index)); err != nil {
		return err
	}
	r.block = r.block[:0]
	r.index++
	l.sum = l.h.sum(l.sum[:0], block)
	return l.push(at+1, l.sum)
}

// finish flushes the unfinished blocks from below and returns the root hash.
func (l *ladder) finish() (RootHash, error) {
	for at := l.from; at < len(l.g.levels); at++ {
		if len(l.rungs[at].block) == 0 {
			continue
		}
		if err := l.flush(at); err != nil {
			return RootHash{}, err
		}
	}
	return l.root, nil
}
