package fw

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

// image builds a firmware of one page with the given entries; sections go into an ASEV table.
func image(sections []Section) []byte {
	b := make([]byte, PageSize)
	le := binary.LittleEndian
	meta := 1024 // bytes from the end
	m := b[len(b)-meta:]
	copy(m, "ASEV")
	le.PutUint32(m[4:], uint32(asevHeader+asevSection*len(sections)))
	le.PutUint32(m[8:], 1)
	le.PutUint32(m[12:], uint32(len(sections)))
	for i, s := range sections {
		r := m[asevHeader+asevSection*i:]
		le.PutUint32(r, s.GPA)
		le.PutUint32(r[4:], s.Size)
		le.PutUint32(r[8:], uint32(s.Type))
	}
	end := len(b) - tailSize - entryHeader
	put := func(data []byte, id string) {
		end -= len(data) + entryHeader
		copy(b[end:], data)
		le.PutUint16(b[end+len(data):], uint16(len(data)+entryHeader))
		copy(b[end+len(data)+2:], sliceOf(parseGUID(id)))
	}
	put(le.AppendUint32(nil, uint32(meta)), guidSEVMeta)
	put(le.AppendUint32(nil, 0x80b004), guidESReset)
	put(le.AppendUint32(le.AppendUint32(nil, 0x810c00), 1024), guidHashTable)
	foot := len(b) - tailSize - entryHeader
	le.PutUint16(b[foot:], uint16(len(b)-tailSize-end))
	copy(b[foot+2:], sliceOf(parseGUID(guidFooter)))
	return b
}

var sections = []Section{{0x800000, 0x9000, SecMem}, {0x80d000, 0x1000, SecSecrets}, {0x80e000, 0, SecCPUID}, {0x810000, 0x1000, SecKernelHsh}}

func TestParse(t *testing.T) {
	o, err := Parse(image(sections))
	if err != nil {
		t.Fatal(err)
	}
	if !o.HasSEV || !o.HasResetEIP || o.ResetEIP != 0x80b004 || o.HashTableGPA != 0x810c00 || o.HashTableSize != 1024 || len(o.Sections) != 4 {
		t.Errorf("read %+v", o)
	}
	for i, s := range o.Sections {
		if s != sections[i] {
			t.Errorf("section %d: %+v, want %+v", i, s, sections[i])
		}
	}
}

func TestRefusals(t *testing.T) {
	le := binary.LittleEndian
	foot := PageSize - tailSize - entryHeader
	meta := PageSize - 1024
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":              {func(b []byte) []byte { return nil }, "0 bytes"},
		"odd size":           {func(b []byte) []byte { return b[:4095] }, "4095 bytes, want a multiple"},
		"no footer":          {func(b []byte) []byte { b[foot+2] ^= 1; return b }, "no footer at byte 4048"},
		"table too long":     {func(b []byte) []byte { le.PutUint16(b[foot:], 0xffff); return b }, "GUIDed table of 65535 bytes"},
		"table too short":    {func(b []byte) []byte { le.PutUint16(b[foot:], 17); return b }, "GUIDed table of 17 bytes"},
		"stray bytes":        {func(b []byte) []byte { le.PutUint16(b[foot:], 18+22+5); return b }, "stray bytes"},
		"entry length zero":  {func(b []byte) []byte { le.PutUint16(b[foot-18:], 0); return b }, "has length 0"},
		"entry length huge":  {func(b []byte) []byte { le.PutUint16(b[foot-18:], 5000); return b }, "has length 5000"},
		"offset past start":  {func(b []byte) []byte { le.PutUint32(b[foot-22:], 5000); return b }, "offset 5000"},
		"offset in table":    {func(b []byte) []byte { le.PutUint32(b[foot-22:], 3); return b }, "offset 3"},
		"signature":          {func(b []byte) []byte { b[meta] = 'X'; return b }, "signature \"XSEV\" at byte 3072"},
		"version":            {func(b []byte) []byte { b[meta+8] = 2; return b }, "version 2"},
		"count":              {func(b []byte) []byte { le.PutUint32(b[meta+12:], 1<<31); return b }, "sections, want at most"},
		"length":             {func(b []byte) []byte { b[meta+4]++; return b }, "length 65 with 4 sections"},
		"section type":       {func(b []byte) []byte { b[meta+24] = 7; return b }, "section 0: unknown type 0x7"},
		"section unaligned":  {func(b []byte) []byte { b[meta+16] = 1; return b }, "whole pages"},
		"section past 4 GiB": {func(b []byte) []byte { le.PutUint32(b[meta+20:], 0xfffff000); return b }, "below 0xfffff000"},
		"over the firmware":  {func(b []byte) []byte { le.PutUint32(b[meta+16:], 0xffff7000); return b }, "below 0xfffff000"},
		"too much memory":    {func(b []byte) []byte { le.PutUint32(b[meta+44:], 0x4001000); return b }, "more than 67108864 bytes of sections"},
		"second secrets":     {func(b []byte) []byte { le.PutUint32(b[meta+16+8:], 2); return b }, "a second SECRETS"},
		"overlap":            {func(b []byte) []byte { le.PutUint32(b[meta+20:], 0xe000); return b }, "SECRETS at 0x80d000 overlaps SEC_MEM at 0x800000"},
	} {
		if o, err := Parse(c.change(image(sections))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, o, err, c.want)
		}
	}
	if _, err := Read(shrunk{}, MaxSize+PageSize); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("firmware over the cap: error %v", err)
	}
}

