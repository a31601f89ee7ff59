// Package pe reads the sections and headers of PE files for EFI (Microsoft, "PE Format"): unified kernel
// images, kernels and stubs.
package pe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	coffSize    = 24 // signature and COFF header
	sectionSize = 40
	maxSections = 96
	maxHeaders  = 64 << 10
)

// ErrNone is returned by Parse for bytes that are no PE file.
var ErrNone = errors.New("pe: no MZ header with a PE signature")

// A File is a PE file, taken apart. Everything aliases the bytes that were parsed.
type File struct {
	Headers  []byte // from the start to the end of the section table
	Sections []Section
	Rest     []byte   // what lies behind the last section, e.g. a signature
	Covered  [][]byte // all but CheckSum and signatures: files that agree in it have the same Authenticode digest

	TimeDateStamp, CheckSum, Characteristics uint32
	Machine                                  uint16
}

// A Section is one section. Names need not be unique.
type Section struct {
	Name      string
	Address   uint32 // in memory
	Virtual   uint32 // bytes in memory
	Flags     uint32
	Data      []byte // the bytes in the file that are in use: at most Virtual
	Padding   []byte // the rest of its bytes in the file
	RawOffset uint32
}

// Parse reads a PE32 or PE32+ file.
func Parse(b []byte) (*File, error) {
	if len(b) < 64 || string(b[:2]) != "MZ" {
		return nil, ErrNone
	}
	le := binary.LittleEndian
	coff := int64(le.Uint32(b[60:]))
	if coff > maxHeaders || coff+coffSize > int64(len(b)) || string(b[coff:coff+4]) != "PE\x00\x00" {
		return nil, ErrNone
	}
	f := &File{Machine: le.Uint16(b[coff+4:]), TimeDateStamp: le.Uint32(b[coff+8:]), Characteristics: uint32(le.Uint16(b[coff+22:]))}
	count, optional := int64(le.Uint16(b[coff+6:])), int64(le.Uint16(b[coff+20:]))
	table := coff + coffSize + optional
	end := table + count*sectionSize
	if count == 0 || count > maxSections || end > int64(len(b)) {
		return nil, fmt.Errorf("pe: section table of %d sections: want 1 to %d, in the file", count, maxSections)
	}
	if optional >= 68 {
		f.CheckSum = le.Uint32(b[coff+coffSize+64:])
	}
	f.Headers = b[:end]
	last := end
	for h := b[table:end]; len(h) > 0; h = h[sectionSize:] {
		s, err := section(b, h)
		if err != nil {
			return nil, err
		}
		f.Sections = append(f.Sections, s)
		last = max(last, int64(s.RawOffset)+int64(len(s.Data)+len(s.Padding)))
	}
	f.Rest, f.Covered = b[last:], covered(b, coff+coffSize, table)
	return f, nil
}

// covered leaves out of a PE32+ file what a signature changes: CheckSum, the entry of the certificates, and those
// at the end of the file. Where they are not there, or not as they should be, nothing is left out.
func covered(b []byte, optional, table int64) [][]byte {
	const magic, checkSum, directories, certificates = 0x20b, 64, 108, 112 + 4*8
	le := binary.LittleEndian
	if table-optional < certificates+8 || le.Uint16(b[optional:]) != magic || le.Uint32(b[optional+directories:]) < 5 {
		return [][]byte{b}
	}
	entry := b[optional+certificates:]
	at, size := int64(le.Uint32(entry)), int64(le.Uint32(entry[4:]))
	if size != 0 && (at < table || at+size != int64(len(b))) {
		return [][]byte{b}
	}
	return [][]byte{b[:optional+checkSum], b[optional+checkSum+4 : optional+certificates], b[optional+certificates+8 : int64(len(b))-size]}
}

func section(b, h []byte) (Section, error) {
	le := binary.LittleEndian
	s := Section{Name: strings.TrimRight(string(h[:8]), "\x00"), Virtual: le.Uint32(h[8:]), Address: le.Uint32(h[12:]), RawOffset: le.Uint32(h[20:]), Flags: le.Uint32(h[36:])}
	size := le.Uint32(h[16:])
	if size == 0 {
		s.RawOffset = 0
		return s, nil
	}
	if uint64(s.RawOffset)+uint64(size) > uint64(len(b)) {
		return s, fmt.Errorf("pe: section %q: bytes %d to %d of a file of %d", s.Name, s.RawOffset, uint64(s.RawOffset)+uint64(size), len(b))
	}
	raw := b[s.RawOffset:][:size]
	used := min(s.Virtual, size)
	s.Data, s.Padding = raw[:used:used], raw[used:]
	return s, nil
}
