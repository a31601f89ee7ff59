// Package pcr computes the TPM PCRs of a UKI boot from the files alone: no TPM, no machine.
//
//	PCR 0         of an OVMF of which it is known what it changes in itself: its release, two volumes, separator (Firmware)
//	PCR 2, 3, 6   a separator; option ROMs would add to 2
//	PCR 4         "Calling EFI Application from Boot Option", separator, the UKI, and, with stubs before 258,
//	              its .linux (Authenticode each)
//	PCR 5         separator, GPT, the two ExitBootServices actions
//	PCR 7         the Secure Boot variables, separator; with Secure Boot on, the certificate that vouched
//	PCR 9         the load options and the initrd as the kernel's EFI stub gets them
//	PCR 11        each measured section of the UKI: name, content; then boot phases
//	PCR 8, 12-15  nothing
//
// An event extends a PCR: new = H(old ‖ digest of the event), from zero (TCG PC Client Platform Firmware
// Profile 1.06, section 2.4; systemd docs/TPM2_PCR_MEASUREMENTS.md). PCR 0 of other firmware depends
// on code that changes itself, PCR 1 on the machine's configuration and PCR 10 on IMA: they are not computed.
package pcr