// shrunk is a file that lost its bytes after its size was read.
type shrunk struct{}

func (shrunk) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

func TestReadFailures(t *testing.T) {
	if o, err := Read(shrunk{}, PageSize); err == nil {
		t.Errorf("a file that shrank: %+v", o)
	}
	whole := image(sections)
	for n := range (PageSize - tailSize) / 16 { // the last bytes hold no table
		if o, err := Read(bytes.NewReader(whole[:n*16]), PageSize); err == nil {
			t.Errorf("the first %d bytes: %+v", n*16, o)
		}
	}
	many := make([]Section, MaxSections+1)
	for i := range many {
		many[i].Type = SecMem
	}
	if err := CheckSections(many, PageSize); err == nil || !strings.Contains(err.Error(), "257 sections") {
		t.Errorf("error %v", err)
	}
}

func TestDuplicateEntry(t *testing.T) {
	b := image(sections)
	// The second entry from the end becomes another metadata entry (both have 4 bytes).
	foot := PageSize - tailSize - entryHeader
	copy(b[foot-22-16:], sliceOf(parseGUID(guidSEVMeta)))
	if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(image(sections))
	f.Add(image(nil))
	f.Add(make([]byte, PageSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := Parse(b)
		if err != nil {
			return
		}
		total := int64(0)
		for i, s := range o.Sections {
			total += int64(s.Size)
			for _, other := range o.Sections[:i] {
				if lo, hi := max(s.GPA, other.GPA), min(s.GPA+s.Size, other.GPA+other.Size); lo < hi && s.Size > 0 && other.Size > 0 {
					t.Errorf("accepted %+v and %+v: they share %#x to %#x", s, other, lo, hi)
				}
			}
		}
		if total > MaxMemory || len(o.Sections) > MaxSections {
			t.Errorf("accepted %d sections of %d bytes", len(o.Sections), total)
		}
	})
}

// TestEntries: entries of a known GUID have their size, and an SVSM starts inside itself.
func TestEntries(t *testing.T) {
	table := func(data []byte, id string) []byte {
		b, le := make([]byte, PageSize), binary.LittleEndian
		foot := len(b) - tailSize - entryHeader
		at := foot - entryHeader - len(data)
		copy(b[at:], data)
		le.PutUint16(b[at+len(data):], uint16(len(data)+entryHeader))
		copy(b[at+len(data)+2:], sliceOf(parseGUID(id)))
		le.PutUint16(b[foot:], uint16(len(data)+2*entryHeader))
		copy(b[foot+2:], sliceOf(parseGUID(guidFooter)))
		return b
	}
	for _, c := range []struct{ id, data, want string }{
		{guidHashTable, "\x00\x10\x00\x00\x00\x04\x00\x00", ""},
		{guidHashTable, "\x00\x10\x00\x00", "hash table entry of 4 bytes"},
		{guidHashTable, "\x00\x10\x00\x00\x00\x04\x00\x00\x00", "hash table entry of 9 bytes"},
		{guidESReset, "\x00\x10\x00\x00", ""},
		{guidESReset, "\x00\x10\x00", "reset block entry of 3 bytes"},
		{guidESReset, "\x00\x10\x00\x00\x00", "reset block entry of 5 bytes"},
		{guidSEVMeta, "\x00\x10\x00\x00\x00", "entry of 5 bytes"},
		{guidSVSMInfo, "\xff\x0f\x00\x00", ""},
		{guidSVSMInfo, "\x00\x10\x00\x00", "start at byte 0x1000 of 0x1000"},
		{guidSVSMInfo, "\xff\x0f\x00", "SVSM_INFO entry of 3 bytes"},
	} {
		o, err := Parse(table([]byte(c.data), c.id))
		if c.want == "" && (err != nil || o.HashTableSize+o.ResetEIP+o.SVSMEntry == 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %+v, %v; want %q", c.id, o, err, c.want)
		}
	}
	image := table([]byte("\x00\x10\x00\x00"), guidESReset)
	for top, want := range map[uint64]string{1 << 32: "", PageSize: "", PageSize - 1: "do not fit", 1<<32 + 1: "do not fit"} {
		if _, err := ReadBelow(bytes.NewReader(image), PageSize, top); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("below %#x: %v, want %q", top, err, want)
		}
	}
}
