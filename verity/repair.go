package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxBadBlocks is the most bad blocks that Repair keeps track of.
const MaxBadBlocks = 1 << 18

// A RepairError says that the blocks could not be made good: the tree stays unverified.
type RepairError struct {
	Bad BlockError // the first block that stays bad
	Err error      // why
}

func (e *RepairError) Error() string {
	return fmt.Sprintf("%s block %d (byte %d): not repairable: %v", e.Bad.Area, e.Bad.Block, e.Bad.Offset, e.Err)
}

// Unwrap returns the reason.
func (e *RepairError) Unwrap() error { return e.Err }

// A Repaired is what Repair did: the bad blocks that it could make good, in order.
type Repaired struct {
	Data []uint64 // data blocks
	Hash []uint64 // hash blocks, from the start of the hash file; Repair writes them nowhere
}

// Repair finds the bad blocks of data and hash and computes with the error correction data in fec what
// belongs there. What it returns and hands to put has the digest that the tree under root wants, so that
// neither fec nor its parameters need to be trusted. put is given each bad data block, by its number in the
// data; it may be nil.
//
// A block that the tree says is bad needs one byte of parity in each column; what is bad without being
// known (below a bad hash block until that one is repaired, behind the tree, in the parity itself) two.
// The error is a *RepairError when a block stays bad; put may have been called by then.
func Repair(ctx context.Context, data, hash, fec io.ReaderAt, root RootHash, p Params, f FEC, put func(block uint64, b []byte) error) (*Repaired, error) {
	r := &repairer{fec: fec, f: f, put: put, known: map[int64][]uint64{}, hashDone: map[uint64]bool{}}
	v, err := newVerifier(data, hash, root, p)
	if err != nil {
		return nil, err
	}
	r.g = v.g
	if r.c, err = newCovered(data, hash, v.g, f); err != nil {
		return nil, err
	}
	if len(v.g.levels) == 0 {
		return r.oneBlock(v)
	}
	// The first pass finds what is bad as far as the hash tree can be followed; the second repairs the
	// hash blocks on the way, and so sees the rest.
	for pass := range 2 {
		if v, err = newVerifier(data, hash, root, p); err != nil {
			return nil, err
		}
		v.found, v.path.named = r.found, true
		if pass == 1 {
			v.path.repair = r.hashBlock
		}
		v.run(ctx)
		if err := errors.Join(v.err, r.err); err != nil {
			return nil, err
		}
		if r.badHash == nil {
			break
		}
		if pass == 1 {
			return nil, &RepairError{*r.badHash, errTooManyErrors}
		}
		r.badHash = nil
	}
	return r.dataBlocks(ctx, newPath(hash, root, v.g))
}

// A repairer collects bad blocks and repairs them. Blocks are counted in what is covered.
type repairer struct {
	g   *geometry
	c   *covered
	fec io.ReaderAt
	f   FEC
	put func(uint64, []byte) error

	known   map[int64][]uint64 // bad blocks by the first byte of their columns
	count   int
	badHash *BlockError // a hash block that was not repaired
	err     error
	done    Repaired

	hashDone           map[uint64]bool // what is in done.Hash
	dataRows, hashRows [][]byte        // scratch
}

// found is told of each bad block, twice of some.
func (r *repairer) found(be *BlockError) {
	block := be.Block
	if be.Area == AreaHash {
		if r.badHash == nil {
			r.badHash = be
		}
		block = r.g.DataBlocks + be.Block - r.g.start
	}
	r.mark(block)
}

func (r *repairer) mark(block uint64) {
	at := r.column(block)
	if slices.Contains(r.known[at], block) {
		return
	}
	if r.count++; r.count > MaxBadBlocks {
		r.err = &RepairError{BlockError{Area: AreaData}, fmt.Errorf("more than %d bad blocks", MaxBadBlocks)}
		return
	}
	r.known[at] = append(r.known[at], block)
}

// column is the first column that a block is in; row the part.
func (r *repairer) column(block uint64) int64 {
	return int64(block) * int64(r.g.DataBlockSize) % r.c.part
}

func (r *repairer) row(block uint64) int {
	return int(int64(block) * int64(r.g.DataBlockSize) / r.c.part)
}

// hashBlock is the repair of a path.
func (r *repairer) hashBlock(b []byte, n uint64, want []byte) (bool, error) {
	block := r.g.DataBlocks + n - r.g.start
	r.mark(block)
	var err error
	if r.hashRows, err = r.columns(r.column(block), r.hashRows); errors.Is(err, errTooManyErrors) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	copy(b, r.hashRows[r.row(block)])
	if !r.hashDone[n] && bytes.Equal(newHasher(r.g).sum(nil, b), want) {
		r.hashDone[n] = true
		r.done.Hash = append(r.done.Hash, n)
	}
	return true, nil
}

