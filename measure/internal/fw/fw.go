// Package fw reads the tables that OVMF and TDVF firmware carry for whoever loads and measures it.
//
// A GUIDed table ends 32 bytes before the end of the file (edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm):
//
//	… [data][u16 length][GUID] … [data][u16 length][GUID] [u16 total length][footer GUID] 32 bytes EOF
//
// Lengths include the 18 bytes of length and GUID; entries are walked backward. All integers are
// little-endian, GUIDs in the mixed-endian form of UEFI.
//
// The SEV metadata table ("ASEV", OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm) and the TDX one ("TDVF",
// IntelTdxMetadata.asm) list what a VMM puts into memory before launch; each is found by its offset from
// the end of the file.
package fw

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// PageSize is the unit of every size here, in bytes.
const PageSize = 4096

// Limits, in bytes and entries. No real firmware comes near one.
const (
	MaxSize     = 64 << 20 // of a firmware
	MaxMemory   = 64 << 20 // that the sections of its metadata name
	MaxSections = 256      // of its metadata
)

const (
	tailSize    = 32 // bytes after the GUIDed table
	entryHeader = 18 // u16 length and GUID
	asevHeader  = 16 // "ASEV", length, version, count
	asevSection = 12 // gpa, length, type
)

// GUIDs of the table, as text; see parseGUID for their form in the file.
const (
	guidFooter    = "96b582de-1fb2-45f7-baea-a366c55a082d"
	guidHashTable = "7255371f-3a3b-4b04-927b-1da6efa8d454"
	guidESReset   = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
	guidSEVMeta   = "dc886566-984a-4798-a75e-5585a7bf67cc"
	guidSVSMInfo  = "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"
)

// OVMF is what the tables of a firmware say.
type OVMF struct {
	Size          int64     // bytes of the file
	HasSEV        bool      // there is a SEV metadata table
	Sections      []Section // in table order
	HashTableGPA  uint32    // where the VMM puts the kernel hashes; 0 when the firmware does not check them
	HashTableSize uint32    // bytes set aside there
	HasResetEIP   bool      //
	ResetEIP      uint32    // where application processors start under SEV-ES and SNP
	HasSVSM       bool      // there is an SVSM_INFO entry: this is an SVSM
	SVSMEntry     uint32    // where it starts, counted from its first byte
}

// Parse reads the tables of a firmware image given whole; see [Read].
func Parse(b []byte) (*OVMF, error) { return Read(bytes.NewReader(b), int64(len(b))) }

// Read reads what SEV takes from the tables of a firmware image of size bytes (whole pages, at most MaxSize). Unknown GUIDs
// are skipped (the format allows them), anything malformed in what is known is an error.
func Read(r io.ReaderAt, size int64) (*OVMF, error) { return ReadBelow(r, size, 1<<32) }

// ReadBelow reads an image that ends at the guest physical address top, such as an SVSM under the firmware.
func ReadBelow(r io.ReaderAt, size int64, top uint64) (*OVMF, error) {
	if top > 1<<32 || uint64(size) > top {
		return nil, fmt.Errorf("firmware: %d bytes below %#x do not fit", size, top)
	}
	f, entries, err := open(r, size)
	if err != nil {
		return nil, err
	}
	o := &OVMF{Size: size}
	if d, ok := entries[parseGUID(guidHashTable)]; ok {
		if len(d) != 8 {
			return nil, fmt.Errorf("firmware: hash table entry of %d bytes, want 8", len(d))
		}
		o.HashTableGPA, o.HashTableSize = binary.LittleEndian.Uint32(d), binary.LittleEndian.Uint32(d[4:])
	}
	if d, ok := entries[parseGUID(guidESReset)]; ok {
		if len(d) != 4 {
			return nil, fmt.Errorf("firmware: reset block entry of %d bytes, want 4", len(d))
		}
		o.HasResetEIP, o.ResetEIP = true, binary.LittleEndian.Uint32(d)
	}
	if d, ok := entries[parseGUID(guidSVSMInfo)]; ok {
		if len(d) < 4 {
			return nil, fmt.Errorf("firmware: SVSM_INFO entry of %d bytes, want at least 4", len(d))
		}
		if o.HasSVSM, o.SVSMEntry = true, binary.LittleEndian.Uint32(d); int64(o.SVSMEntry) >= size {
			return nil, fmt.Errorf("firmware: SVSM_INFO: start at byte %#x of %#x", o.SVSMEntry, size)
		}
	}
	if d, ok := entries[parseGUID(guidSEVMeta)]; ok {
		o.HasSEV = true
		if o.Sections, err = f.sevMetadata(d); err != nil {
			return nil, fmt.Errorf("firmware: SEV metadata: %w", err)
		}
		if err := CheckSections(o.Sections, 1<<32-top+uint64(size)); err != nil {
			return nil, fmt.Errorf("firmware: SEV metadata: %w", err)
		}
	}
	return o, nil
}

// open reads the GUIDed table of a firmware image.
func open(r io.ReaderAt, size int64) (*file, map[guid][]byte, error) {
	switch {
	case size <= 0 || size%PageSize != 0:
		return nil, nil, fmt.Errorf("firmware: %d bytes, want a multiple of %d", size, PageSize)
	case size > MaxSize:
		return nil, nil, fmt.Errorf("firmware: %d bytes, want at most %d", size, MaxSize)
	}
	f := &file{r, size}
	entries, err := f.guidTable()
	if err != nil {
		return nil, nil, fmt.Errorf("firmware: %w", err)
	}
	return f, entries, nil
}

