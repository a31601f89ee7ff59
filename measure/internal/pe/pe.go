// Package pe reads PE32+ images as UEFI firmware does: sections, and the Authenticode digest that enters
// PCR 4 and RTMR1.
//
// The digest follows edk2's SecurityPkg DxeTpm2MeasureBootLib (MeasurePeImageAndExtend), not Microsoft's
// paper: the parts hashed are, in order,
//
//	[0, CheckSum) [CheckSum+4, certificate directory) [certificate directory+8, SizeOfHeaders)
//	each section with raw data, by file offset
//	what is left: from SizeOfHeaders + the sum of all SizeOfRawData to the end less the certificates
//
// without any padding, and with "what is left" counted by sum, not by offset.
package pe

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"sort"
)

// MaxSize is the largest image read, in bytes.
const MaxSize = 1 << 30

const (
	maxSections   = 96 // the limit of the PE specification
	sectionHeader = 40
)

// A Section is one section of an image.
type Section struct {
	Name        string
	Address     uint32 // in memory, from the start of the image
	VirtualSize uint32 // bytes of content
	RawSize     uint32 // bytes in the file
	RawOffset   uint32
}

// An Image is a parsed PE32+ file.
type Image struct {
	b        []byte // the file, or its first bytes
	size     int64  // of the file
	checksum int    // offset of CheckSum
	certDir  int    // offset of the certificate directory entry
	headers  int    // SizeOfHeaders
	certSize int
	Machine  uint16    // that the image is for
	Sections []Section // in header order
}

// Parse reads the headers of an image given whole.
func Parse(b []byte) (*Image, error) { return parse(b, int64(len(b))) }

// A shortError says that the headers end behind what there is of a larger file.
type shortError struct{}

func (shortError) Error() string { return "PE image: headers further in the file" }

// parse reads the headers of a file of size bytes from b, its first ones or all.
func parse(b []byte, size int64) (*Image, error) {
	le := binary.LittleEndian
	if size > MaxSize {
		return nil, fmt.Errorf("PE image: %d bytes, want at most %d", size, MaxSize)
	}
	if len(b) < 0x40 || string(b[:2]) != "MZ" {
		return nil, fmt.Errorf("PE image: no MZ header in %d bytes", size)
	}
	off := int64(le.Uint32(b[0x3c:]))
	if end := off + 24 + 112; end <= size && end > int64(len(b)) {
		return nil, shortError{}
	} else if end > size || !bytes.Equal(b[off:off+4], []byte("PE\x00\x00")) {
		return nil, fmt.Errorf("PE image: no PE header at byte %d", off)
	}
	coff := int(off) + 4
	count, optSize := int(le.Uint16(b[coff+2:])), int(le.Uint16(b[coff+16:]))
	opt := coff + 20
	table := opt + optSize + count*sectionHeader
	switch {
	case le.Uint16(b[opt:]) != 0x20b:
		return nil, fmt.Errorf("PE image: optional header magic %#x, want 0x20b (PE32+)", le.Uint16(b[opt:]))
	case count == 0 || count > maxSections:
		return nil, fmt.Errorf("PE image: %d sections, want 1 to %d", count, maxSections)
	case optSize < 112+5*8 || int64(table) > size:
		return nil, fmt.Errorf("PE image: optional header of %d bytes and %d sections do not fit %d bytes", optSize, count, size)
	case table > len(b):
		return nil, shortError{}
	case le.Uint32(b[opt+108:]) < 5:
		return nil, fmt.Errorf("PE image: %d data directories, want at least 5", le.Uint32(b[opt+108:]))
	}
	im := &Image{Machine: le.Uint16(b[coff:]), b: b, size: size, checksum: opt + 64, certDir: opt + 112 + 4*8, headers: int(le.Uint32(b[opt+60:])), certSize: int(le.Uint32(b[opt+112+4*8+4:]))}
	if im.headers < table || int64(im.headers) > size {
		return nil, fmt.Errorf("PE image: SizeOfHeaders %d, want %d to %d", im.headers, table, size)
	}
	return im, im.sections(opt+optSize, count)
}

