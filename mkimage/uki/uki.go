// Package uki assembles a unified kernel image: the systemd stub with the kernel, initrd, command line and
// names appended as PE sections (UAPI Group specification 5).
//
// The bytes are those of ukify 257 for the same parts: sections in the order .osrel, .cmdline, .uname,
// .linux, .initrd, each from the next multiple of the stub's file alignment and section alignment on,
// VirtualSize the exact length; SizeOfInitializedData grown by every length, SizeOfImage by the last
// address, CheckSum zero, TimeDateStamp the stub's. The stub's .sbat is rewritten in place with the lines
// of stub, kernel and image. The stub's NX flag goes when the kernel has none.
package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Sections are the parts of a unified kernel image. Linux is required; an empty part gets no section.
type Sections struct {
	OSRelease []byte // .osrel: os-release text
	Cmdline   []byte // .cmdline: without trailing newline or NUL
	Uname     []byte // .uname: the kernel release
	Linux     []byte // .linux: the kernel, a PE file itself
	Initrd    []byte // .initrd: cpio
	SBAT      []byte // lines for .sbat after those of stub and kernel, its header line first; empty: as ukify has it
}

// defaultSBAT is what ukify adds when it is given nothing.
const (
	sbatHeader  = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	defaultSBAT = sbatHeader + "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n"
)

// reserved are the sections that make a stub a UKI already.
var reserved = []string{
	".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".ucode", ".splash", ".dtb", ".dtbauto", ".hwids",
	".pcrpkey", ".pcrsig", ".profile", ".efifw",
}

type part struct {
	name  string
	data  []byte
	flags uint32
}

// Assemble returns stub with the sections of s appended.
func Assemble(stub []byte, s Sections) ([]byte, error) {
	m, err := parse(stub)
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	kernel, err := parse(s.Linux)
	if err != nil {
		return nil, fmt.Errorf("section .linux: %w", err)
	}
	if err := m.checkStub(); err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	for _, text := range []part{{".cmdline", s.Cmdline, 0}, {".uname", s.Uname, 0}, {".osrel", s.OSRelease, 0}} {
		if bytes.IndexByte(text.data, 0) >= 0 {
			return nil, fmt.Errorf("section %s: NUL byte in the text", text.name)
		}
	}
	if err := m.mergeSBAT(kernel, s.SBAT); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(kernel.b[kernel.opt+optDLLChars:])&nxCompat == 0 {
		chars := m.b[m.opt+optDLLChars:]
		binary.LittleEndian.PutUint16(chars, binary.LittleEndian.Uint16(chars)&^nxCompat)
	}
	const read, code, data = 0x40000000, 0x20, 0x40
	return m.append([]part{
		{".osrel", s.OSRelease, read | data},
		{".cmdline", s.Cmdline, read | data},
		{".uname", s.Uname, read | data},
		{".linux", s.Linux, read | code},
		{".initrd", s.Initrd, read | data},
	})
}

// checkStub refuses a stub to which sections cannot be appended without moving anything. On return m.b is
// a copy that may be changed.
func (m *image) checkStub() error {
	align, fileAlign := m.u32(optSectAlign), m.u32(optFileAlign)
	if fileAlign < 512 || fileAlign > 64<<10 || fileAlign&(fileAlign-1) != 0 || align < fileAlign || align > 2<<20 || align&(align-1) != 0 {
		return fmt.Errorf("file alignment %d and section alignment %d: want powers of two from 512", fileAlign, align)
	}
	if m.u32(optSecurity) != 0 || m.u32(optSecurity+4) != 0 {
		return fmt.Errorf("signed already: want an unsigned stub")
	}
	if binary.LittleEndian.Uint32(m.b[m.coff+12:]) != 0 {
		return fmt.Errorf("symbol table present: want a stripped stub")
	}
	end, raw := uint64(0), uint64(0)
	for _, s := range m.sections {
		switch {
		case slices.Contains(reserved, s.Name):
			return fmt.Errorf("section %q present: want a bare stub, this is a unified kernel image", s.Name)
		case s.raw%fileAlign != 0 || s.rawSize%fileAlign != 0 || s.addr%align != 0:
			return fmt.Errorf("section %q: not aligned to %d in the file and %d in memory", s.Name, fileAlign, align)
		case uint64(s.addr) < end || uint64(s.raw) < raw || s.raw < m.u32(optHdrSize):
			return fmt.Errorf("section %q: out of order", s.Name)
		}
		end, raw = uint64(s.addr)+uint64(s.size), uint64(s.raw)+uint64(s.rawSize)
	}
	if raw != uint64(len(m.b)) {
		return fmt.Errorf("%d bytes after the last section: want none", uint64(len(m.b))-raw)
	}
	m.b = bytes.Clone(m.b)
	return nil
}

