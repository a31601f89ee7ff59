package xz

import (
	"errors"
	"fmt"
)

// lzma2 decodes the chunks of one block. Contents go to window, where earlier contents lie before pos.
//
//	0x00                                  end
//	0x01 size-1[2] contents               as they are; the dictionary starts anew
//	0x02 size-1[2] contents               as they are
//	1RRsssss size-1[2] packed-1[2] …      LZMA; sssss are bits 16-20 of size-1; RR is what starts anew:
//	                                      0 nothing, 1 state, 2 state with new properties, 3 dictionary too
type lzma2 struct {
	decoder
	dict      int  // bytes of history that may be referred to
	needDict  bool // the dictionary has not been started
	needProps bool // no properties since
	packed    [inSize]byte
}

const (
	maxPacked = 1 << 16 // compressed bytes of a chunk
	maxChunk  = 2 << 20 // contents of a chunk
)

var errCorrupt = errors.New("corrupt LZMA2 data")

func (l *lzma2) reset(dict int) {
	l.dict, l.needDict, l.needProps = dict, true, true
	l.pos, l.first = 0, 0
}

// chunk returns the contents of the next chunk, good until the next call; nil at the end of the block.
func (l *lzma2) chunk(z *Reader) ([]byte, error) {
	control, err := z.readByte()
	if err != nil || control == 0 {
		return nil, err
	}
	if control > 2 && control < 0x80 {
		return nil, fmt.Errorf("LZMA2 control byte %#02x is reserved", control)
	}
	if control == 1 || control >= 0xe0 {
		l.needDict, l.needProps = false, true
		l.first = l.pos
	} else if l.needDict {
		return nil, errCorrupt
	}
	var b [2]byte
	if err := z.full(b[:]); err != nil {
		return nil, err
	}
	size := int(b[0])<<8 + int(b[1]) + 1
	if control >= 0x80 {
		size += int(control&0x1f) << 16
	}
	l.room(size)
	start := l.pos
	if control < 0x80 {
		l.pos += size
		err = z.full(l.window[start:l.pos])
	} else {
		err = l.compressed(z, control, size)
	}
	return l.window[start:l.pos], err
}

// room makes place for size bytes in the window, which grows as far as contents need it and drops what
// lies behind the dictionary.
func (l *lzma2) room(size int) {
	if l.pos+size <= len(l.window) {
		return
	}
	limit := l.dict + max(l.dict/4, 2*maxChunk)
	if l.pos+size > limit {
		// Positions count modulo 16 since the dictionary was started, and must go on doing so.
		keep := min(l.dict+(l.pos-l.first)%positions, l.pos-l.first)
		copy(l.window, l.window[l.pos-keep:l.pos])
		l.first, l.pos = 0, keep
	}
	if l.pos+size > len(l.window) {
		grown := make([]byte, min(max(2*len(l.window), l.pos+size), limit))
		copy(grown, l.window[:l.pos])
		l.window = grown
	}
}

// compressed decodes an LZMA chunk of size bytes of contents.
func (l *lzma2) compressed(z *Reader, control byte, size int) error {
	var b [2]byte
	if err := z.full(b[:]); err != nil {
		return err
	}
	packed := int(b[0])<<8 + int(b[1]) + 1
	if control >= 0xc0 {
		props, err := z.readByte()
		if err != nil {
			return err
		}
		if !l.properties(props) {
			return fmt.Errorf("LZMA properties %#02x: want lc + lp at most 4, pb at most 4", props)
		}
		l.needProps = false
	} else if l.needProps {
		return errCorrupt
	}
	if control >= 0xa0 {
		l.resetState()
	}
	if err := z.full(l.packed[:packed]); err != nil {
		return err
	}
	clear(l.packed[packed : packed+margin])
	l.far = l.dict
	if !l.decode(&l.packed, packed, size) {
		return errCorrupt
	}
	return nil
}
