package snp

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// Register is the name of the launch digest among registers.
const Register = "launch_digest"

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

// Log returns the events in the form that all registers share; a digest is the launch digest after it.
func (l *Launch) Log() []eventlog.Event {
	log := make([]eventlog.Event, len(l.Events))
	for i, e := range l.Events {
		detail := fmt.Sprintf("%d %s pages at %#x", e.Pages, e.Type, e.GPA)
		log[i] = eventlog.Event{Register: Register, What: e.What, Detail: detail, Digest: e.Digest[:], Covers: e.Covers}
	}
	return log
}

// Covers lists the parts of the image that the digest fixes, each once, in the order of the events.
func (l *Launch) Covers() (all []eventlog.Part) {
	for _, e := range l.Events {
		for _, p := range e.Covers {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// Measure computes the launch digest of in.
func Measure(in Input) (*Launch, error) {
	all, err := MeasureShapes(in, []int{in.VCPUs})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// MeasureShapes computes the launch of in for each number of vCPUs, which must ascend; in.VCPUs is not
// used. One more vCPU is one more page at the end of the chain, so all shapes together cost as much as
// the largest.
func MeasureShapes(in Input, vcpus []int) ([]*Launch, error) {
	p, err := in.check(vcpus)
	if err != nil {
		return nil, err
	}
	c := chain{ld: in.Firmware.Digest}
	c.note("firmware", pageNormal, 1<<32-uint64(in.Firmware.Size), int(in.Firmware.Size/pageSize), eventlog.PartFirmware)
	c.addSections(in, p)
	boot := sha512.Sum384(p.vmsa(true, in.Firmware.ResetEIP, in.Signature, in.Features))
	other := sha512.Sum384(p.vmsa(false, in.Firmware.ResetEIP, in.Signature, in.Features))
	c.add(pageVMSA, p.vmsaGPA, boot)
	c.note("vmsa of the boot processor", pageVMSA, p.vmsaGPA, 1)
	all := make([]*Launch, 0, len(vcpus))
	have := 1
	for _, n := range vcpus {
		for ; have < n; have++ {
			c.add(pageVMSA, p.vmsaGPA, other)
		}
		shape := chain{c.ld, slices.Clone(c.events)}
		if n > 1 {
			shape.note("vmsa of the other processors", pageVMSA, p.vmsaGPA, n-1)
		}
		all = append(all, &Launch{shape.ld, shape.events})
	}
	return all, nil
}

func (in Input) check(vcpus []int) (profile, error) {
	p, ok := profiles[in.VMM]
	switch {
	case !ok:
		return p, fmt.Errorf("vmm type %.40q: want one of %v", in.VMM, VMMs())
	case in.Firmware == nil:
		return p, errors.New("firmware: missing")
	case in.Features&1 == 0:
		return p, fmt.Errorf("guest features %#x: bit 0 (SNPActive) is not set", in.Features)
	case p.needsVCPU && in.Signature == 0:
		return p, errors.New("cpu signature: missing: it enters the digest on this vmm type")
	}
	if err := checkVCPUs(vcpus); err != nil {
		return p, err
	}
	if err := in.Firmware.check(); err != nil {
		return p, err
	}
	if in.Hashes != nil {
		return p, in.Firmware.checkKernelHashes()
	}
	return p, nil
}

// checkVCPUs wants ascending numbers of vCPUs.
func checkVCPUs(vcpus []int) error {
	last := 0
	for _, n := range vcpus {
		if n <= last || n > MaxVCPUs {
			return fmt.Errorf("vcpus: %d, want 1 to %d, ascending", n, MaxVCPUs)
		}
		last = n
	}
	return nil
}

// addSections measures what the firmware's metadata names.
func (c *chain) addSections(in Input, p profile) {
	for _, late := range []bool{false, true} {
		for _, s := range in.Firmware.Sections {
			if late == (p.cpuidLast && fw.SectionType(s.Type) == fw.SecCPUID) {
				c.addSection(s, in, p)
			}
		}
	}
}

func (c *chain) addSection(s Section, in Input, p profile) {
	if s.Size == 0 {
		return
	}
	kind, t := fw.SectionType(s.Type), pageZero
	switch kind {
	case fw.SecMem:
		t = p.secMem
	case fw.SecSecrets:
		t = pageSecrets
	case fw.SecCPUID:
		t = pageCPUID
	case fw.SecKernelHsh:
		if in.Hashes != nil {
			c.add(pageNormal, uint64(s.GPA), sha512.Sum384(in.Hashes.page(in.Firmware.HashGPA)))
			c.note(kind.String(), pageNormal, uint64(s.GPA), 1, eventlog.PartKernel, eventlog.PartInitrd, eventlog.PartCmdline)
			return
		}
	}
	pages := c.addEmpty(t, uint64(s.GPA), s.Size)
	c.note(kind.String(), t, uint64(s.GPA), pages)
}
