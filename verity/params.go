// Package verity makes and checks dm-verity hash trees, byte-identical to `veritysetup format`.
//
// Format 1 with SHA-256 and 4096-byte data and hash blocks, as the kernel defines it
// (Documentation/admin-guide/device-mapper/verity.rst) and cryptsetup writes it:
//
//	hash area  = superblock block | top level | … | leaf level       (each level in whole hash blocks)
//	hash block = up to 128 digests of 32 bytes, zero-filled
//	digest     = SHA-256(salt ‖ block)                               (format 1: the salt comes first)
//	root hash  = digest of the one top-level block; with one data block there is no level and it is
//	             the digest of that block
//
// The superblock (512 bytes at the start of its block, the rest zero; integers little-endian):
//
//	0   8  "verity\0\0"          64  4  data block size     88  256  salt, zero-filled
//	8   4  version: 1            68  4  hash block size     344 168  zero
//	12  4  hash type: 1          72  8  data blocks
//	16 16  UUID                  80  2  salt size
//	32 32  hash name, zero-filled 82 6  zero
package verity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// BlockSize is the size of data and hash blocks in bytes; DigestSize that of a digest.
const (
	BlockSize  = 4096
	DigestSize = 32

	perBlock = BlockSize / DigestSize // digests in a hash block
)

// MaxSalt is the longest salt in bytes (the superblock's field).
const MaxSalt = 256

// MaxDataBlocks is the largest number of data blocks: the last byte must stay below 2^63.
const MaxDataBlocks = 1<<51 - 1

// A RootHash is the root of a hash tree (32 bytes). It authenticates every data block.
type RootHash [DigestSize]byte

func (r RootHash) String() string { return hex.EncodeToString(r[:]) }

// MarshalText returns 64 lower-case hex digits.
func (r RootHash) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRootHash.
func (r *RootHash) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRootHash(string(b))
	return err
}

// ParseRootHash reads 64 hex digits.
func ParseRootHash(s string) (RootHash, error) {
	var r RootHash
	if len(s) != 2*DigestSize {
		return r, fmt.Errorf("root hash %.80q: %d characters, want %d hex digits", s, len(s), 2*DigestSize)
	}
	if _, err := hex.Decode(r[:], []byte(s)); err != nil {
		return r, fmt.Errorf("root hash %.80q: want %d hex digits", s, 2*DigestSize)
	}
	return r, nil
}

// Params are what a hash tree depends on beside the data. The zero Params is invalid.
type Params struct {
	DataBlocks   uint64   // number of data blocks of 4096 bytes, at least 1
	Salt         []byte   // 0 to 256 bytes, hashed before each block
	UUID         [16]byte // stands in the superblock only
	NoSuperblock bool     // the hash area starts with the top level
	HashOffset   int64    // byte offset of the hash area in the hash file, a multiple of 4096
}

func (p Params) check() error {
	switch {
	case p.DataBlocks == 0:
		return errors.New("data: no block: want at least one of 4096 bytes")
	case p.DataBlocks > MaxDataBlocks:
		return fmt.Errorf("data: %d blocks, want at most %d", p.DataBlocks, uint64(MaxDataBlocks))
	case len(p.Salt) > MaxSalt:
		return fmt.Errorf("salt: %d bytes, want at most %d", len(p.Salt), MaxSalt)
	case p.HashOffset < 0 || p.HashOffset%BlockSize != 0 || p.HashOffset > 1<<62:
		return fmt.Errorf("hash offset %d: want a multiple of %d", p.HashOffset, BlockSize)
	}
	return nil
}

// A level is one level of the tree: count hash blocks from block start of the hash file.
type level struct{ start, count uint64 }

// offset is where block i of the level is, in bytes from the start of the hash file.
func (l level) offset(i uint64) int64 { return int64(l.start+i) * BlockSize }

// levels returns the levels from the leaves (index 0) to the top, and the first block after the tree.
func (p Params) levels() (ls []level, end uint64) {
	for n := p.DataBlocks; n > 1; {
		n = (n + perBlock - 1) / perBlock
		ls = append(ls, level{count: n})
	}
	end = uint64(p.HashOffset) / BlockSize
	if !p.NoSuperblock {
		end++
	}
	for i := len(ls) - 1; i >= 0; i-- {
		ls[i].start = end
		end += ls[i].count
	}
	return ls, end
}

// HashFileSize is the size in bytes of a hash file for p: offset, superblock and all levels.
func HashFileSize(p Params) (int64, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	_, end := p.levels()
	return int64(end) * BlockSize, nil
}

// FormatUUID returns the 8-4-4-4-12 form of u.
func FormatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// ParseUUID reads the 8-4-4-4-12 form, either case.
func ParseUUID(s string) ([16]byte, error) {
	var u [16]byte
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) != 32 {
		digits = ""
	}
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil || len(digits) != 32 || !strings.EqualFold(FormatUUID(u), s) {
		return [16]byte{}, fmt.Errorf("uuid %.64q: want the form 01234567-89ab-cdef-0123-456789abcdef", s)
	}
	return u, nil
}
