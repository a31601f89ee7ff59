package xz

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

// A block is the one under way. Sizes are in bytes; -1 when the header does not tell.
type block struct {
	header       int64 // size of the header
	start        int64 // offset of the first chunk
	compressed   int64 // as the header has it
	uncompressed int64 // as the header has it
	got          int64 // decompressed so far
	lzma2        lzma2
}

const filterLZMA2 = 0x21

// blockHeader reads section 3.1 behind its first byte.
func (z *Reader) blockHeader(size byte) error {
	b := make([]byte, (int(size)+1)*4)
	b[0] = size
	if err := z.full(b[1:]); err != nil {
		return err
	}
	body, crc := b[:len(b)-4], b[len(b)-4:]
	if crc32.ChecksumIEEE(body) != le32(crc) {
		return errors.New("block header: CRC32 is wrong")
	}
	r := bytes.NewReader(body[2:])
	z.block.header, z.block.start, z.block.got = int64(len(b)), z.offset, 0
	var err error
	if z.block.compressed, err = z.optional(body[1]&0x40 != 0, r); err != nil {
		return fmt.Errorf("block header: %w", err)
	}
	if z.block.uncompressed, err = z.optional(body[1]&0x80 != 0, r); err != nil {
		return fmt.Errorf("block header: %w", err)
	}
	if body[1]&0x3f != 0 {
		return fmt.Errorf("block header: flags %#02x: want one filter, LZMA2", body[1])
	}
	var filter [3]byte // its number, the size of its properties, the dictionary size
	if n, _ := r.Read(filter[:]); n != 3 || filter[0] != filterLZMA2 || filter[1] != 1 {
		return fmt.Errorf("block header: filter % x is not supported, want LZMA2", filter[:n])
	}
	for r.Len() > 0 {
		if c, _ := r.ReadByte(); c != 0 {
			return errors.New("block header: padding is not zero")
		}
	}
	dict, err := dictSize(filter[2])
	if err != nil {
		return err
	}
	if dict > z.maxDict {
		return fmt.Errorf("block header: dictionary of %d bytes, want at most %d", dict, z.maxDict)
	}
	z.block.lzma2.reset(int(dict))
	return nil
}

func (z *Reader) optional(there bool, r *bytes.Reader) (int64, error) {
	if !there {
		return -1, nil
	}
	return z.number(func() (byte, error) {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errors.New("malformed number")
		}
		return b, nil
	})
}

// dictSize decodes the property of LZMA2, section 5.3.1, in bytes.
func dictSize(b byte) (int64, error) {
	if b > 40 {
		return 0, fmt.Errorf("block header: dictionary size %#02x is reserved", b)
	}
	if b == 40 {
		return 1<<32 - 1, nil
	}
	return int64(2|b&1) << (b/2 + 11), nil
}

// chunk returns the contents of the next chunk, or nil at the end of the block's chunks.
func (z *Reader) chunk() ([]byte, error) {
	out, err := z.block.lzma2.chunk(z)
	if err != nil || out == nil {
		return nil, err
	}
	z.block.got += int64(len(out))
	if z.block.uncompressed >= 0 && z.block.got > z.block.uncompressed {
		return nil, errors.New("block: longer than its header says")
	}
	if z.check.hash != nil {
		z.check.hash.Write(out)
	}
	return out, nil
}

// endBlock reads padding and check, sections 3.3 and 3.4, and holds the sizes against the header.
func (z *Reader) endBlock() error {
	compressed := z.offset - z.block.start
	if z.block.compressed >= 0 && compressed != z.block.compressed || z.block.uncompressed >= 0 && z.block.got != z.block.uncompressed {
		return errors.New("block: not the sizes that its header says")
	}
	var padding [3]byte
	p := padding[:(4-compressed%4)%4]
	if err := z.full(p); err != nil {
		return err
	}
	if padding != [3]byte{} {
		return errors.New("block: padding is not zero")
	}
	z.records.add(z.block.header+compressed+int64(z.check.size()), z.block.got)
	if z.check.hash == nil {
		return nil
	}
	want := make([]byte, z.check.size())
	if err := z.full(want); err != nil {
		return err
	}
	if !bytes.Equal(z.check.sum(), want) {
		return errors.New("block: contents are not those of the check")
	}
	z.check.hash.Reset()
	return nil
}
