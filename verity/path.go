package verity

import (
	"bytes"
	"crypto/sha512"
	"io"
)

const maxDigest = sha512.Size

// A path is the way from the root down to one hash block: the verified block of each level. Going
// through the leaves in order reads each upper block once.
type path struct {
	r      io.ReaderAt
	h      *hasher
	g      *geometry
	root   RootHash
	blocks [][]byte // of g.levels[i], verified
	at     []uint64 // index of blocks[i] in its level, plus one; 0 when there is none yet

	named bool // a bad top block is a BlockError and not ErrRoot

	// repair, if any, puts what belongs there into a block (by its number in the hash file) that does not
	// have the digest want; it says whether it could.
	repair func(b []byte, block uint64, want []byte) (bool, error)
}

func newPath(r io.ReaderAt, root RootHash, g *geometry) *path {
	w := &path{r: r, h: newHasher(g), g: g, root: root, at: make([]uint64, len(g.levels))}
	for range g.levels {
		w.blocks = append(w.blocks, make([]byte, g.HashBlockSize))
	}
	return w
}

// block returns the verified block i of a level, good until the next call.
func (w *path) block(lv int, i uint64) ([]byte, error) {
	b := w.blocks[lv]
	if w.at[lv] == i+1 {
		return b, nil
	}
	want := w.root.digest[:w.g.size]
	if lv+1 < len(w.g.levels) {
		above, err := w.block(lv+1, i/w.g.perBlock)
		if err != nil {
			return nil, err
		}
		want = above[int(i%w.g.perBlock)*w.g.slot:][:w.g.size]
	}
	w.at[lv] = 0
	if err := readFull(w.r, b, w.g.levels[lv].start+i, w.g.HashBlockSize, AreaHash); err != nil {
		return nil, err
	}
	if err := w.check(b, lv, i, want); err != nil {
		return nil, err
	}
	w.at[lv] = i + 1
	return b, nil
}

// check compares block i of a level with its digest.
func (w *path) check(b []byte, lv int, i uint64, want []byte) error {
	n := w.g.levels[lv].start + i
	good := w.good(b, want)
	if !good && w.repair != nil {
		ok, err := w.repair(b, n, want)
		if err != nil {
			return err
		}
		good = ok && w.good(b, want)
	}
	if good && w.padded(b, w.digests(lv, i)) {
		return nil
	}
	if !good && lv+1 == len(w.g.levels) && !w.named {
		return ErrRoot
	}
	first := i * w.g.span(lv)
	return &BlockError{
		Area: AreaHash, Block: n, Offset: w.g.offset(lv, i), Level: lv, Padding: good,
		First: first, Count: min(w.g.span(lv), w.g.DataBlocks-first),
	}
}

func (w *path) good(b, want []byte) bool {
	var sum [maxDigest]byte
	return bytes.Equal(w.h.sum(sum[:0], b), want)
}

// digests is the number of digests in block i of a level.
func (w *path) digests(lv int, i uint64) int {
	below := w.g.DataBlocks
	if lv > 0 {
		below = w.g.levels[lv-1].count
	}
	return int(min(w.g.perBlock, below-i*w.g.perBlock))
}

// padded says whether everything behind each of n digests is zero.
func (w *path) padded(b []byte, n int) bool {
	if w.g.slot > w.g.size {
		for i := range n {
			if !allZero(b[i*w.g.slot+w.g.size : (i+1)*w.g.slot]) {
				return false
			}
		}
	}
	return allZero(b[n*w.g.slot:])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
