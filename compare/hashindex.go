package compare

import (
	"fmt"
	"slices"
	"strings"

	"tally/compare/erofs"
)

// differing reads the data blocks whose digests differ out of two leaf levels, of which the given 512-byte pieces
// do. This is the tree as an index: no data is read for it.
func (t *hashTree) differing(a, b source, pieces []int64) (blocks []int64, err error) {
	x, y := make([]byte, 512), make([]byte, 512)
	last := int64(-1)
	for _, piece := range pieces {
		off := t.leaves + piece*512
		for _, r := range []struct {
			s source
			b []byte
		}{{a, x}, {b, y}} {
			if n, err := r.s.ReadAt(r.b, off); n < len(r.b) {
				return nil, err
			}
		}
		for i := range x {
			if x[i] == y[i] {
				continue
			}
			if n := t.block(piece*512 + int64(i)); n != last && n < int64(t.blocks) {
				blocks, last = append(blocks, n), n
			}
		}
	}
	return blocks, nil
}

// block is the data block whose digest is at an offset of the leaf level.
func (t *hashTree) block(off int64) int64 {
	return off/t.hashBlock*t.perBlock() + off%t.hashBlock/t.digest
}

// perBlock is how many digests a hash block holds: a power of two in both formats.
func (t *hashTree) perBlock() int64 {
	per := int64(1)
	for per*2*t.digest <= t.hashBlock {
		per *= 2
	}
	return per
}

func numbers(blocks []int64) string {
	var b strings.Builder
	for i, n := range blocks {
		if i == 5 {
			return b.String() + ", …"
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// usersOfBlocks names the paths of B that have bytes in the data blocks; "" when there are too many to mean anything,
// or no file system that can be read.
func usersOfBlocks(data *part, t *hashTree, blocks []int64) string {
	const most = 64
	if data == nil || len(blocks) > most || kindOf(data.b) != kindErofs {
		return "other digests"
	}
	m, err := erofs.Open(data.b)
	if err != nil || m.Super.BlockSize != t.dataBlock {
		return "other digests"
	}
	var paths []string
	for _, n := range blocks {
		for _, p := range m.Owner(uint64(n)) {
			if !slices.Contains(paths, p) {
				paths = append(paths, p)
			}
		}
	}
	if len(paths) > 5 {
		paths = append(paths[:5:5], fmt.Sprintf("and %d more", len(paths)-5))
	}
	return "other digests, in blocks of " + strings.Join(paths, " ")
}
