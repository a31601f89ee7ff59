package xz

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// aloneHeader is the size of the header of a .lzma file in bytes.
const aloneHeader = 13

// UnpackAlone decompresses data in the .lzma format ("LZMA_Alone"), in which UEFI firmware keeps its compressed
// volumes: properties (lc, lp, pb in a byte), u32 dictionary, u64 size of the contents, then one LZMA stream
// (LZMA specification of the public-domain LZMA SDK; edk2 MdeModulePkg/Library/LzmaCustomDecompressLib).
// Contents of more than limit bytes, or of a size that the header leaves open, are refused before memory is
// taken; so is anything behind the stream. An end mark may follow the contents.
func UnpackAlone(data []byte, limit int64) ([]byte, error) {
	if len(data) < aloneHeader+5 {
		return nil, fmt.Errorf("lzma: %d bytes, want at least %d", len(data), aloneHeader+5)
	}
	dict, size := binary.LittleEndian.Uint32(data[1:]), binary.LittleEndian.Uint64(data[5:])
	if size == 1<<64-1 || size > uint64(max(limit, 0)) {
		return nil, fmt.Errorf("lzma: contents of %d bytes, want at most %d", size, limit)
	}
	d := &decoder{far: int(min(max(dict, 1<<12), 1<<30))}
	if !d.properties(data[0]) {
		return nil, fmt.Errorf("lzma: properties %#02x: want lc + lp at most 4, pb at most 4", data[0])
	}
	d.resetState()
	d.window = make([]byte, size)
	if !d.decodeAll(data[aloneHeader:]) {
		return nil, errors.New("lzma: corrupt data")
	}
	return d.window, nil
}

// A feed hands a stream of any length to a range decoder, whose input is a ring: half of it is filled at a
// time, and never a half that is still to be read.
type feed struct {
	ring   [inSize]byte
	rest   []byte
	filled uint32 // bytes that were put into the ring, zeros behind the end included
}

func (f *feed) half() {
	half := f.ring[f.filled%inSize:][:inSize/2]
	n := copy(half, f.rest)
	clear(half[n:])
	f.rest = f.rest[n:]
	f.filled += inSize / 2
}

// decodeAll fills the window from in; false when in is not exactly that.
func (d *decoder) decodeAll(in []byte) bool {
	if in[0] != 0 {
		return false
	}
	f := &feed{rest: in}
	f.half()
	d.rc.start(&f.ring)
	for d.pos < len(d.window) {
		if d.rc.ip > uint32(len(in)) {
			return false // has read the zeros behind the end
		}
		if f.filled-d.rc.ip < margin {
			f.half()
		}
		if !d.symbol() {
			return false
		}
	}
	d.rc.normalize()
	if d.rc.ip < uint32(len(in)) {
		if f.filled-d.rc.ip < margin {
			f.half()
		}
		if !d.endMark() {
			return false
		}
	}
	return d.rc.ip == uint32(len(in)) && d.rc.code == 0
}

// endMark decodes a match with the distance that none has.
func (d *decoder) endMark() bool {
	position := uint32(d.pos-d.first) & d.pbMask
	if d.rc.bit(&d.isMatch[d.state][position%positions]) == 0 || d.match(position) != minMatch || d.rep[0] != 1<<32-1 {
		return false
	}
	d.rc.normalize()
	return true
}

// symbol decodes a literal or a match.
func (d *decoder) symbol() bool {
	position := uint32(d.pos-d.first) & d.pbMask
	if d.rc.bit(&d.isMatch[d.state][position%positions]) == 0 {
		d.literal()
		return true
	}
	length := d.match(position)
	return length != 0 && d.copyMatch(length, len(d.window))
}
