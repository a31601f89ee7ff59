package verity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Sizes of blocks in bytes. Each is a power of two, and the kernel takes none above its page size.
const (
	BlockSize    = 4096 // what Params has by default
	MinBlockSize = 512
	MaxBlockSize = 65536
)

// MaxSalt is the longest salt in bytes (the superblock's field).
const MaxSalt = 256

// sector is what a hash offset is a multiple of.
const sector = 512

// Params are what a hash tree depends on beside the data. The zero Params is invalid: DataBlocks is
// wanted; the other zero values are veritysetup's defaults, but for the salt.
type Params struct {
	DataBlocks    uint64   // number of data blocks, at least 1; they end below byte 2^63
	Hash          Hash     // hash function; "" is SHA256
	DataBlockSize int      // 512 to 65536 bytes, a power of two; 0 is 4096
	HashBlockSize int      // the same
	Format0       bool     // format 0, Chrome OS's, and not 1
	Salt          []byte   // 0 to 256 bytes, hashed with each block
	UUID          [16]byte // stands in the superblock only
	NoSuperblock  bool     // the hash area starts with the top level
	// HashOffset is where the hash area starts in the hash file: a multiple of 512 bytes, without
	// superblock of the hash block size.
	HashOffset int64
}

// withDefaults returns p with the zero values that stand for something filled in.
func (p Params) withDefaults() Params {
	if p.Hash == "" {
		p.Hash = SHA256
	}
	if p.DataBlockSize == 0 {
		p.DataBlockSize = BlockSize
	}
	if p.HashBlockSize == 0 {
		p.HashBlockSize = BlockSize
	}
	return p
}

// CheckBlockSize says whether n is the size that a block can have.
func CheckBlockSize(n int) error {
	if n < MinBlockSize || n > MaxBlockSize || bits.OnesCount(uint(n)) != 1 {
		return fmt.Errorf("block size %d: want a power of two from %d to %d", n, MinBlockSize, MaxBlockSize)
	}
	return nil
}

// check wants p with its defaults.
func (p Params) check() error {
	if p.Hash.Size() == 0 {
		return fmt.Errorf("hash %.32q: want sha1, sha256 or sha512", string(p.Hash))
	}
	if err := CheckBlockSize(p.DataBlockSize); err != nil {
		return fmt.Errorf("data %w", err)
	}
	if err := CheckBlockSize(p.HashBlockSize); err != nil {
		return fmt.Errorf("hash %w", err)
	}
	align := int64(sector)
	if p.NoSuperblock {
		align = int64(p.HashBlockSize)
	}
	switch most := uint64(math.MaxInt64 / p.DataBlockSize); {
	case p.DataBlocks == 0:
		return fmt.Errorf("data: no block: want at least one of %d bytes", p.DataBlockSize)
	case p.DataBlocks > most:
		return fmt.Errorf("data: %d blocks, want at most %d", p.DataBlocks, most)
	case len(p.Salt) > MaxSalt:
		return fmt.Errorf("salt: %d bytes, want at most %d", len(p.Salt), MaxSalt)
	case p.HashOffset < 0 || p.HashOffset%align != 0 || p.HashOffset > 1<<62:
		return fmt.Errorf("hash offset %d: want a multiple of %d", p.HashOffset, align)
	}
	return nil
}

// A geometry is where everything is, worked out from checked parameters.
type geometry struct {
	Params            // with defaults
	size     int      // bytes of a digest
	slot     int      // bytes from one digest to the next
	perBlock uint64   // digests in a hash block, a power of two
	levels   []level  // from the leaves (index 0) to the top; none with one data block
	start    uint64   // first hash block of the tree, from the start of the hash file
	end      uint64   // first hash block after the tree
	root     RootHash // zero digest of the right size
}

// A level is one level of the tree: count hash blocks from block start of the hash file.
type level struct{ start, count uint64 }

func (p Params) geometry() (*geometry, error) {
	g := &geometry{Params: p.withDefaults()}
	if err := g.check(); err != nil {
		return nil, err
	}
	g.size = g.Hash.Size()
	g.root.size = uint8(g.size)
	g.slot = g.size
	if !g.Format0 {
		g.slot = 1 << bits.Len(uint(g.size-1)) // the next power of two
	}
	g.perBlock = 1 << (bits.Len(uint(g.HashBlockSize/g.size)) - 1)
	for n := g.DataBlocks; n > 1; {
		n = (n + g.perBlock - 1) / g.perBlock
		g.levels = append(g.levels, level{count: n})
	}
	offset, block := uint64(g.HashOffset), uint64(g.HashBlockSize)
	if !g.NoSuperblock {
		offset += superblockSize + block - 1
	}
	g.start = offset / block
	g.end = g.start
	for i := len(g.levels) - 1; i >= 0; i-- {
		g.levels[i].start = g.end
		g.end += g.levels[i].count
	}
	return g, nil
}

// offset is where block i of a level is, in bytes from the start of the hash file.
func (g *geometry) offset(lv int, i uint64) int64 {
	return int64(g.levels[lv].start+i) * int64(g.HashBlockSize)
}

// span is the number of data blocks below a whole hash block of a level.
func (g *geometry) span(lv int) uint64 {
	return 1 << min(63, (lv+1)*bits.TrailingZeros64(g.perBlock))
}

// dataSize is the size of the data in bytes.
func (g *geometry) dataSize() int64 { return int64(g.DataBlocks) * int64(g.DataBlockSize) }

// HashFileSize is the size in bytes of a hash file for p: offset, superblock and all levels.
func HashFileSize(p Params) (int64, error) {
	g, err := p.geometry()
	if err != nil {
		return 0, err
	}
	return int64(g.end) * int64(g.HashBlockSize), nil
}

// HashBlocks is the number of hash blocks of the tree, without the superblock's.
func HashBlocks(p Params) (uint64, error) {
	g, err := p.geometry()
	if err != nil {
		return 0, err
	}
	return g.end - g.start, nil
}

// FormatUUID returns the 8-4-4-4-12 form of u.
func FormatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

var errUUID = errors.New("want the form 01234567-89ab-cdef-0123-456789abcdef")

// ParseUUID reads the 8-4-4-4-12 form, either case.
func ParseUUID(s string) ([16]byte, error) {
	var u [16]byte
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) != 32 {
		digits = ""
	}
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil || len(digits) != 32 || !strings.EqualFold(FormatUUID(u), s) {
		return [16]byte{}, fmt.Errorf("uuid %.64q: %w", s, errUUID)
	}
	return u, nil
}
