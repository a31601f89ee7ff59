package tdx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tally/measure/internal/fw"
)

// Memory sizes of a trust domain, in bytes.
const (
	memoryUnit = 1 << 20
	maxMemory  = 1 << 46 // the least physical address width of a TDX host

	lowLimit  = 0xb000_0000 // q35: from here on, RAM below 4 GiB ends at lowMemory
	lowMemory = 0x8000_0000
	fourGiB   = 1 << 32
)

// below4G returns how much of memory QEMU's q35 machine puts below 4 GiB (hw/i386/pc_q35.c).
func below4G(memory uint64) uint64 {
	if memory >= lowLimit {
		return lowMemory
	}
	return memory
}

// Fields of a hand-off block (UEFI Platform Initialization, volume 3, chapter 5).
const (
	hobHandoff       = 1
	hobResource      = 3
	hobVersion       = 9
	hobSizePHIT      = 56
	hobSizeResource  = 48
	hobAttributes    = 7 // present, initialized, tested
	resourceUnaccept = 7
)

// A ramRange is RAM of one kind.
type ramRange struct {
	start, length uint64
	added         bool // given to the domain before launch, so accepted
}

// tdHOB returns what edk2 measures of the TD HOB that QEMU writes: from its base to the end-of-list block,
// which is not covered (QEMU hw/i386/tdvf-hob.c; edk2 SecTdxHelper.c). Depends on the memory size and on
// where the firmware's TD_HOB and TEMP_MEM sections lie.
func tdHOB(sections []fw.TDSection, memory uint64) ([]byte, error) {
	if memory == 0 || memory%memoryUnit != 0 || memory > maxMemory {
		return nil, fmt.Errorf("memory of %d bytes: want a multiple of 1 MiB up to %d", memory, uint64(maxMemory))
	}
	ram := []ramRange{{0, below4G(memory), false}}
	if high := memory - below4G(memory); high > 0 {
		ram = append(ram, ramRange{fourGiB, high, false})
	}
	base := uint64(0)
	for _, s := range sections {
		switch s.Type {
		case fw.TDBootFirmware, fw.TDConfiguration:
			continue
		case fw.TDHandOff:
			if base != 0 {
				return nil, fmt.Errorf("firmware: two TD_HOB sections, at %#x and %#x", base, s.GPA)
			}
			base = s.GPA
		case fw.TDTempMemory:
		default:
			return nil, fmt.Errorf("firmware: %s section: what the TD HOB says of it is not known here", s.Type)
		}
		var err error
		if ram, err = accept(ram, s); err != nil {
			return nil, err
		}
	}
	if base == 0 {
		return nil, fmt.Errorf("firmware: no TD_HOB section")
	}
	return encodeHOB(ram, base), nil
}

// accept splits the range that a section lies in.
func accept(ram []ramRange, s fw.TDSection) ([]ramRange, error) {
	if s.Size == 0 {
		return ram, nil
	}
	for i, r := range ram {
		if r.added || s.GPA < r.start || s.GPA+s.Size > r.start+r.length {
			continue
		}
		parts := []ramRange{{s.GPA, s.Size, true}}
		if s.GPA > r.start {
			parts = slices.Insert(parts, 0, ramRange{r.start, s.GPA - r.start, false})
		}
		if end := s.GPA + s.Size; end < r.start+r.length {
			parts = append(parts, ramRange{end, r.start + r.length - end, false})
		}
		return slices.Replace(ram, i, i+1, parts...), nil
	}
	return nil, fmt.Errorf("firmware: %s at %#x of %#x bytes is not in the machine's RAM", s.Type, s.GPA, s.Size)
}

// encodeHOB writes the list for the ranges, which are in ascending order.
func encodeHOB(ram []ramRange, base uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, hobSizePHIT, hobSizePHIT+hobSizeResource*len(ram))
	le.PutUint16(b, hobHandoff)
	le.PutUint16(b[2:], hobSizePHIT)
	le.PutUint32(b[8:], hobVersion)
	for _, r := range ram {
		var h [hobSizeResource]byte
		le.PutUint16(h[:], hobResource)
		le.PutUint16(h[2:], hobSizeResource)
		if !r.added {
			le.PutUint32(h[24:], resourceUnaccept)
		}
		le.PutUint32(h[28:], hobAttributes)
		le.PutUint64(h[32:], r.start)
		le.PutUint64(h[40:], r.length)
		b = append(b, h[:]...)
	}
	const endOfList = 8
	le.PutUint64(b[48:], base+uint64(len(b))+endOfList)
	return b
}
