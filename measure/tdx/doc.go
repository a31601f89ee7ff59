// Package tdx computes what an Intel TDX trust domain reports of itself, from files alone: MRTD, its build-time
// measurement, and RTMR0 to RTMR3, which firmware, kernel and applications extend while it runs.
//
// # MRTD
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
// covers the firmware alone, and depends on neither memory size nor vCPUs. Hosts differ in order: see [Pass].
//
// # RTMRs
//
// RTMR' = SHA-384(RTMR ‖ digest of the event), from 48 zero bytes. PCR 1 and 7 of the TCG's profile map to
// RTMR0, 2 to 6 to RTMR1, 8 to 15 to RTMR2 (UEFI 2.10, section 38.4.1). In order, with what edk2's releases
// changed:
//
//	RTMR0  TD HOB (memory size; see tdHOB), configuration firmware volume,
//	       from 202505: fw_cfg BootMenu, bootorder (when the VMM hands over a kernel),
//	       SecureBoot, PK, KEK, db, dbx, dbt if there: as UEFI_VARIABLE_DATA; separator,
//	       ACPI table-loader, rsdp, tables as QEMU hands them out,
//	       from 202505: SMBIOS table without what differs between equal machines,
//	       BootOrder and Boot####, values alone; before 202411: separator.
//	       With Secure Boot on also the db entry that vouched, when the image is loaded.
//	RTMR1  kernel or UKI (Authenticode) handed over by the VMM, "Calling EFI Application from Boot Option",
//	       from 202411: separator; GPT and UKI started from a disk; inner kernel of a UKI with stubs
//	       before 258 (never with Secure Boot on); the two ExitBootServices actions
//	RTMR2  sections of a UKI with stubs from 256 on; load options; initrd
//	RTMR3  what applications say
//
// QEMU before 10.2 changes the kernel's setup header, from 10.0 on only for edk2 before 202502: see
// patchKernel. The load options are the command line with " initrd=initrd" behind it, from 202508 on with
// "initrd=initrd " in front.
//
// Rules are data with a name: [Hosts], [Firmwares] and [GCEShapes], put together by [ParseProfile]. What a
// profile leaves open is computed under each rule and labelled; what lacks an input is named.
package tdx
