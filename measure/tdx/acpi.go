package tdx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ACPI is what QEMU hands the firmware in fw_cfg and edk2 measures, file by file.
type ACPI struct {
	Tables []byte // etc/acpi/tables
	Loader []byte // etc/table-loader
	RSDP   []byte // etc/acpi/rsdp

	VCPUs int // processors that the MADT enables
}

// Sizes of ACPI structures, in bytes.
const (
	acpiHeader  = 36
	maxACPI     = 4 << 20 // of the tables; QEMU pads them to 128 KiB
	maxTables   = 64
	facsSize    = 64
	rsdpSize    = 20
	loaderEntry = 128
	loaderAlign = 4096
	fileName    = 56 // bytes of a file name in the loader's script
)

// linked are the tables that QEMU's loader script knows but for its checksum does nothing with.
var linked = []string{"APIC", "HPET", "MCFG", "WAET", "SRAT", "SLIT", "HMAT", "DMAR", "SSDT"}

// A table is one ACPI table of a blob.
type table struct {
	signature string
	off       int
	b         []byte
}

// ReadACPI reads the blob etc/acpi/tables and derives the two other files, which say how firmware is to link
// it: QEMU writes them in a fixed order while it builds the tables (hw/i386/acpi-build.c,
// hw/acpi/bios-linker-loader.c). The links that the blob itself holds must be those; a table that QEMU links
// in another way (TPM2, NFIT, CEDT, …) is an error. The blob is measured whole, with the zeros that QEMU pads it with: it must be
// as fw_cfg has it, since one that was cut to its tables parses as well and has another digest.
func ReadACPI(blob []byte) (*ACPI, error) {
	tables, err := splitTables(blob)
	if err != nil {
		return nil, fmt.Errorf("ACPI tables: %w", err)
	}
	a := &ACPI{Tables: blob}
	if err := a.link(tables); err != nil {
		return nil, fmt.Errorf("ACPI tables: %w", err)
	}
	return a, nil
}

func splitTables(blob []byte) ([]table, error) {
	if len(blob) > maxACPI {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(blob), maxACPI)
	}
	var tables []table
	for off := 0; off < len(blob); {
		rest := blob[off:]
		if len(bytes.TrimLeft(rest, "\x00")) == 0 {
			return tables, nil
		}
		if len(rest) < 8 {
			return nil, fmt.Errorf("byte %d: %d stray bytes", off, len(rest))
		}
		t := table{string(rest[:4]), off, nil}
		size, least := binary.LittleEndian.Uint32(rest[4:]), uint32(acpiHeader)
		if t.signature == "FACS" {
			least = facsSize
		}
		if size < least || uint64(size) > uint64(len(rest)) {
			return nil, fmt.Errorf("byte %d: table %q of %d bytes, want %d to %d", off, t.signature, size, least, len(rest))
		}
		t.b = rest[:size]
		if tables = append(tables, t); len(tables) > maxTables {
			return nil, fmt.Errorf("byte %d: more than %d tables", off, maxTables)
		}
		off += int(size)
	}
	return tables, nil
}

// link writes the loader's script for the tables, which QEMU puts in the order FACS, DSDT, FACP, others, RSDT.
func (a *ACPI) link(tables []table) error {
	if len(tables) < 4 || tables[0].signature != "FACS" || tables[1].signature != "DSDT" || tables[2].signature != "FACP" || tables[len(tables)-1].signature != "RSDT" {
		return errors.New("want FACS, DSDT, FACP, …, RSDT, as QEMU writes them")
	}
	s := script{tables: a.Tables}
	s.alloc("etc/acpi/rsdp", 16, zoneFSeg)
	s.alloc(tablesFile, 64, zoneHigh)
	for i, t := range tables[1:] {
		if t.b[9] != 0 {
			return fmt.Errorf("byte %d: table %q has a checksum: the firmware has linked it: want the blob as QEMU hands it out", t.off, t.signature)
		}
		if t.signature != "SSDT" && slices.ContainsFunc(tables[1:i+1], func(o table) bool { return o.signature == t.signature }) {
			return fmt.Errorf("byte %d: a second table %q: QEMU writes one", t.off, t.signature)
		}
		switch {
		case i == 0:
		case t.signature == "FACP":
			s.fadt(tables, t)
		case t.signature == "RSDT":
			s.rsdt(tables, t)
		case !slices.Contains(linked, t.signature):
			return fmt.Errorf("byte %d: table %q: how QEMU links it is not known here", t.off, t.signature)
		}
		if t.signature == "APIC" {
			a.VCPUs = enabled(t.b)
		}
		s.checksum(tablesFile, t.off, len(t.b), t.off+9)
	}
	if s.err != nil {
		return s.err
	}
	a.RSDP = rsdp(tables[len(tables)-1].off)
	s.pointer("etc/acpi/rsdp", 16, 4)
	s.checksum("etc/acpi/rsdp", 0, rsdpSize, 8)
	a.Loader = append(s.b, make([]byte, -len(s.b)&(loaderAlign-1))...)
	return nil
}

// enabled counts the processors of a MADT that are there from the start.
func enabled(madt []byte) (n int) {
	const localAPIC, localX2APIC = 0, 9
	le := binary.LittleEndian
	for e := madt[min(len(madt), acpiHeader+8):]; len(e) >= 2; {
		size := int(e[1])
		if size < 2 || size > len(e) {
			return 0
		}
		if (e[0] == localAPIC && size >= 8 && le.Uint32(e[4:])&1 != 0) || (e[0] == localX2APIC && size >= 12 && le.Uint32(e[8:])&1 != 0) {
			n++
		}
		e = e[size:]
	}
	return n
}

// rsdp is the root pointer of ACPI 1.0 before linking: its pointer is the offset of the RSDT.
func rsdp(rsdt int) []byte {
	b := make([]byte, 16, rsdpSize)
	copy(b, "RSD PTR \x00BOCHS ")
	return binary.LittleEndian.AppendUint32(b, uint32(rsdt))
}
