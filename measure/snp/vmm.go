package snp

import (
	"fmt"
	"strings"
)

// A VMM names what differs between virtual machine monitors: initial register state, page order. The
// zero VMM is invalid.
type VMM string

// The monitors known, with the names of sev-snp-measure where it has one.
const (
	QEMU          VMM = "QEMU"             // upstream QEMU and KVM, Linux 6.11 and later (KVM_SEV_INIT2)
	QEMUNoFPUInit VMM = "QEMU-no-fpu-init" // AMD's older host kernels: mxcsr and x87_fcw stay zero
	EC2           VMM = "ec2"              // Amazon EC2, fleet of 2026
	EC22023       VMM = "ec2-2023"         // Amazon EC2, fleet of 2023
	GCE           VMM = "gce"              // Google Compute Engine, machines with Milan
	GCEGenoa      VMM = "gce-genoa"        // Google Compute Engine, machines with Genoa: wider addresses
)

// A profile is everything the digest takes from a monitor.
type profile struct {
	vmsaProfile
	cpuidLast bool     // the CPUID page is measured after all other sections
	secMem    pageType // type of SEC_MEM sections
	needsVCPU bool     // the CPU signature enters the digest
	kernel    bool     // it hands kernel, initrd and command line to the firmware, with their hashes
	vmsaGPA   uint64
	source    string // what backs this profile
}

// The address of save areas is -1, cut to the guest's physical address bits and to a page.
const (
	vmsaGPA      = 0xfffffffff000  // 48 bits
	vmsaGPAGenoa = 0xffffffffff000 // 52 bits
)

var profiles = map[VMM]profile{
	QEMU: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9b, csAttrAP: 0x9b, ssAttr: 0x93, trAttr: 0x8b, gPAT: 0x7040600070406, mxcsr: 0x1f80, fcw: 0x37f},
		secMem: pageZero, needsVCPU: true, kernel: true, vmsaGPA: vmsaGPA, source: "sev-snp-measure; with a kernel, the report of a Milan machine that dstack published"},
	QEMUNoFPUInit: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9b, csAttrAP: 0x9b, ssAttr: 0x93, trAttr: 0x8b, gPAT: 0x7040600070406},
		secMem: pageZero, needsVCPU: true, kernel: true, vmsaGPA: vmsaGPA, source: "virtee/sev-snp-measure issue 49: AMD's older host kernels leave mxcsr and x87_fcw zero"},
	EC2: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9a, csAttrAP: 0x9b, ssAttr: 0x92, trAttr: 0x83, gPAT: 0x7040600070406, rdxFixed: true, rdx: 0x600},
		secMem: pageZero, cpuidLast: true, vmsaGPA: vmsaGPA, source: "sev-snp-measure, over a firmware of Amazon's"},
	EC22023: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9a, csAttrAP: 0x9b, ssAttr: 0x92, trAttr: 0x83, gPAT: 0x7040600070406, rdxFixed: true},
		secMem: pageZero, cpuidLast: true, vmsaGPA: vmsaGPA, source: "sev-snp-measure-go, over a firmware of Amazon's"},
	GCE: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9b, csAttrAP: 0x9b, ssAttr: 0x93, trAttr: 0x8b, gPAT: 0x70106, rdxFixed: true, rdx: 0x600},
		secMem: pageUnmeasured, vmsaGPA: vmsaGPA, source: "sev-snp-measure, gce-tcb-verifier"},
	GCEGenoa: {vmsaProfile: vmsaProfile{csAttrBSP: 0x9b, csAttrAP: 0x9b, ssAttr: 0x93, trAttr: 0x8b, gPAT: 0x70106, rdxFixed: true, rdx: 0x600},
		secMem: pageUnmeasured, vmsaGPA: vmsaGPAGenoa, source: "gce-tcb-verifier"},
}

// VMMs lists the monitors known.
func VMMs() []VMM { return []VMM{QEMU, QEMUNoFPUInit, EC2, EC22023, GCE, GCEGenoa} }

// ParseVMM reads a monitor's name, in any case.
func ParseVMM(s string) (VMM, error) {
	for _, v := range VMMs() {
		if strings.EqualFold(s, string(v)) {
			return v, nil
		}
	}
	return "", fmt.Errorf("vmm type %.40q: want one of %v", s, VMMs())
}

// NeedsVCPU says whether the vCPU type enters the digest under v.
func (v VMM) NeedsVCPU() bool { return profiles[v].needsVCPU }

// TakesKernel says whether v can hand a kernel to the firmware. Measure computes the digest all the same,
// as sev-snp-measure does, but under a cloud's monitor no machine will report it.
func (v VMM) TakesKernel() bool { return profiles[v].kernel }

// Source says what the profile of v was checked against.
func (v VMM) Source() string { return profiles[v].source }
