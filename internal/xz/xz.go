// Package xz reads the .xz format: streams of blocks of LZMA2, each block with a check of its contents.
//
// It is there for three reasons. A cap: what a header asks for is held against the caller's limit before
// memory is taken. Strictness: every field, size, padding and check is verified, a file is good to its last
// byte or an error. Speed: a package is unpacked in less than half the time of the general Go
// libraries.
//
// The format is "The .xz File Format" 1.2.1 (https://tukaani.org/xz/xz-file-format.txt); sections in comments
// are its. LZMA itself is described by the LZMA specification in the public-domain LZMA SDK and by the
// source of XZ Embedded. The only filter is LZMA2, as in Debian packages, package lists and kernel modules.
//
//	stream = header block* index footer        streams may follow each other, with padding between
//	block  = header chunk* 0x00 padding check  chunks of at most 2 MiB, 64 KiB when compressed
package xz

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxDict is a limit for dictionaries, in bytes, that takes what `xz -9` makes.
const MaxDict = 64 << 20

// A Reader decompresses. Its memory is bounded by the dictionaries of the file, and so by the limit of
// NewReader, plus a quarter of it and 4 MiB, whatever the file says.
type Reader struct {
	in      *bufio.Reader
	offset  int64 // bytes taken from in
	maxDict int64

	check   check // of this stream, section 2.1.1.2
	records records
	block   block
	inBlock bool
	out     []byte // decompressed and not yet read
	err     error  // what every further Read returns
}

// NewReader reads the header of the first stream in r and returns a reader of the contents. A dictionary of more
// than maxDict bytes is refused. It reads r to the end, past the last stream, where only padding may be.
func NewReader(r io.Reader, maxDict int64) (*Reader, error) {
	z := &Reader{in: bufio.NewReaderSize(r, 64<<10), maxDict: maxDict}
	if err := z.streamHeader(); err != nil {
		return nil, z.fail(err)
	}
	return z, nil
}

// fail gives err the place in the file and keeps it.
func (z *Reader) fail(err error) error {
	if errors.Is(err, io.EOF) && err != io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("truncated: %w", io.ErrUnexpectedEOF)
	}
	if err != io.EOF {
		err = fmt.Errorf("xz: byte %d: %w", z.offset, err)
	}
	z.err = err
	return err
}

// Read reads decompressed bytes.
func (z *Reader) Read(p []byte) (int, error) {
	for len(z.out) == 0 {
		if z.err != nil {
			return 0, z.err
		}
		if err := z.more(); err != nil {
			return 0, z.fail(err)
		}
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// more reads the next part: a chunk, the end of a block, or what follows a block. It returns io.EOF at the good
// end of the file.
func (z *Reader) more() error {
	if z.inBlock {
		out, err := z.chunk()
		z.out = out
		if err == nil && out == nil {
			z.inBlock = false
			err = z.endBlock()
		}
		return err
	}
	size, err := z.readByte()
	if err != nil {
		return err
	}
	if size != 0 {
		z.inBlock = true
		return z.blockHeader(size)
	}
	if err := z.index(); err != nil {
		return err
	}
	return z.nextStream()
}

// full reads len(p) bytes; the end of the file is an error.
func (z *Reader) full(p []byte) error {
	n, err := io.ReadFull(z.in, p)
	z.offset += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (z *Reader) readByte() (byte, error) {
	b, err := z.in.ReadByte()
	if err == io.EOF {
		return 0, io.ErrUnexpectedEOF
	}
	z.offset++
	return b, err
}

// number reads a multibyte integer (section 1.2) of at most 63 bits, the shortest form only.
func (z *Reader) number(next func() (byte, error)) (int64, error) {
	var v int64
	for i := 0; i < 9; i++ {
		b, err := next()
		if err != nil {
			return 0, err
		}
		v |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				break
			}
			return v, nil
		}
	}
	return 0, errors.New("malformed number")
}

var headerMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}

// streamHeader reads section 2.1.1.
func (z *Reader) streamHeader() error {
	var b [12]byte
	if err := z.full(b[:]); err != nil {
		return err
	}
	if !bytes.Equal(b[:6], headerMagic) {
		return fmt.Errorf("starts with %q, want %q", b[:6], headerMagic)
	}
	if crc32.ChecksumIEEE(b[6:8]) != le32(b[8:]) {
		return errors.New("stream header: CRC32 is wrong")
	}
	var err error
	z.records = records{}
	z.check, err = newCheck(b[6], b[7])
	return err
}

// nextStream reads padding (section 2.2) and then a header, or finds the end.
func (z *Reader) nextStream() error {
	for zeros := 0; ; zeros++ {
		b, err := z.in.Peek(1)
		if err == io.EOF && zeros%4 == 0 {
			return io.EOF
		}
		if err == io.EOF || err == nil && b[0] != 0 && zeros%4 != 0 {
			return errors.New("stream padding: not a multiple of 4 bytes")
		}
		if err != nil {
			return err
		}
		if b[0] != 0 {
			return z.streamHeader()
		}
		if _, err := z.readByte(); err != nil {
			return err
		}
	}
}
