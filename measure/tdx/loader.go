package tdx

import (
	"encoding/binary"
	"fmt"
)

const tablesFile = "etc/acpi/tables"

// Commands and zones of the loader's script, records of 128 bytes (QEMU hw/acpi/bios-linker-loader.c).
const (
	commandAlloc    = 1
	commandPointer  = 2
	commandChecksum = 3

	zoneHigh = 1
	zoneFSeg = 2
)

// A script is etc/table-loader being written.
type script struct {
	tables []byte
	b      []byte
	err    error
}

// record starts a command about one or two files.
func (s *script) record(command uint32, files ...string) []byte {
	r := make([]byte, loaderEntry)
	binary.LittleEndian.PutUint32(r, command)
	for i, f := range files {
		copy(r[4+i*fileName:], f)
	}
	s.b = append(s.b, r...)
	return s.b[len(s.b)-loaderEntry+4+len(files)*fileName:]
}

func (s *script) alloc(file string, align uint32, zone byte) {
	r := s.record(commandAlloc, file)
	binary.LittleEndian.PutUint32(r, align)
	r[4] = zone
}

// pointer makes the firmware add the address of the tables to the size bytes at off of a file.
func (s *script) pointer(file string, off, size int) {
	r := s.record(commandPointer, file, tablesFile)
	binary.LittleEndian.PutUint32(r, uint32(off))
	r[4] = byte(size)
}

func (s *script) checksum(file string, start, length, at int) {
	r := s.record(commandChecksum, file)
	le := binary.LittleEndian
	le.PutUint32(r, uint32(at))
	le.PutUint32(r[4:], uint32(start))
	le.PutUint32(r[8:], uint32(length))
}

// link is a pointer of a table to another: before linking it must hold the other's offset.
func (s *script) link(t table, at, size int, to table) {
	if at+size > len(t.b) {
		s.fail("byte %d: table %q of %d bytes has no pointer at byte %d", t.off, t.signature, len(t.b), at)
		return
	}
	var v uint64
	for i := range size {
		v |= uint64(t.b[at+i]) << (8 * i)
	}
	if v != uint64(to.off) {
		s.fail("byte %d: table %q points to %d, want %d, where %q is", t.off+at, t.signature, v, to.off, to.signature)
		return
	}
	s.pointer(tablesFile, t.off+at, size)
}

func (s *script) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// fadt links the FADT to FACS and DSDT, the latter twice.
func (s *script) fadt(tables []table, t table) {
	const facs, dsdt, xdsdt = 36, 40, 140
	s.link(t, facs, 4, tables[0])
	s.link(t, dsdt, 4, tables[1])
	s.link(t, xdsdt, 8, tables[1])
}

// rsdt links the RSDT to every table but FACS, DSDT and itself.
func (s *script) rsdt(tables []table, t table) {
	others := tables[2 : len(tables)-1]
	if t.off != tables[len(tables)-1].off || len(t.b) != acpiHeader+4*len(others) {
		s.fail("byte %d: RSDT of %d bytes, want the last table, with %d pointers", t.off, len(t.b), len(others))
		return
	}
	for i, o := range others {
		s.link(t, acpiHeader+4*i, 4, o)
	}
}
