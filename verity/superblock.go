package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	superblockSize = 512
	superblockName = "sha256"
)

var superblockMagic = []byte("verity\x00\x00")

// marshalSuperblock returns the 512 bytes of the package comment.
func (p Params) marshalSuperblock() []byte {
	b := make([]byte, superblockSize)
	copy(b, superblockMagic)
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint32(b[12:], 1)
	copy(b[16:], p.UUID[:])
	copy(b[32:], superblockName)
	binary.LittleEndian.PutUint32(b[64:], BlockSize)
	binary.LittleEndian.PutUint32(b[68:], BlockSize)
	binary.LittleEndian.PutUint64(b[72:], p.DataBlocks)
	binary.LittleEndian.PutUint16(b[80:], uint16(len(p.Salt)))
	copy(b[88:], p.Salt)
	return b
}

// ErrNoSuperblock is returned by ReadSuperblock when there is no superblock at the offset.
var ErrNoSuperblock = errors.New("superblock: no verity signature")

// ReadSuperblock reads the parameters of a hash file from the superblock at offset (bytes). What it
// returns is not authenticated by anything: compare it with what a signed release says.
// Other versions, hash names and block sizes than the package writes are errors, and so are bytes that
// must be zero and are not.
func ReadSuperblock(r io.ReaderAt, offset int64) (Params, error) {
	b := make([]byte, superblockSize)
	if _, err := r.ReadAt(b, offset); err != nil {
		if errors.Is(err, io.EOF) {
			return Params{}, fmt.Errorf("superblock: file ends before byte %d", offset+superblockSize)
		}
		return Params{}, fmt.Errorf("superblock: %w", err)
	}
	if !bytes.Equal(b[:8], superblockMagic) {
		return Params{}, ErrNoSuperblock
	}
	le := binary.LittleEndian
	saltSize := le.Uint16(b[80:])
	name, _, _ := bytes.Cut(b[32:64], []byte{0})
	switch {
	case le.Uint32(b[8:]) != 1:
		return Params{}, fmt.Errorf("superblock: version %d, want 1", le.Uint32(b[8:]))
	case le.Uint32(b[12:]) != 1:
		return Params{}, fmt.Errorf("superblock: hash type %d, want 1", le.Uint32(b[12:]))
	case string(name) != superblockName:
		return Params{}, fmt.Errorf("superblock: hash %q, want %q", name, superblockName)
	case le.Uint32(b[64:]) != BlockSize:
		return Params{}, fmt.Errorf("superblock: data block size %d, want %d", le.Uint32(b[64:]), BlockSize)
	case le.Uint32(b[68:]) != BlockSize:
		return Params{}, fmt.Errorf("superblock: hash block size %d, want %d", le.Uint32(b[68:]), BlockSize)
	case saltSize > MaxSalt:
		return Params{}, fmt.Errorf("superblock: salt of %d bytes, want at most %d", saltSize, MaxSalt)
	}
	p := Params{DataBlocks: le.Uint64(b[72:]), HashOffset: offset, Salt: append([]byte{}, b[88:88+int(saltSize)]...)}
	copy(p.UUID[:], b[16:32])
	if err := p.check(); err != nil {
		return Params{}, fmt.Errorf("superblock: %w", err)
	}
	if !bytes.Equal(p.marshalSuperblock(), b) {
		return Params{}, errors.New("superblock: reserved bytes are not zero")
	}
	return p, nil
}
