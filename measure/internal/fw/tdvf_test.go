package fw

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// tdImage builds a firmware of two pages with TDVF metadata.
func tdImage(sections []TDSection) []byte {
	b := make([]byte, 2*PageSize)
	le := binary.LittleEndian
	meta := 1024
	m := b[len(b)-meta:]
	copy(m, "TDVF")
	le.PutUint32(m[4:], uint32(tdvfHeader+tdvfSection*len(sections)))
	le.PutUint32(m[8:], 1)
	le.PutUint32(m[12:], uint32(len(sections)))
	for i, s := range sections {
		r := m[tdvfHeader+tdvfSection*i:]
		le.PutUint32(r, s.Offset)
		le.PutUint32(r[4:], s.RawSize)
		le.PutUint64(r[8:], s.GPA)
		le.PutUint64(r[16:], s.Size)
		le.PutUint32(r[24:], uint32(s.Type))
		le.PutUint32(r[28:], s.Attr)
	}
	foot := len(b) - tailSize - entryHeader
	le.PutUint32(b[foot-22:], uint32(meta))
	le.PutUint16(b[foot-18:], 22)
	copy(b[foot-16:], sliceOf(parseGUID(guidTDXMeta)))
	le.PutUint16(b[foot:], 40)
	copy(b[foot+2:], sliceOf(parseGUID(guidFooter)))
	return b
}

var tdSections = []TDSection{
	{Offset: 0, RawSize: 0x2000, GPA: 0xffffe000, Size: 0x2000, Type: TDBootFirmware, Attr: TDExtend},
	{GPA: 0x809000, Size: 0x2000, Type: TDHandOff},
	{GPA: 0x800000, Type: TDTempMemory},
	{GPA: 1 << 32, Size: 1 << 40, Type: TDPermMemory, Attr: TDPageAug},
}

func TestReadTDVF(t *testing.T) {
	b := tdImage(tdSections)
	got, err := ReadTDVF(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(got) != len(tdSections) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, s := range got {
		if s != tdSections[i] {
			t.Errorf("section %d: %+v, want %+v", i, s, tdSections[i])
		}
	}
}

func TestTDVFRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s []TDSection)
		want   string
	}{
		"type":         {func(s []TDSection) { s[1].Type = 8 }, "section 1: unknown type 8"},
		"attribute":    {func(s []TDSection) { s[1].Attr = 4 }, "attributes 0x4"},
		"both":         {func(s []TDSection) { s[1].Attr = 3 }, "attributes 0x3"},
		"unaligned":    {func(s []TDSection) { s[1].GPA++ }, "whole pages"},
		"odd size":     {func(s []TDSection) { s[1].Size++ }, "whole pages"},
		"wraps":        {func(s []TDSection) { s[1].Size = 1<<64 - PageSize }, "whole pages"},
		"far":          {func(s []TDSection) { s[1].GPA = 1 << 60 }, "whole pages"},
		"past the end": {func(s []TDSection) { s[0].Offset = 1 }, "want them inside its 8192 bytes"},
		"raw too long": {func(s []TDSection) { s[0].Size = PageSize }, "the section's 0x1000"},
		"no contents":  {func(s []TDSection) { s[1].Attr = TDExtend }, "without contents"},
		"overlap":      {func(s []TDSection) { s[1].GPA = 0xfffff000 }, "TD_HOB at 0xfffff000 overlaps BFV"},
		"much":         {func(s []TDSection) { s[1].GPA, s[1].Size = 1<<44, 1<<30 }, "bytes of sections"},
	} {
		s := append([]TDSection{}, tdSections...)
		c.change(s)
		b := tdImage(s)
		if got, err := ReadTDVF(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.want)
		}
	}
	b := image(sections)
	if _, err := ReadTDVF(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "not built for TDX") {
		t.Errorf("an SEV firmware: error %v", err)
	}
	if _, err := ReadTDVF(bytes.NewReader(b), 5); err == nil {
		t.Error("odd size: no error")
	}
}

func FuzzReadTDVF(f *testing.F) {
	f.Add(tdImage(tdSections))
	f.Add(tdImage(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadTDVF(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		total := uint64(0)
		for _, s := range got {
			if int64(s.Offset)+int64(s.RawSize) > int64(len(b)) {
				t.Errorf("accepted contents past the end: %+v", s)
			}
			if s.Attr&TDPageAug == 0 {
				total += s.Size
			}
		}
		if total > MaxSize+MaxMemory {
			t.Errorf("accepted %d bytes of sections", total)
		}
	})
}
