// Package erofs writes a tree as an EROFS image: layout v1, uncompressed, in 4096-byte blocks.
//
// The format is that of Linux, fs/erofs/erofs_fs.h. Of its freedoms layout v1 uses these, and no others;
// all integers are little-endian:
//
//	block 0      zeros, the superblock at byte 1024, zeros. Its CRC-32C covers the rest of the block.
//	metadata     from block 1, one slot of a multiple of 32 bytes per inode, in bytewise order of the
//	             paths: 64-byte ("extended") inode, its xattrs, its inline tail. The root is nid 128.
//	directories  the whole blocks of each directory, in the same order
//	files        the blocks of each file or long symlink, in the same order, zero-padded to a block
//
// A slot that would cross a block boundary starts on the next block. A directory's last, partly filled
// block and a whole file or symlink target is inline when it has 1 to 2048 bytes and the slot then fits a
// block. Larger files have no inline tail, so that every file is read once and streamed, and so that
// walking the tree touches little more than metadata. All xattrs are inline, none is shared. There is no
// compression, no chunk, no extra device and no long xattr prefix, so feature_incompat is 0.
//
// Times are whole seconds, clamped to 0..epoch, with build_time = epoch. Hard links come from
// tree.HardLink entries only. i_ino counts inodes from 1 in order. The UUID is a version 8 UUID made of
// SHA-256("tally erofs uuid v1" | tree digest at the epoch).
package erofs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"strings"

	"tally/mkimage/tree"
)

// Sizes of layout v1 in bytes.
const (
	BlockSize = 4096 // every image is a multiple of it

	inlineMax  = 2048 // longest inline tail
	inodeSize  = 64   // struct erofs_inode_extended
	slotSize   = 32   // the unit of a nid
	superStart = 1024 // EROFS_SUPER_OFFSET
)

// Options are the inputs of an image besides its tree.
type Options struct {
	Epoch int64  // seconds since 1970: build time, and the latest modification time an inode may have
	Label string // volume name, at most 16 bytes, no NUL; may be empty
}

// An Image is a layout that has been decided and not yet written. It holds memory in proportion to the
// number of entries, never to their contents. The tree must not change while it is in use.
type Image struct {
	opts   Options
	uuid   [16]byte
	nodes  []*node // in order of their slots
	blocks int64   // of the whole image
	meta   int64   // end of the metadata in bytes, before padding
}

// Plan decides the place of every byte of t. It calls t.Complete and reads no file contents.
func Plan(t *tree.Tree, o Options) (*Image, error) {
	switch {
	case o.Epoch < 0:
		return nil, fmt.Errorf("erofs: epoch %d: want at least 0", o.Epoch)
	case len(o.Label) > 16 || strings.ContainsRune(o.Label, 0):
		return nil, fmt.Errorf("erofs: label %q: want at most 16 bytes and no NUL", o.Label)
	}
	if err := t.Complete(); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	m := &Image{opts: o, uuid: deriveUUID(t.Digest(o.Epoch))}
	var err error
	if m.nodes, err = newNodes(t); err != nil {
		return nil, err
	}
	return m, m.place()
}

func deriveUUID(digest [sha256.Size]byte) [16]byte {
	sum := sha256.Sum256(append([]byte("tally erofs uuid v1"), digest[:]...))
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8 (RFC 9562, 5.8)
	u[8] = u[8]&0x3f | 0x80
	return u
}

// place gives each node its slot and its blocks, and the image its size.
func (m *Image) place() error {
	off := int64(BlockSize)
	for _, n := range m.nodes {
		need := n.head() + n.inline
		if room := BlockSize - off%BlockSize; need > room {
			off += room
		}
		n.off = off
		off = roundUp(off+need, slotSize)
	}
	m.meta = off
	next := roundUp(off, BlockSize) / BlockSize
	for _, dirs := range []bool{true, false} {
		for _, n := range m.nodes {
			if n.blocks > 0 && (n.e.Kind == tree.Dir) == dirs {
				n.start = next
				next += n.blocks
			}
		}
	}
	if next > math.MaxUint32 {
		return fmt.Errorf("erofs: image of %d blocks, want at most %d", next, uint32(math.MaxUint32))
	}
	m.blocks = next
	return nil
}

// Size is the size of the image in bytes, a multiple of BlockSize.
func (m *Image) Size() int64 { return m.blocks * BlockSize }

// UUID is the volume's identifier, derived from the tree.
func (m *Image) UUID() [16]byte { return m.uuid }

// Write plans and writes t in one step and returns the size of the image in bytes.
func Write(ctx context.Context, w io.Writer, t *tree.Tree, o Options) (int64, error) {
	m, err := Plan(t, o)
	if err != nil {
		return 0, err
	}
	return m.WriteTo(ctx, w)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
