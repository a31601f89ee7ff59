// Package tdx computes MRTD, the build-time measurement of an Intel TDX trust domain, from the firmware
// that the domain is built from.
//
// MRTD is one SHA-384 over what the VMM tells the TDX module while building (Intel TDX Module Base
// Specification, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND). All integers are little-endian:
//
//	page add  128 bytes: "MEM.PAGE.ADD" at 0, u64 guest physical address at 16, the rest zero
//	extend    128 bytes: "MR.EXTEND" at 0, u64 address at 16, the rest zero; then 256 bytes of contents
//
// The TDVF metadata of the firmware lists the sections. Every page of a section is added, unless its
// attribute PAGE_AUG defers it; with attribute MR_EXTEND every 256 bytes of it are extended, too. In OVMF
// only the boot firmware volume is: the variable store is added unmeasured and enters RTMR0 instead. So MRTD
// covers the firmware alone, and depends on neither memory size nor vCPUs.
//
// Hosts differ in order: see [Pass].
package tdx
