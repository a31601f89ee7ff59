package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// Limits of an IGVM file.
const (
	MaxIGVM        = 256 << 20 // bytes
	maxIGVMHeaders = 1 << 18   // variable headers
	maxIGVMPages   = 1 << 18   // of 4 KiB, parameter areas included
)

// Types of variable headers that matter here (Microsoft igvm_defs, IgvmVariableHeaderType). The other
// directives name parameters, which are deposited in unmeasured pages.
const (
	igvmPlatform      = 0x1
	igvmPolicy        = 0x101
	igvmRelocatable   = 0x102
	igvmPageTableArea = 0x103
	igvmParameterArea = 0x301
	igvmPageData      = 0x302
	igvmParameterIns  = 0x303
	igvmVPContext     = 0x304
	igvmLastDirective = 0x313
	igvmNotToBeUsed   = 0x306

	igvmTypeSNP = 2 // platform type
)

// igvmMinimum is the smallest length of each structure that is read, in bytes.
var igvmMinimum = map[uint32]int{igvmPlatform: 16, igvmPolicy: 16, igvmRelocatable: 4, igvmPageTableArea: 4, igvmParameterArea: 16, igvmPageData: 24, igvmParameterIns: 16, igvmVPContext: 20}

// An igvmHeader is one variable header.
type igvmHeader struct {
	offset int // in the file
	typ    uint32
	data   []byte
}

// An igvmFile is an IGVM file being read.
//
// It starts with "IGVM", u32 format version, u32 offset and u32 size of the variable headers, u32 size of the
// file, u32 CRC-32 of all headers with this field zero; in version 2 also u32 architecture, u32 page size.
// A variable header is u32 type, u32 length, data, padding to 8 bytes.
type igvmFile struct {
	b       []byte
	headers []igvmHeader
	mask    uint32 // the bit of the SNP platform
}

func readIGVM(b []byte) (*igvmFile, error) {
	le := binary.LittleEndian
	switch {
	case len(b) > MaxIGVM:
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), MaxIGVM)
	case len(b) < 24 || string(b[:4]) != "IGVM":
		return nil, fmt.Errorf("no IGVM header in %d bytes", len(b))
	}
	fixed := 24
	switch version := le.Uint32(b[4:]); version {
	case 1:
	case 2:
		if fixed = 32; len(b) < fixed || le.Uint32(b[24:]) != 0 || le.Uint32(b[28:]) != pageSize {
			return nil, errors.New("version 2 header: want architecture 0 (x64) and pages of 4096 bytes")
		}
	default:
		return nil, fmt.Errorf("format version %d, want 1 or 2", version)
	}
	start, size := uint64(le.Uint32(b[8:])), uint64(le.Uint32(b[12:]))
	switch {
	case uint64(le.Uint32(b[16:])) != uint64(len(b)):
		return nil, fmt.Errorf("header says %d bytes, the file has %d", le.Uint32(b[16:]), len(b))
	case start < uint64(fixed) || start%8 != 0 || start+size > uint64(len(b)):
		return nil, fmt.Errorf("variable headers: %d bytes at byte %d, the file has %d", size, start, len(b))
	}
	sum := crc32.Update(crc32.ChecksumIEEE(b[:20]), crc32.IEEETable, make([]byte, 4))
	sum = crc32.Update(sum, crc32.IEEETable, b[24:fixed])
	if sum = crc32.Update(sum, crc32.IEEETable, b[start:start+size]); sum != le.Uint32(b[20:]) {
		return nil, fmt.Errorf("checksum %#08x, its headers have %#08x", le.Uint32(b[20:]), sum)
	}
	f := &igvmFile{b: b}
	if err := f.split(int(start), int(start+size)); err != nil {
		return nil, err
	}
	return f, f.findPlatform()
}

// split cuts the variable headers apart and refuses types that are not known.
func (f *igvmFile) split(off, end int) error {
	le := binary.LittleEndian
	for off < end {
		if len(f.headers) == maxIGVMHeaders || end-off < 8 {
			return fmt.Errorf("byte %d: more than %d headers, or %d stray bytes", off, maxIGVMHeaders, end-off)
		}
		h := igvmHeader{offset: off, typ: le.Uint32(f.b[off:])}
		n := int64(le.Uint32(f.b[off+4:]))
		if n > int64(end-off-8) {
			return fmt.Errorf("byte %d: header %#x of %d bytes, %d are left", off, h.typ, n, end-off-8)
		}
		h.data = f.b[off+8:][:n]
		known := h.typ >= igvmParameterArea && h.typ <= igvmLastDirective && h.typ != igvmNotToBeUsed
		if least, ok := igvmMinimum[h.typ]; !ok && !known || int(n) < least {
			return fmt.Errorf("byte %d: header %#x of %d bytes: unknown, or shorter than %d", off, h.typ, n, least)
		}
		f.headers = append(f.headers, h)
		off = min(end, off+8+int(n+7)&^7)
	}
	return nil
}

// findPlatform finds the one SNP platform and refuses what makes its addresses depend on the loader.
func (f *igvmFile) findPlatform() error {
	le := binary.LittleEndian
	for _, h := range f.headers {
		if h.typ != igvmPlatform || h.data[5] != igvmTypeSNP {
			continue
		}
		mask := le.Uint32(h.data)
		if f.mask != 0 || bits.OnesCount32(mask) != 1 {
			return fmt.Errorf("byte %d: a second SNP platform, or its mask %#x is not one bit", h.offset, mask)
		}
		f.mask = mask
	}
	if f.mask == 0 {
		return errors.New("no SEV-SNP platform: this file does not start an SNP guest")
	}
	for _, h := range f.headers {
		if (h.typ == igvmRelocatable || h.typ == igvmPageTableArea) && le.Uint32(h.data)&f.mask != 0 {
			return fmt.Errorf("byte %d: a relocatable region: the digest depends on where the loader puts it", h.offset)
		}
	}
	return nil
}

// at returns n bytes of the file; offset 0 means that there are none.
func (f *igvmFile) at(offset uint32, n int) ([]byte, error) {
	if offset == 0 {
		return nil, nil
	}
	if uint64(offset)+uint64(n) > uint64(len(f.b)) {
		return nil, fmt.Errorf("%d bytes at byte %d, the file has %d", n, offset, len(f.b))
	}
	return f.b[offset:][:n], nil
}