func (im *Image) sections(off, count int) error {
	le := binary.LittleEndian
	total := int64(im.headers)
	for i := range count {
		h := im.b[off+i*sectionHeader:]
		name, _, _ := bytes.Cut(h[:8], []byte{0})
		s := Section{string(name), le.Uint32(h[12:]), le.Uint32(h[8:]), le.Uint32(h[16:]), le.Uint32(h[20:])}
		if int64(s.RawOffset)+int64(s.RawSize) > im.size {
			return fmt.Errorf("PE image: section %q: %d bytes at %d, but the file has %d", s.Name, s.RawSize, s.RawOffset, im.size)
		}
		total += int64(s.RawSize)
		im.Sections = append(im.Sections, s)
	}
	if total+int64(im.certSize) > im.size {
		return fmt.Errorf("PE image: headers, sections and certificates have %d bytes, but the file has %d", total+int64(im.certSize), im.size)
	}
	return nil
}

// Data returns the content of the one section called name, without padding; nil when there is none.
func (im *Image) Data(name string) ([]byte, error) {
	var found *Section
	for i := range im.Sections {
		if im.Sections[i].Name == name {
			if found != nil {
				return nil, fmt.Errorf("PE image: section %q twice", name)
			}
			found = &im.Sections[i]
		}
	}
	if found == nil {
		return nil, nil
	}
	if found.VirtualSize > found.RawSize {
		return nil, fmt.Errorf("PE image: section %q: %d bytes of content, %d in the file", name, found.VirtualSize, found.RawSize)
	}
	return im.b[found.RawOffset:][:found.VirtualSize], nil
}

// Apart checks that no section lies over another or the headers once the image is loaded. What a program reads in memory
// is what [Image.Data] says only then.
func (im *Image) Apart() error {
	sorted := slices.Clone(im.Sections)
	slices.SortStableFunc(sorted, func(a, b Section) int { return cmp.Compare(a.Address, b.Address) })
	name, end := "the headers", uint64(im.headers)
	for _, s := range sorted {
		if uint64(s.Address) < end {
			return fmt.Errorf("PE image: section %q at %#x in memory, where %s end at %#x", s.Name, s.Address, name, end)
		}
		name, end = fmt.Sprintf("the bytes of %q", s.Name), uint64(s.Address)+uint64(max(s.VirtualSize, 1))
	}
	return nil
}

// ForX64 wants an image that firmware of x86-64 starts.
func (im *Image) ForX64() error {
	const x64 = 0x8664
	if im.Machine != x64 {
		return fmt.Errorf("PE image: made for machine %#x, want %#x (x86-64)", im.Machine, x64)
	}
	return nil
}

// Bytes is the file.
func (im *Image) Bytes() []byte { return im.b }

// Signed says whether the image carries certificates, of whatever worth.
func (im *Image) Signed() bool { return im.certSize > 0 }

// A span is a part of the file that the digest covers.
type span struct{ off, n int64 }

// spans are the parts that the digest covers, in its order.
func (im *Image) spans() []span {
	between := func(from, to int) span { return span{int64(from), int64(to - from)} }
	all := []span{between(0, im.checksum), between(im.checksum+4, im.certDir), between(im.certDir+8, im.headers)}
	sorted := slices.Clone(im.Sections)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].RawOffset < sorted[j].RawOffset })
	sum := int64(im.headers)
	for _, s := range sorted {
		if s.RawSize != 0 {
			all = append(all, span{int64(s.RawOffset), int64(s.RawSize)})
			sum += int64(s.RawSize)
		}
	}
	if end := im.size - int64(im.certSize); end > sum {
		all = append(all, span{sum, end - sum})
	}
	return all
}

// Authenticode feeds h with what the digest covers of an image that was given whole.
func (im *Image) Authenticode(h hash.Hash) {
	for _, s := range im.spans() {
		h.Write(im.b[s.off:][:s.n])
	}
}
