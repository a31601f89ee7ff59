// Package fw reads the tables that OVMF and TDVF firmware carry for whoever loads and measures it.
//
// A GUIDed table ends 32 bytes before the end of the file (edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm):
//
//	… [data][u16 length][GUID] … [data][u16 length][GUID] [u16 total length][footer GUID] 32 bytes EOF
//
// Lengths include the 18 bytes of length and GUID; entries are walked backward. All integers are
// little-endian, GUIDs in the mixed-endian form of UEFI.
//
// The SEV metadata table (OvmfPkg/Include/IndustryStandard/…, "ASEV") lists what a VMM puts into memory
// before launch; it is found by its offset from the end of the file.
package fw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// PageSize is the unit of every size here, in bytes.
const PageSize = 4096

// MaxSize is the largest firmware read, in bytes; maxSections bounds the metadata table.
const (
	MaxSize     = 64 << 20
	maxSections = 256
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
)

// A SectionType says what a VMM does with a metadata section before launch.
type SectionType uint32

// Section types (edk2 OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const (
	SecMem       SectionType = 1
	SecSecrets   SectionType = 2
	SecCPUID     SectionType = 3
	SecSVSMCAA   SectionType = 4
	SecKernelHsh SectionType = 0x10
)

func (t SectionType) String() string {
	switch t {
	case SecMem:
		return "SEC_MEM"
	case SecSecrets:
		return "SECRETS"
	case SecCPUID:
		return "CPUID"
	case SecSVSMCAA:
		return "SVSM_CAA"
	case SecKernelHsh:
		return "KERNEL_HASHES"
	}
	return fmt.Sprintf("type %#x", uint32(t))
}

// A Section is one range of guest memory that the metadata names.
type Section struct {
	GPA  uint32 // guest physical address, page-aligned
	Size uint32 // bytes, a multiple of PageSize; 0 is legal and means nothing
	Type SectionType
}

// OVMF is what the tables of a firmware say.
type OVMF struct {
	Size          int64     // bytes of the file
	HasSEV        bool      // there is a SEV metadata table
	Sections      []Section // in table order
	HashTableGPA  uint32    // where the VMM puts the kernel hashes; 0 when the firmware does not check them
	HashTableSize uint32    // bytes set aside there
	HasResetEIP   bool      //
	ResetEIP      uint32    // where application processors start under SEV-ES and SNP
}

// Parse reads the tables of a firmware image given whole. Unknown GUIDs are skipped (the format allows
// them), anything malformed in what is known is an error.
func Parse(b []byte) (*OVMF, error) {
	switch {
	case len(b) == 0 || len(b)%PageSize != 0:
		return nil, fmt.Errorf("firmware: %d bytes, want a multiple of %d", len(b), PageSize)
	case len(b) > MaxSize:
		return nil, fmt.Errorf("firmware: %d bytes, want at most %d", len(b), MaxSize)
	}
	o := &OVMF{Size: int64(len(b))}
	entries, err := guidTable(b)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
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
	if d, ok := entries[parseGUID(guidSEVMeta)]; ok {
		o.HasSEV = true
		if o.Sections, err = sevMetadata(b, d); err != nil {
			return nil, fmt.Errorf("firmware: SEV metadata: %w", err)
		}
	}
	return o, nil
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
func guidTable(b []byte) (map[guid][]byte, error) {
	end := len(b) - tailSize
	if !bytes.Equal(b[end-16:end], sliceOf(parseGUID(guidFooter))) {
		return nil, fmt.Errorf("no GUIDed table: no footer at byte %d: not an OVMF image (or only its variable store?)", end-16)
	}
	total := int(binary.LittleEndian.Uint16(b[end-entryHeader:]))
	if total < entryHeader || total > end {
		return nil, fmt.Errorf("GUIDed table of %d bytes, want %d to %d", total, entryHeader, end)
	}
	entries := map[guid][]byte{}
	table := b[end-total : end-entryHeader]
	for len(table) > 0 {
		if len(table) < entryHeader {
			return nil, fmt.Errorf("GUIDed table: %d stray bytes at byte %d", len(table), end-total)
		}
		head := len(table) - entryHeader
		size := int(binary.LittleEndian.Uint16(table[head:]))
		if size < entryHeader || size > len(table) {
			return nil, fmt.Errorf("GUIDed table: entry before byte %d has length %d, want %d to %d", end-total+len(table), size, entryHeader, len(table))
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

// sevMetadata reads the ASEV table that the entry d points to.
func sevMetadata(b, d []byte) ([]Section, error) {
	if len(d) != 4 {
		return nil, fmt.Errorf("entry of %d bytes, want 4", len(d))
	}
	back := int64(binary.LittleEndian.Uint32(d))
	start := int64(len(b)) - back
	if start < 0 || back < asevHeader {
		return nil, fmt.Errorf("offset %d from the end, want %d to %d", back, asevHeader, len(b))
	}
	t := b[start:]
	size, version, count := binary.LittleEndian.Uint32(t[4:]), binary.LittleEndian.Uint32(t[8:]), binary.LittleEndian.Uint32(t[12:])
	switch {
	case string(t[:4]) != "ASEV":
		return nil, fmt.Errorf("signature %q at byte %d, want \"ASEV\"", t[:4], start)
	case version != 1:
		return nil, fmt.Errorf("version %d, want 1", version)
	case count > maxSections:
		return nil, fmt.Errorf("%d sections, want at most %d", count, maxSections)
	case int64(size) != asevHeader+asevSection*int64(count) || int64(size) > back:
		return nil, fmt.Errorf("length %d with %d sections, want %d within %d bytes", size, count, asevHeader+asevSection*int64(count), back)
	}
	sections := make([]Section, count)
	for i := range sections {
		r := t[asevHeader+asevSection*i:]
		s := Section{binary.LittleEndian.Uint32(r), binary.LittleEndian.Uint32(r[4:]), SectionType(binary.LittleEndian.Uint32(r[8:]))}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		sections[i] = s
	}
	return sections, overlap(sections)
}

func (s Section) check() error {
	switch s.Type {
	case SecMem, SecSecrets, SecCPUID, SecSVSMCAA, SecKernelHsh:
	default:
		return fmt.Errorf("unknown type %#x", uint32(s.Type))
	}
	if s.GPA%PageSize != 0 || s.Size%PageSize != 0 || uint64(s.GPA)+uint64(s.Size) > 1<<32 {
		return fmt.Errorf("%s at %#x of %#x bytes: want whole pages below 4 GiB", s.Type, s.GPA, s.Size)
	}
	return nil
}

// overlap refuses sections that share a page: no VMM can launch them, and what is measured last would
// hide what is measured first.
func overlap(sections []Section) error {
	for i, a := range sections {
		for _, b := range sections[:i] {
			if a.Size > 0 && b.Size > 0 && uint64(a.GPA) < uint64(b.GPA)+uint64(b.Size) && uint64(b.GPA) < uint64(a.GPA)+uint64(a.Size) {
				return errors.New("sections " + b.Type.String() + " and " + a.Type.String() + " overlap")
			}
		}
	}
	return nil
}
