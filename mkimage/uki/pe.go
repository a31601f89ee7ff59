package uki

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Offsets and values of the PE format (Microsoft, "PE Format", revision 2024).
const (
	peOffset   = 0x3c // e_lfanew
	coffSize   = 24   // signature and COFF header
	headerSize = 40   // one section header

	machineAMD64 = 0x8664
	magicPE32P   = 0x20b
	subsystemEFI = 10
	nxCompat     = 0x100

	// Offsets in the PE32+ optional header.
	optInitData   = 8
	optSectAlign  = 32
	optFileAlign  = 36
	optImageSize  = 56
	optHdrSize    = 60
	optCheckSum   = 64
	optSubsystem  = 68
	optDLLChars   = 70
	optDirCount   = 108
	optSecurity   = 112 + 4*8 // data directory 4
	optMinimum    = 112
	maxSections   = 96 // what Windows and EDK2 accept
	maxHeaderSize = 64 << 10
)

// A Section is one section of a PE file.
type Section struct {
	Name string
	Data []byte // VirtualSize bytes, the ones that the stub measures; aliases the file

	index   int    // in the section table
	addr    uint32 // VirtualAddress
	size    uint32 // VirtualSize
	raw     uint32 // PointerToRawData
	rawSize uint32 // SizeOfRawData
}

// An image is a parsed PE32+ file for EFI on x86-64.
type image struct {
	b        []byte
	coff     int // offset of the PE signature
	opt      int // offset of the optional header
	table    int // offset of the section table
	sections []Section
}

// Read returns the sections of an x86-64 EFI application, in the order of its section table.
func Read(file []byte) ([]Section, error) {
	m, err := parse(file)
	if err != nil {
		return nil, err
	}
	return m.sections, nil
}

func parse(b []byte) (*image, error) {
	if len(b) < peOffset+4 || b[0] != 'M' || b[1] != 'Z' {
		return nil, fmt.Errorf("no PE file: want MZ and a DOS header")
	}
	m := &image{b: b}
	le := binary.LittleEndian
	coff := le.Uint32(b[peOffset:])
	if coff > maxHeaderSize || int(coff)+coffSize+optMinimum > len(b) || string(b[coff:coff+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("no PE file: want a PE signature at offset %d", coff)
	}
	m.coff, m.opt = int(coff), int(coff)+coffSize
	if machine := le.Uint16(b[m.coff+4:]); machine != machineAMD64 {
		return nil, fmt.Errorf("PE file for machine %#x: want %#x, x86-64", machine, machineAMD64)
	}
	if magic := le.Uint16(b[m.opt:]); magic != magicPE32P {
		return nil, fmt.Errorf("PE optional header %#x: want %#x, PE32+", magic, magicPE32P)
	}
	if sub := le.Uint16(b[m.opt+optSubsystem:]); sub != subsystemEFI {
		return nil, fmt.Errorf("PE subsystem %d: want %d, EFI application", sub, subsystemEFI)
	}
	optLen := int(le.Uint16(b[m.coff+20:]))
	count := int(le.Uint16(b[m.coff+6:]))
	m.table = m.opt + optLen
	dirs := le.Uint32(b[m.opt+optDirCount:])
	switch {
	case dirs < 5 || dirs > 16 || optLen < optMinimum+int(dirs)*8:
		return nil, fmt.Errorf("PE optional header of %d bytes with %d data directories: want 5 to 16 that fit", optLen, dirs)
	case count < 1 || count > maxSections || m.table+count*headerSize > len(b):
		return nil, fmt.Errorf("PE section table: %d sections: want 1 to %d, in the file", count, maxSections)
	}
	for i := range count {
		s, err := m.section(b[m.table+i*headerSize:])
		if err != nil {
			return nil, err
		}
		s.index = i
		m.sections = append(m.sections, s)
	}
	return m, nil
}

func (m *image) section(h []byte) (Section, error) {
	le := binary.LittleEndian
	s := Section{
		Name: strings.TrimRight(string(h[:8]), "\x00"),
		size: le.Uint32(h[8:]), addr: le.Uint32(h[12:]), rawSize: le.Uint32(h[16:]), raw: le.Uint32(h[20:]),
	}
	if uint64(s.raw)+uint64(s.rawSize) > uint64(len(m.b)) {
		return s, fmt.Errorf("PE section %q: bytes %d to %d of a file of %d", s.Name, s.raw, uint64(s.raw)+uint64(s.rawSize), len(m.b))
	}
	s.Data = m.b[s.raw:][:min(s.size, s.rawSize):min(s.size, s.rawSize)]
	return s, nil
}

func (m *image) u32(off int) uint32 { return binary.LittleEndian.Uint32(m.b[m.opt+off:]) }

// find returns the first section of that name, or nil.
func (m *image) find(name string) *Section {
	for i := range m.sections {
		if m.sections[i].Name == name {
			return &m.sections[i]
		}
	}
	return nil
}
