package snp

import (
	"crypto/sha512"
	"errors"
	"fmt"

	"tally/measure/internal/fw"
)

// MaxVCPUs is the largest number of vCPUs accepted.
const MaxVCPUs = 512

// An Input is everything the launch digest depends on. The zero Input is an error.
type Input struct {
	VMM       VMM
	Firmware  *Firmware     // from ReadFirmware, or stored earlier
	Hashes    *KernelHashes // nil: the VMM is not given a kernel
	VCPUs     int           // 1 to MaxVCPUs
	Signature uint32        // of the vCPU type, see VCPUSignature; unused when the VMM does not need it
	Features  uint64        // SEV_FEATURES of the VMSA; bit 0, SNPActive, must be set
}

// A Launch is a computed launch digest and how it came about.
type Launch struct {
	Digest Digest  `json:"digest"`
	Events []Event `json:"events"` // in launch order; the last one's digest is Digest
}

// Measure computes the launch digest of in.
func Measure(in Input) (*Launch, error) {
	p, err := in.check()
	if err != nil {
		return nil, err
	}
	c := chain{ld: in.Firmware.Digest}
	c.note("firmware", pageNormal, 1<<32-uint64(in.Firmware.Size), int(in.Firmware.Size/pageSize))
	if err := c.addSections(in, p); err != nil {
		return nil, err
	}
	c.addVMSAs(in, p)
	return &Launch{c.ld, c.events}, nil
}

func (in Input) check() (profile, error) {
	p, ok := profiles[in.VMM]
	switch {
	case !ok:
		return p, fmt.Errorf("vmm type %.40q: want one of %v", in.VMM, VMMs())
	case in.Firmware == nil:
		return p, errors.New("firmware: missing")
	case in.Firmware.Size <= 0 || in.Firmware.Size%pageSize != 0 || in.Firmware.Size > fw.MaxSize:
		return p, fmt.Errorf("firmware: size %d, want whole pages up to %d", in.Firmware.Size, fw.MaxSize)
	case in.VCPUs < 1 || in.VCPUs > MaxVCPUs:
		return p, fmt.Errorf("vcpus: %d, want 1 to %d", in.VCPUs, MaxVCPUs)
	case in.Features&1 == 0:
		return p, fmt.Errorf("guest features %#x: bit 0 (SNPActive) is not set", in.Features)
	case p.needsVCPU && in.Signature == 0:
		return p, errors.New("cpu signature: missing: it enters the digest on this vmm type")
	}
	if in.Hashes != nil {
		return p, in.Firmware.checkKernelHashes()
	}
	return p, nil
}

// addSections measures what the firmware's metadata names.
func (c *chain) addSections(in Input, p profile) error {
	var late []Section
	for _, s := range in.Firmware.Sections {
		if p.cpuidLast && fw.SectionType(s.Type) == fw.SecCPUID {
			late = append(late, s)
			continue
		}
		if err := c.addSection(s, in, p); err != nil {
			return err
		}
	}
	for _, s := range late {
		if err := c.addSection(s, in, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) addSection(s Section, in Input, p profile) error {
	kind := fw.SectionType(s.Type)
	if s.GPA%pageSize != 0 || s.Size%pageSize != 0 || s.Size > 1<<30 {
		return fmt.Errorf("firmware: section %s at %#x of %#x bytes: want whole pages, at most 1 GiB", kind, s.GPA, s.Size)
	}
	if s.Size == 0 {
		return nil // Debian's TDX build has such
	}
	t := pageZero
	switch kind {
	case fw.SecMem:
		t = p.secMem
	case fw.SecSecrets:
		t = pageSecrets
	case fw.SecCPUID:
		t = pageCPUID
	case fw.SecSVSMCAA:
	case fw.SecKernelHsh:
		if in.Hashes != nil {
			c.addBytes(uint64(s.GPA), in.Hashes.page(in.Firmware.HashGPA))
			c.note(kind.String(), pageNormal, uint64(s.GPA), 1)
			return nil
		}
	default:
		return fmt.Errorf("firmware: unknown section type %#x", s.Type)
	}
	pages := c.addEmpty(t, uint64(s.GPA), s.Size)
	c.note(kind.String(), t, uint64(s.GPA), pages)
	return nil
}

// addVMSAs measures one save area a vCPU; all but the first are equal.
func (c *chain) addVMSAs(in Input, p profile) {
	sum := sha512.Sum384(p.vmsa(true, in.Firmware.ResetEIP, in.Signature, in.Features))
	c.add(pageVMSA, p.vmsaGPA, sum)
	c.note("vmsa of the boot processor", pageVMSA, p.vmsaGPA, 1)
	if in.VCPUs == 1 {
		return
	}
	sum = sha512.Sum384(p.vmsa(false, in.Firmware.ResetEIP, in.Signature, in.Features))
	for range in.VCPUs - 1 {
		c.add(pageVMSA, p.vmsaGPA, sum)
	}
	c.note("vmsa of the other processors", pageVMSA, p.vmsaGPA, in.VCPUs-1)
}
