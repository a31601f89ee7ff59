// Package verity makes and checks dm-verity hash trees, byte-identical to `veritysetup format`.
//
// SHA-1, SHA-256 and SHA-512, formats 0 and 1, data and hash blocks of 512 to 65536 bytes, as the kernel
// defines them (Documentation/admin-guide/device-mapper/verity.rst) and cryptsetup writes them:
//
//	hash area  = superblock | zeros up to the next hash block | top level | … | leaf level
//	level      = whole hash blocks; the leaf level holds the digests of the data blocks, each other
//	             level those of the hash blocks below it
//	hash block = digests, zero-filled: the largest power of two of them that fits
//	format 1   : digest = H(salt ‖ block), each zero-filled to the next power of two (SHA-1: to 32 bytes)
//	format 0   : digest = H(block ‖ salt), one straight after the other (Chrome OS)
//	root hash  = digest of the one top-level block; with one data block there is no level and it is
//	             the digest of that block
//
// The superblock (512 bytes; integers little-endian) stands at the hash offset. Without a superblock the
// top level does.
//
//	0   8  "verity\0\0"          64  4  data block size     88  256  salt, zero-filled
//	8   4  version: 1            68  4  hash block size     344 168  zero
//	12  4  hash type: format     72  8  data blocks
//	16 16  UUID                  80  2  salt size
//	32 32  hash name, zero-filled 82 6  zero
package verity
