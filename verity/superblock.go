package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const superblockSize = 512

var superblockMagic = []byte("verity\x00\x00")

// marshalSuperblock returns the 512 bytes of the package comment.
func (p Params) marshalSuperblock() []byte {
	p = p.withDefaults()
	b := make([]byte, superblockSize)
	copy(b, superblockMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)
	if !p.Format0 {
		le.PutUint32(b[12:], 1)
	}
	copy(b[16:], p.UUID[:])
	copy(b[32:64], p.Hash)
	le.PutUint32(b[64:], uint32(p.DataBlockSize))
	le.PutUint32(b[68:], uint32(p.HashBlockSize))
	le.PutUint64(b[72:], p.DataBlocks)
	le.PutUint16(b[80:], uint16(len(p.Salt)))
	copy(b[88:], p.Salt)
	return b
}

// writeSuperblock writes the superblock's 512 bytes. With no level behind it, that would leave the file
// shorter than veritysetup does, who writes in hash blocks, or pages if these are smaller.
func (w *Writer) writeSuperblock() error {
	b := w.g.marshalSuperblock()
	if len(w.g.levels) > 0 {
		_, err := w.hash.WriteAt(b, w.g.HashOffset)
		return err
	}
	unit := int64(min(w.g.HashBlockSize, 4096))
	end := (w.g.HashOffset + superblockSize + unit - 1) / unit * unit
	b = append(b, make([]byte, end-w.g.HashOffset-superblockSize)...)
	if r, ok := w.hash.(io.ReaderAt); ok { // keep what is there
		if _, err := r.ReadAt(b[superblockSize:], w.g.HashOffset+superblockSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	_, err := w.hash.WriteAt(b, w.g.HashOffset)
	return err
}

// ErrNoSuperblock is returned by ReadSuperblock when there is no superblock at the offset.
var ErrNoSuperblock = errors.New("superblock: no verity signature")

// ReadSuperblock reads the parameters of a hash file from the superblock at offset (bytes, a multiple of
// 512). What it returns is not authenticated by anything: compare it with what a signed release says.
// Other versions, hash types, hash names and block sizes than the package writes are errors, and so are
// bytes that must be zero and are not.
func ReadSuperblock(r io.ReaderAt, offset int64) (Params, error) {
	b := make([]byte, superblockSize)
	if _, err := r.ReadAt(b, offset); err != nil {
		if errors.Is(err, io.EOF) {
			return Params{}, fmt.Errorf("superblock: file ends before byte %d", offset+superblockSize)
		}
		return Params{}, fmt.Errorf("superblock: %w", err)
	}
	p, err := unmarshalSuperblock(b)
	if err != nil {
		return Params{}, err
	}
	p.HashOffset = offset
	if err := p.check(); err != nil {
		return Params{}, fmt.Errorf("superblock: %w", err)
	}
	if !bytes.Equal(p.marshalSuperblock(), b) {
		return Params{}, errors.New("superblock: reserved bytes are not zero")
	}
	return p, nil
}

// unmarshalSuperblock reads the fields and checks what Params cannot hold.
func unmarshalSuperblock(b []byte) (Params, error) {
	if !bytes.Equal(b[:8], superblockMagic) {
		return Params{}, ErrNoSuperblock
	}
	le := binary.LittleEndian
	saltSize := le.Uint16(b[80:])
	name, _, _ := bytes.Cut(b[32:64], []byte{0})
	switch {
	case le.Uint32(b[8:]) != 1:
		return Params{}, fmt.Errorf("superblock: version %d, want 1", le.Uint32(b[8:]))
	case le.Uint32(b[12:]) > 1:
		return Params{}, fmt.Errorf("superblock: hash type %d, want 0 or 1", le.Uint32(b[12:]))
	case len(name) == 0:
		return Params{}, errors.New("superblock: no hash name")
	case le.Uint32(b[64:]) < MinBlockSize || le.Uint32(b[64:]) > MaxBlockSize:
		return Params{}, fmt.Errorf("superblock: data block size %d: want %d to %d", le.Uint32(b[64:]), MinBlockSize, MaxBlockSize)
	case le.Uint32(b[68:]) < MinBlockSize || le.Uint32(b[68:]) > MaxBlockSize:
		return Params{}, fmt.Errorf("superblock: hash block size %d: want %d to %d", le.Uint32(b[68:]), MinBlockSize, MaxBlockSize)
	case saltSize > MaxSalt:
		return Params{}, fmt.Errorf("superblock: salt of %d bytes, want at most %d", saltSize, MaxSalt)
	}
	p := Params{
		DataBlocks: le.Uint64(b[72:]), Hash: Hash(name), Format0: le.Uint32(b[12:]) == 0,
		DataBlockSize: int(le.Uint32(b[64:])), HashBlockSize: int(le.Uint32(b[68:])),
		Salt: append([]byte{}, b[88:88+int(saltSize)]...),
	}
	copy(p.UUID[:], b[16:32])
	return p, nil
}
