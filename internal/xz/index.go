package xz

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// A check is how a stream guards the contents of its blocks. The hash is nil for "none".
type check struct {
	flag byte
	hash hash.Hash
}

var crc64Table = crc64.MakeTable(crc64.ECMA)

// newCheck reads the two stream flags, section 2.1.1.2.
func newCheck(zero, flag byte) (check, error) {
	if zero != 0 {
		return check{}, fmt.Errorf("stream flags %#02x %#02x are reserved", zero, flag)
	}
	switch flag {
	case 0x00:
		return check{flag, nil}, nil
	case 0x01:
		return check{flag, crc32.NewIEEE()}, nil
	case 0x04:
		return check{flag, crc64.New(crc64Table)}, nil
	case 0x0a:
		return check{flag, sha256.New()}, nil
	}
	return check{}, fmt.Errorf("check %#02x is not supported: want none, CRC32, CRC64 or SHA-256", flag)
}

func (c check) size() int {
	if c.hash == nil {
		return 0
	}
	return c.hash.Size()
}

// sum is the check as a block stores it: CRCs little-endian, section 3.4.
func (c check) sum() []byte {
	b := c.hash.Sum(nil)
	if len(b) <= 8 {
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
	return b
}

// records are the sizes of the blocks of a stream, kept as a digest of their list so that their number
// costs no memory.
type records struct {
	n      int64
	digest [sha256.Size]byte
}

func (r *records) add(unpadded, uncompressed int64) {
	b := append(r.digest[:], make([]byte, 16)...)
	binary.LittleEndian.PutUint64(b[sha256.Size:], uint64(unpadded))
	binary.LittleEndian.PutUint64(b[sha256.Size+8:], uint64(uncompressed))
	r.n, r.digest = r.n+1, sha256.Sum256(b)
}

// index reads section 4, behind its first byte, and the footer, section 2.1.2. The list must be that of
// the blocks that were read.
func (z *Reader) index() error {
	start := z.offset - 1
	crc := crc32.Update(0, crc32.IEEETable, []byte{0})
	next := func() (byte, error) {
		b, err := z.readByte()
		crc = crc32.Update(crc, crc32.IEEETable, []byte{b})
		return b, err
	}
	if err := z.indexRecords(next); err != nil {
		return err
	}
	for (z.offset-start)%4 != 0 {
		if b, err := next(); err != nil {
			return err
		} else if b != 0 {
			return errors.New("index: padding is not zero")
		}
	}
	var b [4 + 12]byte
	if err := z.full(b[:]); err != nil {
		return err
	}
	if le32(b[:]) != crc {
		return errors.New("index: CRC32 is wrong")
	}
	return z.footer(b[4:], z.offset-12-start)
}

func (z *Reader) indexRecords(next func() (byte, error)) error {
	n, err := z.number(next)
	if err != nil {
		return err
	}
	if n != z.records.n {
		return fmt.Errorf("index: lists %d blocks, want %d", n, z.records.n)
	}
	var r records
	for range n {
		unpadded, err := z.number(next)
		if err != nil {
			return err
		}
		uncompressed, err := z.number(next)
		if err != nil {
			return err
		}
		r.add(unpadded, uncompressed)
	}
	if r != z.records {
		return errors.New("index: not the sizes of the blocks")
	}
	return nil
}

// footer checks section 2.1.2; size is that of the index.
func (z *Reader) footer(b []byte, size int64) error {
	switch {
	case string(b[10:]) != "YZ":
		return fmt.Errorf("stream footer: ends in %q, want \"YZ\"", b[10:])
	case crc32.ChecksumIEEE(b[4:10]) != le32(b):
		return errors.New("stream footer: CRC32 is wrong")
	case (int64(le32(b[4:]))+1)*4 != size:
		return errors.New("stream footer: not the size of the index")
	case b[8] != 0 || b[9] != z.check.flag:
		return errors.New("stream footer: not the flags of the header")
	}
	return nil
}