// A file is a firmware image being read.
type file struct {
	r    io.ReaderAt
	size int64
}

// at returns n bytes at off, which the caller has checked to lie inside.
func (f *file) at(off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := f.r.ReadAt(b, off); got < n {
		return nil, fmt.Errorf("%d bytes at byte %d: %w", n, off, err)
	}
	return b, nil
}

type guid [16]byte

// parseGUID turns the text form of a constant into the bytes of the file: the first three groups
// little-endian.
func parseGUID(s string) guid {
	var a uint32
	var b, c, d uint16
	var e uint64
	if _, err := fmt.Sscanf(s, "%08x-%04x-%04x-%04x-%012x", &a, &b, &c, &d, &e); err != nil {
		panic("fw: bad GUID constant " + s)
	}
	var g guid
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	binary.BigEndian.PutUint16(g[8:], d)
	g[10], g[11] = byte(e>>40), byte(e>>32)
	binary.BigEndian.PutUint32(g[12:], uint32(e))
	return g
}

// guidTable returns the data of each entry of the GUIDed table.
func (f *file) guidTable() (map[guid][]byte, error) {
	end := f.size - tailSize
	foot, err := f.at(end-entryHeader, entryHeader)
	if err != nil {
		return nil, err
	}
	if guid(foot[2:]) != parseGUID(guidFooter) {
		return nil, fmt.Errorf("no GUIDed table: no footer at byte %d: not an OVMF image (or only its variable store?)", end-16)
	}
	total := int64(binary.LittleEndian.Uint16(foot))
	if total < entryHeader || total > end {
		return nil, fmt.Errorf("GUIDed table of %d bytes, want %d to %d", total, entryHeader, end)
	}
	table, err := f.at(end-total, int(total)-entryHeader)
	if err != nil {
		return nil, err
	}
	return walk(table, end-total)
}

// walk splits the entries of a GUIDed table that starts at byte base, from its end.
func walk(table []byte, base int64) (map[guid][]byte, error) {
	entries := map[guid][]byte{}
	for len(table) > 0 {
		if len(table) < entryHeader {
			return nil, fmt.Errorf("GUIDed table: %d stray bytes at byte %d", len(table), base)
		}
		head := len(table) - entryHeader
		size := int(binary.LittleEndian.Uint16(table[head:]))
		if size < entryHeader || size > len(table) {
			return nil, fmt.Errorf("GUIDed table: entry before byte %d has length %d, want %d to %d", base+int64(len(table)), size, entryHeader, len(table))
		}
		id := guid(table[head+2:])
		if _, twice := entries[id]; twice {
			return nil, fmt.Errorf("GUIDed table: entry %x twice", id)
		}
		entries[id] = table[len(table)-size : head]
		table = table[:len(table)-size]
	}
	return entries, nil
}

func sliceOf(g guid) []byte { return g[:] }

// table finds the metadata table that the entry d points to: signature, u32 length, u32 version, u32 count
// and count entries. It returns where it starts and the count.
func (f *file) table(d []byte, signature string, header, entry int64) (start int64, count int, err error) {
	if len(d) != 4 {
		return 0, 0, fmt.Errorf("entry of %d bytes, want 4", len(d))
	}
	back := int64(binary.LittleEndian.Uint32(d))
	start = f.size - back
	if start < 0 || back < header {
		return 0, 0, fmt.Errorf("offset %d from the end, want %d to %d", back, header, f.size)
	}
	t, err := f.at(start, int(header))
	if err != nil {
		return 0, 0, err
	}
	size, version, n := binary.LittleEndian.Uint32(t[4:]), binary.LittleEndian.Uint32(t[8:]), binary.LittleEndian.Uint32(t[12:])
	want := header + entry*int64(n)
	switch {
	case string(t[:4]) != signature:
		return 0, 0, fmt.Errorf("signature %q at byte %d, want %q", t[:4], start, signature)
	case version != 1:
		return 0, 0, fmt.Errorf("version %d, want 1", version)
	case n > MaxSections:
		return 0, 0, fmt.Errorf("%d sections, want at most %d", n, MaxSections)
	case int64(size) != want || want > back:
		return 0, 0, fmt.Errorf("length %d with %d sections, want %d within %d bytes", size, n, want, back)
	}
	return start, int(n), nil
}

// sevMetadata reads the ASEV table that the entry d points to.
func (f *file) sevMetadata(d []byte) ([]Section, error) {
	start, count, err := f.table(d, "ASEV", asevHeader, asevSection)
	if err != nil {
		return nil, err
	}
	t, err := f.at(start+asevHeader, asevSection*count)
	if err != nil {
		return nil, err
	}
	sections := make([]Section, count)
	for i := range sections {
		r := t[asevSection*i:]
		sections[i] = Section{binary.LittleEndian.Uint32(r), binary.LittleEndian.Uint32(r[4:]), SectionType(binary.LittleEndian.Uint32(r[8:]))}
	}
	return sections, nil
}
