package measure

import (
	"fmt"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// A Backing says what stands behind a profile's values, strongest first.
type Backing string

// The kinds of backing.
const (
	HardwareReport Backing = "hardware report" // the value equals what signed or published hardware reported
	RealBoot       Backing = "real boot"       // the value equals what the same firmware and kernel measured without the hardware
	PeerTool       Backing = "peer tool"       // the value equals that of an independent program of the field
	SourceReading  Backing = "source reading"  // the rule is read from source code, and nothing else was compared
)

// FirmwareOnly marks a value that covers the firmware and nothing that it starts: the same value is reported
// whatever kernel, initrd and command line the host hands over, so it never passes alone.
const FirmwareOnly = "firmware-only"

// A Profile is the named, versioned set of rules by which one kind of machine measures. A change of a rule
// is a new version.
type Profile struct {
	Name      string   `json:"name"`
	Version   int      `json:"version"`
	TEE       string   `json:"tee"`            // snp, tdx or vtpm
	Registers []string `json:"registers"`      // what a machine of this kind reports
	Covers    []Part   `json:"covers"`         // of an image whose command line has a root hash
	Mark      string   `json:"mark,omitempty"` // FirmwareOnly, or nothing
	Backing   Backing  `json:"backing"`        // the strongest kind there is
	Source    string   `json:"source"`         // what was compared, or read

	// Platform is the machine to compute for. It is no part of the table: Platform.Profile fills it in.
	Platform Platform `json:"-"`
}

// ID is the profile's name and version, as reference values carry it.
func (p Profile) ID() string { return fmt.Sprintf("%s/%d", p.Name, p.Version) }

// Profiles is the table of all profiles, in a fixed order. The rules of a TDX guest are those of a host and of a
// firmware too, which its platform names: they have rows of their own.
func Profiles() []Profile {
	all := append(snpProfiles(), tdxProfiles()...)
	for _, h := range tdx.Hosts() {
		all = append(all, tdxProfile("host-"+h.Name, Backing(h.Backing), h.Source))
	}
	for _, f := range tdx.Firmwares() {
		all = append(all, tdxProfile("firmware-"+f.Name, Backing(f.Backing), f.Source))
	}
	uki := Profile{Name: "vtpm-uki", Version: 1, TEE: "vtpm", Registers: vtpmRegisters(), Covers: []Part{PartKernel, PartInitrd, PartCmdline, PartRoot}, Backing: RealBoot,
		Source: "boots of OVMF with a software TPM, event by event; systemd-measure for PCR 11"}
	firmware := uki
	firmware.Name, firmware.Registers, firmware.Covers = "vtpm-uki-firmware", append([]string{eventlog.PCR(0)}, uki.Registers...), allParts()
	firmware.Source = "as vtpm-uki; PCR 0 by boots of OVMF 2025.02 and 2026.08 on q35 and pc, event by event"
	return append(all, uki, firmware)
}

// tdxProfile is the row of one half of a TDX guest's rules.
func tdxProfile(name string, b Backing, source string) Profile {
	return Profile{Name: "tdx-" + name, Version: 1, TEE: "tdx", Registers: []string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"}, Covers: allParts(), Backing: b, Source: source}
}

func snpProfiles() (all []Profile) {
	for _, v := range snp.VMMs() {
		f := Profile{Name: firmwareProfile(v), Version: 1, TEE: "snp", Registers: []string{snp.Register}, Covers: []Part{PartFirmware}, Mark: FirmwareOnly, Backing: backing(v, false), Source: v.Source()}
		if v.TakesKernel() {
			d := f
			d.Name, d.Covers, d.Mark, d.Backing = directProfile(v), allParts(), "", backing(v, true)
			u := d
			u.Name, u.Backing, u.Source = ukiProfile(v), SourceReading, "as "+d.Name+", with the UKI's hash as the kernel's; systemd src/boot/stub.c"
			all = append(all, d, u)
		}
		all = append(all, f)
	}
	return append(all,
		Profile{Name: "snp-qemu-svsm", Version: 1, TEE: "snp", Registers: []string{snp.Register}, Covers: []Part{PartFirmware}, Mark: FirmwareOnly, Backing: PeerTool,
			Source: "sev-snp-measure, whose suite has digests read on a machine with COCONUT-SVSM"},
		Profile{Name: "snp-qemu-igvm", Version: 1, TEE: "snp", Registers: []string{snp.Register}, Covers: []Part{PartFirmware}, Mark: FirmwareOnly, Backing: SourceReading,
			Source: "COCONUT's igvmmeasure and Microsoft's igvm, read; no file with a report was at hand"})
}

func allParts() []Part {
	return []Part{PartFirmware, PartKernel, PartInitrd, PartCmdline, PartRoot}
}

// short is a monitor's name inside that of a profile.
func short(v snp.VMM) string {
	return map[snp.VMM]string{snp.QEMU: "qemu", snp.QEMUNoFPUInit: "qemu-no-fpu-init", snp.EC2: "ec2", snp.EC22023: "ec2-2023", snp.GCE: "gce", snp.GCEGenoa: "gce-genoa"}[v]
}

func directProfile(v snp.VMM) string   { return "snp-" + short(v) + "-direct" }
func firmwareProfile(v snp.VMM) string { return "snp-" + short(v) + "-firmware" }
func ukiProfile(v snp.VMM) string      { return "snp-" + short(v) + "-uki" }

// backing is what stands behind a monitor's values with (direct) or without a kernel.
func backing(v snp.VMM, direct bool) Backing {
	switch {
	case v == snp.QEMU && direct:
		return HardwareReport
	case v == snp.QEMUNoFPUInit:
		return SourceReading
	}
	return PeerTool
}

// Profile returns the profile that p names by its parts, with p in it.
func (p Platform) Profile() (Profile, error) {
	if err := p.check(); err != nil {
		return Profile{}, err
	}
	name := "vtpm-uki"
	switch {
	case p.SVSM != "":
		name = "snp-qemu-svsm"
	case p.IGVM != "":
		name = "snp-qemu-igvm"
	case p.TEE == "snp" && p.Boot == bootUKI:
		name = ukiProfile(p.VMM)
	case p.TEE == "snp" && p.KernelHashes:
		name = directProfile(p.VMM)
	case p.TEE == "snp":
		name = firmwareProfile(p.VMM)
	case p.TEE == "tdx":
		name = p.tdxProfile()
	case p.Firmware != "":
		name = "vtpm-uki-firmware"
	}
	all := Profiles()
	i := slices.IndexFunc(all, func(q Profile) bool { return q.Name == name })
	if i < 0 {
		return Profile{}, fmt.Errorf("profile %q: unknown", name)
	}
	all[i].Platform = p
	return all[i], nil
}
