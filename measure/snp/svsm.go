package snp

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// An SVSM is everything about a firmware with an SVSM under it (COCONUT-SVSM, loaded by its own QEMU) that
// the launch digest depends on.
//
// The firmware's pages come first, then those of the SVSM, which ends where the firmware with its variable
// store begins; then the sections of the SVSM's own metadata, none of the firmware's. Every vCPU starts in
// the SVSM, in 32-bit protected mode. The firmware runs above it, so nothing of a kernel is measured.
type SVSM struct {
	Above *Firmware `json:"firmware"` // the firmware: only its digest and size count
	Own   Firmware  `json:"svsm"`     // Digest after the pages of both; Size and Sections of the SVSM
	GPA   uint64    `json:"gpa"`      // guest physical address of its first page
	Entry uint32    `json:"entry"`    // guest physical address where each vCPU starts
}

// ReadSVSM measures an SVSM of size bytes under a firmware whose variable store, not part of its file, takes
// varsSize bytes (whole pages).
func ReadSVSM(r io.ReaderAt, size int64, firmware *Firmware, varsSize int64) (*SVSM, error) {
	if err := firmware.check(); err != nil {
		return nil, err
	}
	if varsSize < 0 || varsSize%pageSize != 0 || varsSize > fw.MaxSize {
		return nil, fmt.Errorf("variable store: %d bytes, want whole pages up to %d", varsSize, fw.MaxSize)
	}
	top := uint64(1<<32) - uint64(firmware.Size) - uint64(varsSize)
	t, err := fw.ReadBelow(r, size, top)
	if err != nil {
		return nil, fmt.Errorf("svsm: %w", err)
	}
	if !t.HasSVSM || !t.HasSEV {
		return nil, errors.New("svsm: no SVSM_INFO or no SEV metadata: not an SVSM")
	}
	gpa := top - uint64(size)
	c := chain{ld: firmware.Digest}
	if err := c.addReader(gpa, r, size); err != nil {
		return nil, fmt.Errorf("svsm: %w", err)
	}
	s := &SVSM{Above: firmware, Own: Firmware{Digest: c.ld, Size: size}, GPA: gpa, Entry: uint32(gpa) + t.SVSMEntry}
	for _, x := range t.Sections {
		s.Own.Sections = append(s.Own.Sections, Section{x.GPA, x.Size, uint32(x.Type)})
	}
	return s, nil
}

// MeasureSVSM computes the launch digest of a guest that starts in an SVSM on QEMU. sev-snp-measure ignores
// the feature mask here and always takes 1; this honours it.
//
// x87_fcw is zero here, where plain QEMU has 0x37f: so are the digests of sev-snp-measure's suite, whose
// fixtures say on which machine they were read.
func MeasureSVSM(s *SVSM, vcpus int, signature uint32, features uint64) (*Launch, error) {
	all, err := MeasureSVSMShapes(s, []int{vcpus}, signature, features)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// MeasureSVSMShapes is MeasureSVSM for each number of vCPUs, which must ascend: together they cost as much as the
// largest.
func MeasureSVSMShapes(s *SVSM, vcpus []int, signature uint32, features uint64) ([]*Launch, error) {
	if err := checkVCPUs(vcpus); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	switch {
	case features&1 == 0:
		return nil, fmt.Errorf("guest features %#x: bit 0 (SNPActive) is not set", features)
	case signature == 0:
		return nil, errors.New("cpu signature: missing: it enters the digest on this vmm type")
	}
	c := chain{ld: s.Above.Digest}
	c.note("firmware", pageNormal, 1<<32-uint64(s.Above.Size), int(s.Above.Size/pageSize), eventlog.PartFirmware)
	c.ld = s.Own.Digest
	c.note("svsm", pageNormal, s.GPA, int(s.Own.Size/pageSize), eventlog.PartFirmware)
	p := profiles[QEMU]
	c.addSections(Input{Firmware: &s.Own}, p)
	vmsa := sha512.Sum384(vmsaOfSVSM(s.Entry, signature, features))
	all := make([]*Launch, 0, len(vcpus))
	have := 0
	for _, n := range vcpus {
		for ; have < n; have++ {
			c.add(pageVMSA, p.vmsaGPA, vmsa)
		}
		shape := chain{c.ld, slices.Clone(c.events)}
		shape.note("vmsa of every processor", pageVMSA, p.vmsaGPA, n)
		all = append(all, &Launch{shape.ld, shape.events})
	}
	return all, nil
}

// check holds an SVSM that may come from anywhere to the rules of one that was read.
func (s *SVSM) check() error {
	if err := s.Above.check(); err != nil {
		return err
	}
	if err := s.Own.check(); err != nil {
		return fmt.Errorf("svsm: %w", err)
	}
	if end := s.GPA + uint64(s.Own.Size); s.GPA%pageSize != 0 || s.GPA > 1<<32 || end > 1<<32-uint64(s.Above.Size) || uint64(s.Entry) < s.GPA || uint64(s.Entry) >= end {
		return fmt.Errorf("svsm: %d bytes at %#x, entry %#x: want whole pages below the firmware's %d, and the entry in them", s.Own.Size, s.GPA, s.Entry, s.Above.Size)
	}
	if err := s.Own.checkSections(1<<32 - s.GPA); err != nil {
		return fmt.Errorf("svsm: %w", err)
	}
	return nil
}

// vmsaOfSVSM is the save area that every vCPU starts from: flat 32-bit protected mode.
func vmsaOfSVSM(entry, signature uint32, features uint64) []byte {
	p := profiles[QEMU].vmsaProfile
	p.fcw = 0
	b := p.vmsa(false, entry, signature, features)
	le := binary.LittleEndian
	for off, seg := range map[int][2]uint16{0x00: {16, 0xc93}, 0x10: {8, 0xc9b}, 0x20: {16, 0xc93}, 0x30: {16, 0xc93}, 0x40: {16, 0xc93}} { // es, cs, ss, ds, fs
		le.PutUint16(b[off:], seg[0])
		le.PutUint16(b[off+2:], seg[1])
		le.PutUint32(b[off+4:], 0xffffffff)
		le.PutUint64(b[off+8:], 0)
	}
	le.PutUint64(b[0x158:], 0x11)          // cr0: ET, PE
	le.PutUint64(b[0x178:], uint64(entry)) // rip
	return b
}
