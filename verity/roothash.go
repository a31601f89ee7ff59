package verity

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
)

// A Hash is the name of a hash function as the superblock and the kernel's table spell it. The zero Hash
// is SHA256.
type Hash string

// The hash functions of a tree. SHA-1 is here to read old trees: it authenticates nothing any more.
const (
	SHA1   Hash = "sha1"
	SHA256 Hash = "sha256"
	SHA512 Hash = "sha512"
)

// Size is the length of a digest in bytes, 0 for an unknown function.
func (h Hash) Size() int {
	switch h {
	case SHA1:
		return sha1.Size
	case SHA256, "":
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	return 0
}

// String is the name.
func (h Hash) String() string {
	if h == "" {
		return string(SHA256)
	}
	return string(h)
}

// new returns a fresh state; h is known.
func (h Hash) new() hash.Hash {
	switch h {
	case SHA1:
		return sha1.New()
	case SHA512:
		return sha512.New()
	}
	return sha256.New()
}

// A RootHash is the root of a hash tree: 20, 32 or 64 bytes, as the tree's hash function has it. It
// authenticates every data block. The zero RootHash is that of no tree. Root hashes compare with ==.
type RootHash struct {
	size   uint8
	digest [sha512.Size]byte
}

// NewRootHash makes a root hash of 20, 32 or 64 bytes.
func NewRootHash(b []byte) (RootHash, error) {
	switch len(b) {
	case sha1.Size, sha256.Size, sha512.Size:
		r := RootHash{size: uint8(len(b))}
		copy(r.digest[:], b)
		return r, nil
	}
	return RootHash{}, fmt.Errorf("root hash: %d bytes, want 20, 32 or 64", len(b))
}

// Bytes returns a copy of the digest.
func (r RootHash) Bytes() []byte { return append([]byte(nil), r.digest[:r.size]...) }

// Size is the length in bytes: 0 for the zero RootHash.
func (r RootHash) Size() int { return int(r.size) }

// String returns lower-case hex digits.
func (r RootHash) String() string { return hex.EncodeToString(r.digest[:r.size]) }

// MarshalText returns what String does.
func (r RootHash) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRootHash.
func (r *RootHash) UnmarshalText(b []byte) error {
	parsed, err := ParseRootHash(string(b))
	if err == nil {
		*r = parsed
	}
	return err
}

// ParseRootHash reads 40, 64 or 128 hex digits, either case.
func ParseRootHash(s string) (RootHash, error) {
	const want = "want 64 hex digits (SHA-256), 40 (SHA-1) or 128 (SHA-512)"
	switch len(s) {
	case 2 * sha1.Size, 2 * sha256.Size, 2 * sha512.Size:
	default:
		return RootHash{}, fmt.Errorf("root hash %.80q: %d characters, %s", s, len(s), want)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return RootHash{}, fmt.Errorf("root hash %.130q: %s", s, want)
	}
	return NewRootHash(b)
}