// mergeSBAT puts the lines of stub, kernel and image into the stub's .sbat section, as ukify does, so that
// a revocation of any of them revokes the image. A stub without the section is refused.
func (m *image) mergeSBAT(kernel *image, extra []byte) error {
	s := m.find(".sbat")
	if s == nil {
		return fmt.Errorf("stub: no section .sbat")
	}
	if len(extra) == 0 {
		extra = []byte(defaultSBAT)
	}
	sources := []part{{name: "the stub", data: s.Data}}
	if k := kernel.find(".sbat"); k != nil {
		sources = append(sources, part{name: "the kernel", data: k.Data})
	}
	var lines []string
	for _, src := range append(sources, part{name: "the image", data: extra}) {
		text := strings.Split(strings.TrimRight(string(src.data), "\x00\n"), "\n")
		if !strings.HasPrefix(text[0], "sbat,") {
			return fmt.Errorf("section .sbat: that of %s does not begin with \"sbat,\"", src.name)
		}
		lines = append(lines, text[1:]...)
	}
	merged := sbatHeader + strings.Join(lines, "\n") + "\n\x00"
	if len(merged) > int(s.rawSize) {
		return fmt.Errorf("section .sbat: %d bytes of merged lines, room for %d", len(merged), s.rawSize)
	}
	room := m.b[s.raw:][:s.rawSize]
	clear(room[copy(room, merged):])
	s.size = uint32(len(merged))
	binary.LittleEndian.PutUint32(m.b[m.table+s.index*headerSize+8:], s.size)
	return nil
}

// append adds the parts that are not empty and brings the headers up to date.
func (m *image) append(parts []part) ([]byte, error) {
	parts = slices.DeleteFunc(parts, func(p part) bool { return len(p.data) == 0 })
	le := binary.LittleEndian
	align, fileAlign := uint64(m.u32(optSectAlign)), uint64(m.u32(optFileAlign))
	count, total := len(m.sections)+len(parts), uint64(len(m.b))
	room := roundUp(uint64(m.u32(optHdrSize)), fileAlign)
	if count > maxSections || uint64(m.table+count*headerSize) > room || room > uint64(m.sections[0].raw) {
		return nil, fmt.Errorf("stub: no header space for %d more sections", len(parts))
	}
	for _, p := range parts {
		total += roundUp(uint64(len(p.data)), fileAlign)
	}
	last := m.sections[len(m.sections)-1]
	next := roundUp(uint64(last.addr)+uint64(last.size), align)
	if total > math.MaxUint32 || next+total+align*uint64(len(parts)+1) > math.MaxUint32 {
		return nil, fmt.Errorf("unified kernel image of %d bytes: want less than 4 GiB", total)
	}
	out := make([]byte, len(m.b), total)
	copy(out, m.b)
	initData := m.u32(optInitData)
	for i, p := range parts {
		h := out[m.table+(len(m.sections)+i)*headerSize:][:headerSize]
		clear(h)
		copy(h, p.name)
		le.PutUint32(h[8:], uint32(len(p.data)))
		le.PutUint32(h[12:], uint32(next))
		le.PutUint32(h[16:], uint32(roundUp(uint64(len(p.data)), fileAlign)))
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], p.flags)
		out = append(out, p.data...)
		out = append(out, make([]byte, roundUp(uint64(len(out)), fileAlign)-uint64(len(out)))...)
		initData += uint32(len(p.data))
		next = roundUp(next+uint64(len(p.data)), align)
	}
	le.PutUint16(out[m.coff+6:], uint16(count))
	le.PutUint32(out[m.opt+optInitData:], initData)
	le.PutUint32(out[m.opt+optImageSize:], uint32(next))
	le.PutUint32(out[m.opt+optHdrSize:], uint32(room))
	le.PutUint32(out[m.opt+optCheckSum:], 0)
	return out, nil
}

func roundUp(n, unit uint64) uint64 { return (n + unit - 1) / unit * unit }
