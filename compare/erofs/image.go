package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xE0F5E1E2
	slotSize    = 32 // the unit of a nid

	compatChecksum      = 0x1
	incompatZeroPadding = 0x1 // speaks of compressed clusters only
)

// Caps on what an image may hold.
const (
	maxPath      = 4095      // bytes of a path, Linux PATH_MAX less the NUL
	maxTarget    = 4095      // bytes of a symlink's target
	maxPathBytes = 512 << 20 // of all paths together
	maxLinkBytes = 256 << 20 // of all symlink targets together
	maxXattrs    = 64 << 20  // bytes of all xattrs together
)

// ErrMagic is returned by Open for bytes that are no EROFS image.
var ErrMagic = errors.New("erofs: no EROFS magic at byte 1024")

// ErrUnsupported is wrapped by every refusal of a valid feature that this package does not read.
var ErrUnsupported = errors.New("not readable here")

// A Super is what the superblock says.
type Super struct {
	BlockSize      int64  // bytes, a power of two from 512 to 65536
	Blocks         uint32 // of the image
	Inodes         uint64
	BuildTime      int64 // seconds since 1970
	BuildNsec      uint32
	RootNID        uint64
	UUID           [16]byte
	Label          string // volume name, without trailing NULs
	Compat         uint32 // feature_compat
	Incompat       uint32 // feature_incompat
	Checksum       uint32 // as stored
	ChecksumStands bool   // it is right, or the image claims none

	meta, xattrs int64 // byte offsets of nid 0 and of shared xattr 0
}

// An Image is an image that was read: all metadata is in memory, contents stay where they are.
type Image struct {
	Super Super

	r       io.ReaderAt
	files   []file
	inodes  map[uint64]*Inode
	extents []extent
}

// A file is one path of the image.
type file struct {
	path string
	node *Inode
}

// Open reads the superblock and every inode of the image in r. r must hold the whole image; bytes behind it
// are not looked at.
func Open(r io.ReaderAt) (*Image, error) {
	m := &Image{r: r, inodes: map[uint64]*Inode{}}
	if err := m.readSuper(); err != nil {
		return nil, err
	}
	w := &walker{m: m}
	root, err := m.inode(m.Super.RootNID, w)
	if err != nil {
		return nil, fmt.Errorf("erofs: root directory: %w", err)
	}
	if root.Kind() != KindDir {
		return nil, fmt.Errorf("erofs: root inode has mode %#o, want a directory", root.Mode)
	}
	if err := w.dir("", root, root); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	m.index()
	return m, nil
}

// Is says whether r looks like an EROFS image.
func Is(r io.ReaderAt) bool {
	b := make([]byte, 4)
	_, err := r.ReadAt(b, superOffset)
	return err == nil && binary.LittleEndian.Uint32(b) == magic
}

// Size is the size of the image in bytes.
func (m *Image) Size() int64 { return int64(m.Super.Blocks) * m.Super.BlockSize }

func (m *Image) readSuper() error {
	b := make([]byte, superSize)
	if n, err := m.r.ReadAt(b, superOffset); n < superSize && errors.Is(err, io.EOF) {
		return ErrMagic
	} else if n < superSize {
		return fmt.Errorf("erofs: superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != magic {
		return ErrMagic
	}
	if b[12] < 9 || b[12] > 16 {
		return fmt.Errorf("erofs: superblock: block size 2^%d, want 2^9 to 2^16", b[12])
	}
	s := &m.Super
	*s = Super{
		BlockSize: 1 << b[12], Checksum: le.Uint32(b[4:]), Compat: le.Uint32(b[8:]), RootNID: uint64(le.Uint16(b[14:])),
		Inodes: le.Uint64(b[16:]), BuildTime: int64(le.Uint64(b[24:])), BuildNsec: le.Uint32(b[32:]), Blocks: le.Uint32(b[36:]),
		UUID: [16]byte(b[48:64]), Label: trimNUL(b[64:80]), Incompat: le.Uint32(b[80:]),
	}
	s.meta, s.xattrs = int64(le.Uint32(b[40:]))*s.BlockSize, int64(le.Uint32(b[44:]))*s.BlockSize
	switch extra, dirBits := le.Uint16(b[86:]), b[90]; {
	case s.Incompat&^incompatZeroPadding != 0:
		return fmt.Errorf("erofs: superblock: feature_incompat %#x (compression, chunks, devices or newer): %w", s.Incompat, ErrUnsupported)
	case extra != 0:
		return fmt.Errorf("erofs: superblock: %d extra devices: %w", extra, ErrUnsupported)
	case dirBits != 0:
		return fmt.Errorf("erofs: superblock: directory blocks of 2^%d blocks: %w", dirBits, ErrUnsupported)
	case m.Size() <= superOffset+superSize:
		return fmt.Errorf("erofs: superblock: %d blocks of %d bytes: want at least one that holds it", s.Blocks, s.BlockSize)
	}
	if _, err := m.r.ReadAt(b[:1], m.Size()-1); err != nil {
		return fmt.Errorf("erofs: superblock: %d blocks of %d bytes, but the image ends before: %w", s.Blocks, s.BlockSize, err)
	}
	return m.checkSuper()
}

// checkSuper recomputes the checksum: CRC-32C without the final inversion over the rest of the block from the
// superblock on, its own field zero (fs/erofs/super.c, erofs_superblock_csum_verify).
func (m *Image) checkSuper() error {
	s := &m.Super
	s.ChecksumStands = true
	if s.Compat&compatChecksum == 0 {
		return nil
	}
	size := s.BlockSize - superOffset%s.BlockSize
	b := make([]byte, size)
	if _, err := m.r.ReadAt(b, superOffset); err != nil {
		return fmt.Errorf("erofs: superblock: %w", err)
	}
	clear(b[4:8])
	s.ChecksumStands = ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) == s.Checksum
	return nil
}

func trimNUL(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return string(b)
}
