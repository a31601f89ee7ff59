package fw

import "fmt"

// A SectionType says what a VMM does with a metadata section before launch.
type SectionType uint32

// Section types (edk2 OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const (
	SecMem       SectionType = 1
	SecSecrets   SectionType = 2
	SecCPUID     SectionType = 3
	SecSVSMCAA   SectionType = 4
	SecKernelHsh SectionType = 0x10
)

// String returns the name that OVMF's metadata has for it.
func (t SectionType) String() string {
	switch t {
	case SecMem:
		return "SEC_MEM"
	case SecSecrets:
		return "SECRETS"
	case SecCPUID:
		return "CPUID"
	case SecSVSMCAA:
		return "SVSM_CAA"
	case SecKernelHsh:
		return "KERNEL_HASHES"
	}
	return fmt.Sprintf("type %#x", uint32(t))
}

// A Section is one range of guest memory that the metadata names.
type Section struct {
	GPA  uint32 // guest physical address, page-aligned
	Size uint32 // bytes, a multiple of PageSize; 0 is legal and means nothing
	Type SectionType
}

// CheckSections holds metadata of a firmware that takes size bytes below 4 GiB to what a VMM can launch: known types, whole
// pages below the firmware, one section at most of each type but SEC_MEM, no page twice (what is measured last would hide what is
// measured first), MaxSections entries and MaxMemory bytes in all. Sections of zero length are legal:
// Debian's TDX build has some.
func CheckSections(sections []Section, size uint64) error {
	if len(sections) > MaxSections {
		return fmt.Errorf("%d sections, want at most %d", len(sections), MaxSections)
	}
	total := uint64(0)
	for i, s := range sections {
		if err := s.check(size); err != nil {
			return fmt.Errorf("section %d: %w", i, err)
		}
		if total += uint64(s.Size); total > MaxMemory {
			return fmt.Errorf("section %d: more than %d bytes of sections", i, MaxMemory)
		}
		for _, b := range sections[:i] {
			if s.Size == 0 || b.Size == 0 {
				continue
			}
			if s.GPA < b.GPA+b.Size && b.GPA < s.GPA+s.Size {
				return fmt.Errorf("section %d: %s at %#x overlaps %s at %#x", i, s.Type, s.GPA, b.Type, b.GPA)
			}
			if s.Type == b.Type && s.Type != SecMem {
				return fmt.Errorf("section %d: a second %s at %#x, the first is at %#x", i, s.Type, s.GPA, b.GPA)
			}
		}
	}
	return nil
}

func (s Section) check(size uint64) error {
	switch s.Type {
	case SecMem, SecSecrets, SecCPUID, SecSVSMCAA, SecKernelHsh:
	default:
		return fmt.Errorf("unknown type %#x", uint32(s.Type))
	}
	if top := 1<<32 - size; s.GPA%PageSize != 0 || s.Size%PageSize != 0 || uint64(s.GPA)+uint64(s.Size) > top {
		return fmt.Errorf("%s at %#x of %#x bytes: want whole pages below %#x", s.Type, s.GPA, s.Size, top)
	}
	return nil
}
