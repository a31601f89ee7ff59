package eventlog

import (
	"bytes"
	"strings"
)

// A known is one row of the table of known causes. Empty fields match everything. The order is that of
// precedence: the first row that fits names the cause.
type known struct {
	kind      Kind
	predicted string // part of the predicted event's name
	logged    string // part of the logged event's type and text
	cause     string
}

// causes is what made real machines differ (where each was seen: doc comments of the packages that
// predict the event, and the release notes of the projects named).
var causes = []known{
	{Extra, "", "EV_EFI_VARIABLE_AUTHORITY", "Secure Boot is on: a key of db or a shim vouched for what was started"},
	{Extra, "", "EV_EFI_BOOT_SERVICES_DRIVER", "an option ROM or driver ran: attach devices with romfile= empty"},
	{Extra, "UKI", "EV_EFI_BOOT_SERVICES_APPLICATION", "another program ran before the UKI: a boot manager or shim"},
	{Extra, "", "EV_EFI_BOOT_SERVICES_APPLICATION", "one more EFI program ran: a boot manager, a shim, or the inner kernel, which systemd's stub up to 257 starts as one"},
	{Missing, ".linux (Authenticode)", "", "the stub started the kernel without measuring it: systemd's stub from 258 on"},
	{Extra, "", "smbios:", "the stub measured SMBIOS tables: systemd's stub from 261 on"},
	{Extra, "", "enter-initrd", "systemd in the initrd measured a boot phase (systemd-pcrphase): name the phases, or mask the unit"},
	{Extra, "", "leave-initrd", "systemd measured a boot phase (systemd-pcrphase): name the phases, or mask the unit"},
	{Extra, "", "nvpcr", "systemd 259 or later measured its NvPCR separator"},
	{Extra, "", "EV_SEPARATOR", "one more separator: systemd-pcrosseparator (261), or an edk2 release that puts the ready-to-boot separator here (202411 and later: RTMR1)"},
	{Missing, "separator", "", "a separator is absent: edk2 before 202411 puts the ready-to-boot separator into RTMR0, later ones into RTMR1"},
	{Extra, "", "EV_EFI_HANDOFF_TABLES", "the firmware measured SMBIOS tables: edk2 202505 or later"},
	{Extra, "", "EV_PLATFORM_CONFIG_FLAGS", "the firmware measured a fw_cfg item: edk2 202505 or later"},
	{Extra, "", "EV_IPL", "one more section, addon, credential or command line was measured by the stub or boot manager"},
	{Changed, "GPT", "", "the partition table is another: a grown or moved partition (systemd-repart, growpart, a resized disk), or another disk"},
	{Changed, "variable SecureBoot", "", "Secure Boot is on, or the firmware spells off in the other form"},
	{Changed, "variable ", "", "other keys are enrolled in the firmware's variable store"},
	{Changed, "UKI", "", "another UKI was started"},
	{Changed, ".linux (Authenticode)", "", "another kernel is inside the UKI, or the kernel was patched on the way (QEMU before 10.2 patches the header of -kernel)"},
	{Changed, ".cmdline", "", "the UKI's command line is another"},
	{Changed, ".initrd", "", "the UKI's initrd is another"},
	{Changed, ".linux", "", "the UKI's kernel is another"},
	{Changed, ".", "", "this section of the UKI is another"},
	{Changed, "load options", "", "the kernel got another command line: changed by the host, an addon or a boot entry"},
	{Changed, "initrd", "", "the kernel got another initrd: another file, an addon, credentials, or another release of the stub"},
	{Changed, "kernel", "", "another kernel, or QEMU patched its header (before 10.2, or an edk2 before 202502)"},
	{Changed, "CRTM version", "", "the firmware is of another release"},
	{Changed, "DXE firmware volume", "", "the firmware is another build"},
	{Changed, "PEI firmware volume", "", "the firmware is another build, or a module of it changed its own data before it was measured"},
	{Changed, "TD HOB", "", "the machine has another memory size"},
	{Changed, "configuration firmware volume", "", "the firmware's variable store is another"},
	{Changed, "ACPI", "", "the ACPI tables are others: vCPUs, devices, memory, or the QEMU release"},
	{Changed, "table-loader", "", "the ACPI tables are others: vCPUs, devices, memory, or the QEMU release"},
	{Changed, "Boot", "", "the boot entries are others: devices, -boot options, or the edk2 release"},
	{Missing, "Exit Boot Services", "", "the log was read before the kernel started, or ends early"},
	{Missing, "phase", "", "the guest did not measure this boot phase: systemd-pcrphase is masked or absent"},
	{Changed, "phase", "", "another boot phase"},
	{Changed, "application event", "", "the application measured something else"},
}

// cause names the likely cause of d: first by the digests of other rules, then by the table.
func cause(d *Difference, want []Event, got []Logged) string {
	if i := d.Position - 1; i < len(want) && d.Kind == Changed {
		for _, o := range want[i].Others {
			if bytes.Equal(o.Digest, d.Got) {
				return o.Cause
			}
		}
	}
	for _, k := range causes {
		if k.kind == d.Kind && strings.Contains(d.Predicted, k.predicted) && strings.Contains(d.Logged, k.logged) {
			return k.cause
		}
	}
	switch {
	case d.Kind == Missing && d.Position > len(got):
		return "the log ends here: read too early, or another path of boot"
	case d.Kind == Changed && len(want) > 0 && d.Position <= len(want):
		return "not known: what was measured here is other than predicted"
	}
	return "not known: an event that the prediction does not have, or the other way round"
}
