package snp

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"tally/measure/eventlog"
)

// MeasureIGVM computes the launch digest of a guest that QEMU starts from an IGVM file, given whole, on KVM.
// The file says everything, the save areas of its vCPUs included. It must be one that KVM measures in the
// file's order: the save areas last, at the address that KVM uses, with CR0 as KVM sets it.
//
// A page without data is a NORMAL page of zeros, as QEMU loads it. With a vCPU more than the file has save
// areas, KVM may add one of its own; what it measures then is not known here.
func MeasureIGVM(b []byte) (*Launch, error) {
	f, err := readIGVM(b)
	if err != nil {
		return nil, fmt.Errorf("igvm: %w", err)
	}
	l := &igvmLaunch{igvmFile: f, areas: map[uint32]uint64{}, seen: map[uint64]bool{}}
	for _, h := range f.headers {
		if err := l.directive(h); err != nil {
			return nil, fmt.Errorf("igvm: header at byte %d: %w", h.offset, err)
		}
	}
	if l.vmsas == 0 {
		return nil, errors.New("igvm: no save area of a vCPU")
	}
	return &Launch{l.c.ld, l.c.events}, nil
}

// An igvmLaunch is a launch being computed.
type igvmLaunch struct {
	*igvmFile
	c     chain
	areas map[uint32]uint64 // bytes of each parameter area that was not inserted yet
	seen  map[uint64]bool   // guest pages, by address
	vmsas int
}

func (l *igvmLaunch) directive(h igvmHeader) error {
	le := binary.LittleEndian
	switch h.typ {
	case igvmParameterArea:
		size, index := le.Uint64(h.data), le.Uint32(h.data[8:])
		if _, twice := l.areas[index]; twice || size == 0 || size%pageSize != 0 || size > maxIGVMPages*pageSize {
			return fmt.Errorf("parameter area %d of %d bytes: twice, or not whole pages", index, size)
		}
		l.areas[index] = size
	case igvmPageData:
		if le.Uint32(h.data[8:])&l.mask != 0 {
			return l.pageData(le.Uint64(h.data), le.Uint32(h.data[12:]), le.Uint32(h.data[16:]), le.Uint16(h.data[20:]))
		}
	case igvmParameterIns:
		if le.Uint32(h.data[8:])&l.mask != 0 {
			return l.insert(le.Uint64(h.data), le.Uint32(h.data[12:]))
		}
	case igvmVPContext:
		if le.Uint32(h.data[8:])&l.mask != 0 {
			return l.vmsa(le.Uint64(h.data), le.Uint32(h.data[12:]))
		}
	}
	return nil
}

// Flags of page data.
const (
	igvm2MB        = 1
	igvmUnmeasured = 2
	igvmFlags      = igvm2MB | igvmUnmeasured
)

// pageData measures a page of 4 KiB or 2 MiB.
func (l *igvmLaunch) pageData(gpa uint64, offset, flags uint32, kind uint16) error {
	if flags&^igvmFlags != 0 {
		return fmt.Errorf("page at %#x: flags %#x, want no other than %#x", gpa, flags, uint32(igvmFlags))
	}
	size := pageSize
	if flags&igvm2MB != 0 {
		size = 2 << 20
	}
	data, err := l.at(offset, size)
	if err != nil {
		return fmt.Errorf("page at %#x: %w", gpa, err)
	}
	if gpa%uint64(size) != 0 {
		return fmt.Errorf("page at %#x: want a multiple of %#x", gpa, size)
	}
	t := pageNormal
	switch kind {
	case 0:
		if flags&igvmUnmeasured != 0 {
			t = pageUnmeasured
		}
	case 1:
		t = pageSecrets
	case 2, 3:
		t = pageCPUID
	default:
		return fmt.Errorf("page at %#x: data type %d, want 0 to 3", gpa, kind)
	}
	return l.pages(map[pageType]string{pageNormal: "page data", pageUnmeasured: "page data", pageSecrets: "SECRETS", pageCPUID: "CPUID"}[t], t, gpa, size/pageSize, data)
}

// pages measures n pages; data is nil for zeros.
func (l *igvmLaunch) pages(what string, t pageType, gpa uint64, n int, data []byte) error {
	if l.vmsas > 0 {
		return fmt.Errorf("page at %#x behind a save area: KVM measures those last", gpa)
	}
	if gpa >= 1<<52 || len(l.seen)+n > maxIGVMPages {
		return fmt.Errorf("page at %#x: above 52 bits, or more than %d pages", gpa, maxIGVMPages)
	}
	zeros := make([]byte, pageSize)
	for i := range n {
		at := gpa + uint64(i)*pageSize
		if l.seen[at] {
			return fmt.Errorf("page at %#x twice", at)
		}
		l.seen[at] = true
		var sum [48]byte
		if t == pageNormal && data == nil {
			sum = sha512.Sum384(zeros)
		} else if t == pageNormal {
			sum = sha512.Sum384(data[i*pageSize:][:pageSize])
		}
		l.c.add(t, at, sum)
	}
	l.note(what, t, gpa, n)
	return nil
}

// note records pages, in one event with those right below them of the same kind.
func (l *igvmLaunch) note(what string, t pageType, gpa uint64, n int) {
	if k := len(l.c.events); k > 0 {
		if last := &l.c.events[k-1]; last.What == what && last.Type == t.String() && last.GPA+uint64(last.Pages)*pageSize == gpa {
			last.Pages, last.Digest = last.Pages+n, l.c.ld
			return
		}
	}
	var covers []eventlog.Part
	if t == pageNormal {
		covers = []eventlog.Part{eventlog.PartFirmware}
	}
	l.c.note(what, t, gpa, n, covers...)
}

// insert measures a parameter area: its contents are the loader's.
func (l *igvmLaunch) insert(gpa uint64, index uint32) error {
	size, ok := l.areas[index]
	if !ok {
		return fmt.Errorf("parameter area %d: not declared, or inserted before", index)
	}
	if gpa%pageSize != 0 {
		return fmt.Errorf("parameter area at %#x: want a multiple of %d", gpa, pageSize)
	}
	delete(l.areas, index)
	return l.pages("parameters", pageUnmeasured, gpa, int(size/pageSize), nil)
}

// vmsa measures the save area of a vCPU.
func (l *igvmLaunch) vmsa(gpa uint64, offset uint32) error {
	data, err := l.at(offset, pageSize)
	switch {
	case err != nil:
		return fmt.Errorf("save area: %w", err)
	case data == nil:
		return errors.New("save area: no data")
	case gpa != vmsaGPA:
		return fmt.Errorf("save area at %#x: KVM puts it at %#x", gpa, uint64(vmsaGPA))
	case l.vmsas == MaxVCPUs:
		return fmt.Errorf("more than %d save areas", MaxVCPUs)
	}
	if cr0 := binary.LittleEndian.Uint64(data[0x158:]); cr0 != 0x30 && cr0 != 0x31 {
		return fmt.Errorf("save area: CR0 %#x, KVM sets 0x30 or 0x31", cr0)
	}
	l.vmsas++
	l.c.add(pageVMSA, gpa, sha512.Sum384(data))
	l.c.note("vmsa", pageVMSA, gpa, 1)
	return nil
}
