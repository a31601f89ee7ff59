package verity

import (
	"crypto/sha256"
	"hash"
	"io"
)

// A hasher computes SHA-256(salt ‖ block) without allocating. Keeping the state after the salt would
// save nothing for the usual 32 bytes, which do not fill a 64-byte SHA-256 block.
type hasher struct {
	h    hash.Hash
	salt []byte
}

func newHasher(salt []byte) *hasher { return &hasher{sha256.New(), salt} }

// sum appends the digest (32 bytes) to dst.
func (h *hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	h.h.Write(h.salt)
	h.h.Write(block)
	return h.h.Sum(dst)
}

// A ladder writes the levels above the leaves. It is given the digests of the leaf hash blocks in order
// and holds one unfinished block a level.
type ladder struct {
	h      *hasher
	w      io.WriterAt
	levels []level
	rungs  []rung // of levels[i]; rungs[0] is not used, its blocks are written elsewhere
	next   uint64 // number of digests given so far
	root   RootHash
}

// A rung is the block of a level that is being filled, and its index in the level.
type rung struct {
	block []byte
	index uint64
}

func newLadder(w io.WriterAt, salt []byte, levels []level) *ladder {
	l := &ladder{h: newHasher(salt), w: w, levels: levels, rungs: make([]rung, len(levels))}
	for i := range l.rungs {
		l.rungs[i].block = make([]byte, 0, BlockSize)
	}
	return l
}

// add takes the digest of the next leaf hash block, or of the only data block.
func (l *ladder) add(digest RootHash) error {
	l.next++
	return l.push(min(1, len(l.levels)), digest)
}

// push puts a digest into the level's block; above the top level it is the root hash.
func (l *ladder) push(at int, digest RootHash) error {
	if at == len(l.levels) {
		l.root = digest
		return nil
	}
	r := &l.rungs[at]
	if r.block = append(r.block, digest[:]...); len(r.block) < BlockSize {
		return nil
	}
	return l.flush(at)
}

// flush writes the level's block, filled up with zeros, and pushes its digest one level up.
func (l *ladder) flush(at int) error {
	r := &l.rungs[at]
	block := r.block[:BlockSize]
	clear(block[len(r.block):])
	if _, err := l.w.WriteAt(block, l.levels[at].offset(r.index)); err != nil {
		return err
	}
	r.block = r.block[:0]
	r.index++
	var digest RootHash
	l.h.sum(digest[:0], block)
	return l.push(at+1, digest)
}

// finish flushes the unfinished blocks from below and returns the root hash.
func (l *ladder) finish() (RootHash, error) {
	for at := 1; at < len(l.levels); at++ {
		if len(l.rungs[at].block) == 0 {
			continue
		}
		if err := l.flush(at); err != nil {
			return RootHash{}, err
		}
	}
	return l.root, nil
}
