// Package targz writes a disk as the archive that Google Compute Engine imports: disk.raw, alone, in the
// sparse form of GNU tar's old format, in gzip.
//
// Compute Engine wants disks of whole GiB: zeros are added to the end. The partition table stays as it is
// (its backup no longer lies at the end of the disk, as on every cloud disk larger than its image), because
// firmware measures it: the reference values of disk.raw hold.
//
// Layout v1 of the tar stream, in blocks of 512 bytes: one header (GNU tar manual, "Basic Tar Format",
// oldgnu_header) of type S with mode 0000644, owner 0:0 without names, time the epoch; the sparse map, of
// which 4 entries are in the header and 21 in each further block: a (offset, size) pair per range of whole
// 64 KiB units that are not zero, and last (size of the disk, 0); the ranges themselves; zeros up to
// a multiple of 10240 with at least two zero blocks. Numbers are octal digits with a NUL behind them, from 8 GiB on
// big-endian with the top bit of the first byte set.
//
// Layout v1 of the gzip stream (RFC 1952): one member, header 1f8b08000000000000ff (no name, no time, no
// system), stored blocks of 65535 bytes and a last one of the rest, CRC-32, size. Nothing is compressed:
// what a compressor emits is nowhere specified, and changes between releases of the same one; holes are left
// out already. Whoever wants a smaller upload compresses the stream again, outside what is signed.
package targz

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"tally/mkimage/internal/extent"
)

const (
	name    = "disk.raw"
	gib     = 1 << 30
	block   = 512
	record  = 20 * block
	stored  = 65535 // longest stored block of DEFLATE (RFC 1951, 3.2.4)
	inHead  = 4
	inBlock = 21
	maxSize = 1 << 41 // bytes, what a disk of layout v1 can have
)

// Write writes the first size bytes of r with the given modification time (seconds since 1970) and returns
// the number of bytes written.
func Write(ctx context.Context, w io.Writer, r io.ReaderAt, size, epoch int64) (int64, error) {
	if size < 1 || size > maxSize || epoch < 0 {
		return 0, fmt.Errorf("tar.gz: disk of %d bytes at time %d: want 1 to %d bytes and no time before 1970", size, epoch, int64(maxSize))
	}
	ranges, err := extent.Scan(ctx, r, size)
	if err != nil {
		return 0, fmt.Errorf("tar.gz: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	z := newGzip(out)
	written := int64(0)
	put := func(b []byte) { z.Write(b); written += int64(len(b)) } // a bufio.Writer keeps its error
	put(headers(ranges, (size+gib-1)/gib*gib, epoch))
	buf := make([]byte, extent.Unit)
	for _, e := range ranges {
		for off := e.Offset; off < e.Offset+e.Size; off += extent.Unit {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			b := buf[:min(extent.Unit, e.Offset+e.Size-off)]
			if err := extent.ReadFull(r, b, off); err != nil {
				return 0, fmt.Errorf("tar.gz: %w", err)
			}
			put(b)
		}
	}
	fill := (block - written%block) % block
	put(make([]byte, fill+2*block))
	put(make([]byte, (record-written%record)%record))
	z.close()
	return z.out, out.Flush()
}

// headers returns the header block and the blocks that go on with its sparse map.
func headers(ranges []extent.Range, size, epoch int64) []byte {
	entries := make([]byte, 0, 24*(len(ranges)+1))
	data := int64(0)
	for _, e := range append(ranges[:len(ranges):len(ranges)], extent.Range{Offset: size}) {
		entries = append(append(entries, number(e.Offset, 12)...), number(e.Size, 12)...)
		data += e.Size
	}
	h := make([]byte, block)
	copy(h, name)
	for _, f := range []struct {
		off   int
		value int64
		width int
	}{{100, 0o644, 8}, {108, 0, 8}, {116, 0, 8}, {124, data, 12}, {136, epoch, 12}, {483, size, 12}} {
		copy(h[f.off:], number(f.value, f.width))
	}
	copy(h[148:], "        ") // the checksum counts itself as spaces
	h[156] = 'S'
	copy(h[257:], "ustar  ")
	rest := entries[copy(h[386:386+24*inHead], entries):]
	h[482] = more(rest)
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	copy(h[148:], fmt.Appendf(nil, "%06o\x00 ", sum))
	for len(rest) > 0 {
		b := make([]byte, block)
		rest = rest[copy(b[:24*inBlock], rest):]
		b[504] = more(rest)
		h = append(h, b...)
	}
	return h
}

func more(rest []byte) byte {
	if len(rest) > 0 {
		return 1
	}
	return 0
}

// number encodes a field of a header.
func number(v int64, width int) []byte {
	if v < 1<<(3*(width-1)) {
		return fmt.Appendf(nil, "%0*o\x00", width-1, v)
	}
	b := make([]byte, width)
	binary.BigEndian.PutUint64(b[width-8:], uint64(v))
	b[0] = 0x80
	return b
}

// A gzip stores what is written to it.
type gzip struct {
	w    *bufio.Writer
	buf  []byte
	crc  uint32
	size uint32 // modulo 2^32, as the format has it
	out  int64
}

func newGzip(w *bufio.Writer) *gzip {
	z := &gzip{w: w, buf: make([]byte, 0, stored)}
	z.emit([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff})
	return z
}

func (z *gzip) emit(b []byte) {
	z.w.Write(b)
	z.out += int64(len(b))
}

// Write keeps the last full block back, because the last one carries a flag.
func (z *gzip) Write(b []byte) {
	z.crc = crc32.Update(z.crc, crc32.IEEETable, b)
	z.size += uint32(len(b))
	for len(b) > 0 {
		if len(z.buf) == stored {
			z.block(0)
		}
		n := min(stored-len(z.buf), len(b))
		z.buf, b = append(z.buf, b[:n]...), b[n:]
	}
}

func (z *gzip) block(final byte) {
	n := uint16(len(z.buf))
	z.emit([]byte{final, byte(n), byte(n >> 8), byte(^n), byte(^n >> 8)})
	z.emit(z.buf)
	z.buf = z.buf[:0]
}

func (z *gzip) close() {
	z.block(1)
	z.emit(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, z.crc), z.size))
}
