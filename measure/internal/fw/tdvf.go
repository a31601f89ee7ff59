package fw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	guidTDXMeta  = "e47a6535-984a-4798-865e-4685a7bf8ec2"
	tdvfHeader   = 16 // "TDVF", length, version, count
	tdvfSection  = 32
	maxTDAddress = 1 << 52
)

// A TDType says what a TDVF section is (Intel TDX Virtual Firmware Design Guide, section 11.2).
type TDType uint32

// Section types.
const (
	TDBootFirmware  TDType = 0 // BFV
	TDConfiguration TDType = 1 // CFV, the variable store
	TDHandOff       TDType = 2 // TD_HOB
	TDTempMemory    TDType = 3
	TDPermMemory    TDType = 4
	TDPayload       TDType = 5
	TDPayloadParam  TDType = 6
	TDInfo          TDType = 7
)

// String returns the TDVF design guide's name.
func (t TDType) String() string {
	names := [...]string{"BFV", "CFV", "TD_HOB", "TEMP_MEM", "PERM_MEM", "PAYLOAD", "PAYLOAD_PARAM", "TD_INFO"}
	if int64(t) < int64(len(names)) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Attributes of a TDVF section.
const (
	TDExtend  = 1 << 0 // contents enter MRTD
	TDPageAug = 1 << 1 // pages are added after launch and enter nothing
)

// A TDSection is one range of a trust domain's memory, with its initial contents.
type TDSection struct {
	Offset  uint32 // of its contents in the file
	RawSize uint32 // bytes of contents; the rest of the memory is zero
	GPA     uint64 // guest physical address, page-aligned
	Size    uint64 // bytes of memory, a multiple of PageSize; 0 is legal and means nothing
	Type    TDType
	Attr    uint32 // TDExtend, TDPageAug or neither
}

// ReadTDVF reads the TDX metadata of a firmware image of size bytes (whole pages, at most MaxSize). A
// firmware without it cannot start a trust domain and is an error.
func ReadTDVF(r io.ReaderAt, size int64) ([]TDSection, error) {
	f, entries, err := open(r, size)
	if err != nil {
		return nil, err
	}
	d, ok := entries[parseGUID(guidTDXMeta)]
	if !ok {
		return nil, errors.New("firmware: no TDVF metadata table: not built for TDX")
	}
	sections, err := f.tdvfMetadata(d)
	if err != nil {
		return nil, fmt.Errorf("firmware: TDVF metadata: %w", err)
	}
	return sections, nil
}

// tdvfMetadata reads the TDVF table that the entry d points to.
func (f *file) tdvfMetadata(d []byte) ([]TDSection, error) {
	start, count, err := f.table(d, "TDVF", tdvfHeader, tdvfSection)
	if err != nil {
		return nil, err
	}
	t, err := f.at(start+tdvfHeader, tdvfSection*count)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sections := make([]TDSection, count)
	total := uint64(0)
	for i := range sections {
		r := t[tdvfSection*i:]
		s := TDSection{le.Uint32(r), le.Uint32(r[4:]), le.Uint64(r[8:]), le.Uint64(r[16:]), TDType(le.Uint32(r[24:])), le.Uint32(r[28:])}
		if err := s.check(f.size); err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		if s.Attr&TDPageAug == 0 {
			if total += s.Size; total > MaxSize+MaxMemory {
				return nil, fmt.Errorf("section %d: more than %d bytes of sections", i, MaxSize+MaxMemory)
			}
		}
		for _, b := range sections[:i] {
			if s.Size > 0 && b.Size > 0 && s.GPA < b.GPA+b.Size && b.GPA < s.GPA+s.Size {
				return nil, fmt.Errorf("section %d: %s at %#x overlaps %s at %#x", i, s.Type, s.GPA, b.Type, b.GPA)
			}
		}
		sections[i] = s
	}
	return sections, nil
}

func (s TDSection) check(size int64) error {
	switch {
	case s.Type > TDInfo:
		return fmt.Errorf("unknown %s", s.Type)
	case s.Attr&^(TDExtend|TDPageAug) != 0 || s.Attr == TDExtend|TDPageAug:
		return fmt.Errorf("%s: attributes %#x, want 0, 1 (extend) or 2 (page aug)", s.Type, s.Attr)
	case s.GPA%PageSize != 0 || s.Size%PageSize != 0 || s.GPA > maxTDAddress || s.Size > maxTDAddress-s.GPA:
		return fmt.Errorf("%s at %#x of %#x bytes: want whole pages below %#x", s.Type, s.GPA, s.Size, uint64(maxTDAddress))
	case uint64(s.RawSize) > s.Size || int64(s.Offset)+int64(s.RawSize) > size:
		return fmt.Errorf("%s: %#x bytes at %#x of the file, want them inside its %d bytes and the section's %#x", s.Type, s.RawSize, s.Offset, size, s.Size)
	case s.RawSize == 0 && s.Attr&TDExtend != 0:
		return fmt.Errorf("%s: to be measured, but without contents", s.Type)
	}
	return nil
}