// columns reads one block's worth of columns into rows, or new ones, and corrects them: a row is a block.
// The error is errTooManyErrors if that is not possible.
func (r *repairer) columns(at int64, rows [][]byte) ([][]byte, error) {
	size, roots := r.g.DataBlockSize, r.f.Roots
	var erasures []int
	for _, block := range r.known[at] {
		erasures = append(erasures, r.row(block))
	}
	if len(erasures) > roots {
		return rows, errTooManyErrors
	}
	for len(rows) < r.c.rows {
		rows = append(rows, make([]byte, size))
	}
	diffs, err := r.readColumns(at, rows)
	if err != nil {
		return rows, err
	}
	for b := range size {
		diff := diffs[b*roots:][:roots]
		if allZero(diff) {
			continue
		}
		found, err := rsDecode(rsSyndromes(diff), erasures)
		if err != nil {
			return rows, err
		}
		for _, e := range found {
			if e.at < len(rows) { // else it is in the parity
				rows[e.at][b] ^= e.add
			}
		}
	}
	return rows, nil
}

// readColumns fills rows and returns by what the parity of each column differs from the stored one.
func (r *repairer) readColumns(at int64, rows [][]byte) ([]byte, error) {
	size, roots := r.g.DataBlockSize, r.f.Roots
	enc := newRSEncoder(roots)
	state := make([]uint64, size*enc.words)
	for i := range rows {
		if _, err := r.c.ReadAt(rows[i], int64(i)*r.c.part+at); err != nil {
			return nil, fmt.Errorf("error correction: %w", err)
		}
		enc.add(state, rows[i])
	}
	parity := make([]byte, size*roots)
	if n, err := r.fec.ReadAt(parity, r.f.Offset+at*int64(roots)); n < len(parity) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("ends before byte %d", r.f.Offset+(at+int64(size))*int64(roots))
		}
		return nil, fmt.Errorf("error correction file: %w", err)
	}
	for i, b := range enc.parity(nil, state) {
		parity[i] ^= b
	}
	return parity, nil
}

// dataBlocks repairs the bad data blocks, all of a column at a time, and compares each with its digest.
func (r *repairer) dataBlocks(ctx context.Context, w *path) (*Repaired, error) {
	w.repair, w.named = r.hashBlock, true
	h := newHasher(r.g)
	for _, at := range r.sorted() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		blocks := slices.DeleteFunc(slices.Clone(r.known[at]), func(b uint64) bool { return b >= r.g.DataBlocks })
		if len(blocks) == 0 {
			continue
		}
		slices.Sort(blocks)
		var err error
		r.dataRows, err = r.columns(at, r.dataRows)
		for _, block := range blocks {
			if err == nil {
				err = r.dataBlock(w, h, block, r.dataRows[r.row(block)])
			}
			if errors.Is(err, errTooManyErrors) {
				size := int64(r.g.DataBlockSize)
				return nil, &RepairError{BlockError{Area: AreaData, Block: block, Offset: int64(block) * size, First: block, Count: 1}, err}
			} else if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(r.done.Data)
	slices.Sort(r.done.Hash)
	return &r.done, nil
}

func (r *repairer) sorted() []int64 {
	var at []int64
	for k := range r.known {
		at = append(at, k)
	}
	slices.Sort(at)
	return at
}

// dataBlock compares a repaired block with its digest and hands it out.
func (r *repairer) dataBlock(w *path, h *hasher, block uint64, b []byte) error {
	want := w.root.digest[:r.g.size]
	if len(r.g.levels) > 0 {
		leaf, err := w.block(0, block/r.g.perBlock)
		if be := (*BlockError)(nil); errors.As(err, &be) {
			return errTooManyErrors // it could be repaired before more bad blocks were known
		} else if err != nil {
			return err
		}
		want = leaf[int(block%r.g.perBlock)*r.g.slot:][:r.g.size]
	}
	if !bytes.Equal(h.sum(nil, b), want) {
		return errTooManyErrors
	}
	r.done.Data = append(r.done.Data, block)
	if r.put == nil {
		return nil
	}
	return r.put(block, b)
}

// oneBlock repairs data that is one block, which the root hash is the digest of.
func (r *repairer) oneBlock(v *verifier) (*Repaired, error) {
	if err := v.oneBlock(); !errors.Is(err, ErrRoot) {
		return &r.done, err
	}
	r.mark(0)
	return r.dataBlocks(context.Background(), v.path)
}
