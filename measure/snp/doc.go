// Package snp computes the launch digest that an AMD SEV-SNP guest's attestation report will hold, from
// the bytes the guest is launched from. Nothing is read but what the caller passes.
//
// The digest is a chain (SEV-SNP Firmware ABI, section 8.17.2): it starts as 48 zero bytes; for every
// 4 KiB page, in launch order, it becomes SHA-384 of the 112-byte PAGE_INFO:
//
//	0x00 48  digest so far
//	0x30 48  SHA-384 of the page for types NORMAL and VMSA, else zero
//	0x60  2  0x70, the length of this structure
//	0x62  1  page type     0x63 1  IMI: 0      0x64 4  VMPL permissions: 0
//	0x68  8  guest physical address
//
// Order: the firmware image, ending at 4 GiB; the sections its metadata names; one VMSA page a vCPU. What
// differs between virtual machine monitors is in the table of [VMM].
package snp
