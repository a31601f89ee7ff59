package snp

import (
	"errors"
	"fmt"
	"io"

	"tally/measure/internal/fw"
)

// A Firmware is everything about an OVMF image that the launch digest depends on: a few hundred bytes
// that stand for megabytes, so that a value can be recomputed without the image.
type Firmware struct {
	Digest   Digest    `json:"digest"`         // launch digest after the image's own pages ("ovmf hash" of sev-snp-measure)
	Size     int64     `json:"size"`           // bytes of the image
	ResetEIP uint32    `json:"reset_eip"`      // where application processors start
	HashGPA  uint32    `json:"hash_table_gpa"` // address of the kernel-hashes table; 0: the firmware checks none
	Sections []Section `json:"sections"`       // SEV metadata, in table order
}

// A Section is one entry of the SEV metadata (types of OVMF's table).
type Section struct {
	GPA  uint32 `json:"gpa"`  // page-aligned guest physical address
	Size uint32 `json:"size"` // bytes, whole pages
	Type uint32 `json:"type"` // 1 SEC_MEM, 2 SECRETS, 3 CPUID, 4 SVSM_CAA, 0x10 KERNEL_HASHES
}

// ReadFirmware measures an OVMF image of size bytes (at most 64 MiB, whole pages) and keeps none of it. An
// image without SEV metadata cannot start an SNP guest and is an error.
func ReadFirmware(r io.ReaderAt, size int64) (*Firmware, error) {
	t, err := fw.Read(r, size)
	if err != nil {
		return nil, err
	}
	if !t.HasSEV {
		return nil, errors.New("firmware: no SEV metadata table: not built for SEV-SNP")
	}
	if !t.HasResetEIP {
		return nil, errors.New("firmware: no SEV-ES reset block: the start address of further vCPUs is unknown")
	}
	if t.HashTableGPA != 0 && t.HashTableSize < tableSize {
		return nil, fmt.Errorf("firmware: %d bytes set aside for kernel hashes, want at least %d", t.HashTableSize, tableSize)
	}
	var c chain
	if err := c.addReader(1<<32-uint64(size), r, size); err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	f := &Firmware{Digest: c.ld, Size: size, ResetEIP: t.ResetEIP, HashGPA: t.HashTableGPA}
	for _, s := range t.Sections {
		f.Sections = append(f.Sections, Section{s.GPA, s.Size, uint32(s.Type)})
	}
	return f, nil
}

// check holds a firmware that may come from anywhere to the rules of one that was read.
func (f *Firmware) check() error {
	if f.Size <= 0 || f.Size%pageSize != 0 || f.Size > fw.MaxSize {
		return fmt.Errorf("firmware: size %d, want whole pages up to %d", f.Size, fw.MaxSize)
	}
	return f.checkSections(uint64(f.Size))
}

// checkSections holds the sections to memory of which the last size bytes below 4 GiB are taken.
func (f *Firmware) checkSections(size uint64) error {
	sections := make([]fw.Section, len(f.Sections))
	for i, s := range f.Sections {
		sections[i] = fw.Section{GPA: s.GPA, Size: s.Size, Type: fw.SectionType(s.Type)}
	}
	if err := fw.CheckSections(sections, size); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	return nil
}

// HasHashTable says whether the firmware checks a kernel that the VMM hands it.
func (f *Firmware) HasHashTable() bool { return f.HashGPA != 0 }

// ErrNoHashTable says why a firmware cannot measure a kernel.
var ErrNoHashTable = errors.New("firmware has no kernel-hashes table (it is not an AmdSev build), so the launch digest would not cover kernel, initrd and command line")

// checkKernelHashes says whether a kernel can be handed to this firmware.
func (f *Firmware) checkKernelHashes() error {
	if f.HashGPA == 0 {
		return ErrNoHashTable
	}
	for _, s := range f.Sections {
		if fw.SectionType(s.Type) != fw.SecKernelHsh {
			continue
		}
		if s.Size != pageSize || f.HashGPA/pageSize != s.GPA/pageSize {
			return fmt.Errorf("firmware: section KERNEL_HASHES at %#x of %#x bytes does not hold the table at %#x in one page", s.GPA, s.Size, f.HashGPA)
		}
		if f.HashGPA%pageSize+tableSize > pageSize {
			return fmt.Errorf("firmware: kernel-hashes table at %#x crosses a page border", f.HashGPA)
		}
		return nil
	}
	return fmt.Errorf("section KERNEL_HASHES is missing: %w", ErrNoHashTable)
}
