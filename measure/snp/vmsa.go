package snp

import "encoding/binary"

// Segment attributes and selectors of the VMSA that differ between monitors.
type vmsaProfile struct {
	csAttrBSP, csAttrAP uint16
	ssAttr, trAttr      uint16
	rdxFixed            bool   // rdx does not hold the CPU signature but rdx
	rdx                 uint64 //
	gPAT                uint64
	mxcsr               uint32
	fcw                 uint16
}

// vmsa returns the 4096-byte save area a vCPU starts from (AMD64 APM volume 2, table B-4). The boot
// processor starts at the reset vector, the others at the firmware's reset address eip.
func (p *vmsaProfile) vmsa(bsp bool, eip, signature uint32, features uint64) []byte {
	b := make([]byte, pageSize)
	le := binary.LittleEndian
	seg := func(off int, sel, attr uint16, limit uint32, base uint64) {
		le.PutUint16(b[off:], sel)
		le.PutUint16(b[off+2:], attr)
		le.PutUint32(b[off+4:], limit)
		le.PutUint64(b[off+8:], base)
	}
	csAttr, csBase, rip := p.csAttrAP, uint64(eip&0xffff0000), uint64(eip&0xffff)
	if bsp {
		csAttr, csBase, rip = p.csAttrBSP, 0xffff0000, 0xfff0
	}
	seg(0x00, 0, 0x93, 0xffff, 0)               // es
	seg(0x10, 0xf000, csAttr, 0xffff, csBase)   // cs
	seg(0x20, 0, p.ssAttr, 0xffff, 0)           // ss
	seg(0x30, 0, 0x93, 0xffff, 0)               // ds
	seg(0x40, 0, 0x93, 0xffff, 0)               // fs
	seg(0x50, 0, 0x93, 0xffff, 0)               // gs
	seg(0x60, 0, 0, 0xffff, 0)                  // gdtr
	seg(0x70, 0, 0x82, 0xffff, 0)               // ldtr
	seg(0x80, 0, 0, 0xffff, 0)                  // idtr
	seg(0x90, 0, p.trAttr, 0xffff, 0)           // tr
	le.PutUint64(b[0xd0:], 0x1000)              // efer: SVME
	le.PutUint64(b[0x148:], 0x40)               // cr4: MCE
	le.PutUint64(b[0x158:], 0x10)               // cr0: ET
	le.PutUint64(b[0x160:], 0x400)              // dr7
	le.PutUint64(b[0x168:], 0xffff0ff0)         // dr6
	le.PutUint64(b[0x170:], 0x2)                // rflags
	le.PutUint64(b[0x178:], rip)                // rip
	le.PutUint64(b[0x268:], p.gPAT)             // g_pat
	le.PutUint64(b[0x310:], p.rdxOf(signature)) // rdx
	le.PutUint64(b[0x3b0:], features)           // sev_features
	le.PutUint64(b[0x3e8:], 1)                  // xcr0
	le.PutUint32(b[0x408:], p.mxcsr)            // mxcsr
	le.PutUint16(b[0x410:], p.fcw)              // x87_fcw
	return b
}

func (p *vmsaProfile) rdxOf(signature uint32) uint64 {
	if p.rdxFixed {
		return p.rdx
	}
	return uint64(signature)
}
