package pcr

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tally/measure/eventlog"
	"tally/measure/internal/ffs"
)

// A Firmware is what an OVMF measures of itself into PCR 0 (edk2 SecurityPkg/Tcg/Tcg2Pei/Tcg2Pei.c, MeasureCRTMVersion and
// MeasureFvImage):
//
//	CRTM version          PcdFirmwareVersionString, UTF-16 with a NUL
//	PEI firmware volume   whole, where it runs
//	DXE firmware volume   whole
//	separator
//
// PEI modules run in place, and those up to the one that finds memory may have changed their own data before they are
// measured. In some releases none does; in one PeiCore alone does, and what it keeps there follows from the machine
// type. Of others the volume in the file says nothing about the digest: see Reason.
type Firmware struct {
	Version string                   `json:"crtm_version"`
	Digests map[Bank]FirmwareDigests `json:"digests"`

	reason string
}

// FirmwareDigests are those of the two volumes in one bank. That of PEI is one for all machines, or there is one for
// each type.
type FirmwareDigests struct {
	PEI   Value             `json:"pei,omitempty"`
	PEIOn map[Machine]Value `json:"pei_on,omitempty"`
	DXE   Value             `json:"dxe"`
}

// inPlace are the releases of edk2 whose PEI volume is measured as it lies in the file, and timerKept those of which
// PeiCore has stored the port of the ACPI timer by then: as real boots showed. Of 2022.11 they showed that more is changed.
var (
	inPlace   = []string{"2026.08"}
	timerKept = []string{"2025.02"}
)

// stable are the modules of such volumes, by name: each was there when a real boot's digest was as computed.
// SmmAccessPei, FaultTolerantWritePei and PeiVariable, in builds with SMM, are not among them: there it was another, for
// PlatformPei keeps addresses then that depend on the size of memory.
var stable = map[string]string{
	"1b45cc0a-156a-428a-af62-49864da0e6e6": "apriori file",
	"52c05b14-0b98-496c-bc3b-04b50211d680": "PeiCore",
	"9b3ada4f-ae56-4c24-8dea-f03b7558ae50": "PcdPeim",
	"a3610442-e69f-4df3-82ca-2360c4031a23": "ReportStatusCodeRouterPei",
	"9d225237-fa01-464c-a949-baabc02d31d0": "StatusCodeHandlerPei",
	"fcb3a3d6-6274-411c-a548-bd0e717d533a": "TdTcg2Pei",
	"222c386d-5abc-4fb4-b124-fbb82488acf4": "PlatformPei",
	"86d70125-baa3-4296-a62f-602bebbb9081": "DxeIpl",
	"89e549b0-7cfe-449d-9ba3-10d8b2312d71": "S3Resume2Pei",
	"edadeb9d-ddba-48bd-9d22-c1c169c8c5c6": "CpuMpPei",
	"280251c4-1d09-4035-9062-839acb5f18c1": "CpuMpPei, without INIT-SIPI-SIPI",
	"f12f698a-e506-4a1b-b32e-6920e55da1c4": "TpmMmioSevDecryptPei",
	"8ad3148f-945f-46b4-8acd-71469ea73945": "Tcg2ConfigPei",
	"2be1e4a6-6505-43b3-9ffc-a3c8330e0432": "TcgPei",
	"a0c98b77-cba5-4bb8-993b-4af6ce33ece4": "Tcg2Pei",
	"47727552-a54b-4a84-8cc1-bff23e239636": "Tcg2PlatformPei",
}

// ReadFirmware computes the digests of a firmware image, with or without a variable store, in some banks.
func ReadFirmware(image []byte, banks ...Bank) (*Firmware, error) {
	read, err := ffs.ReadVolumes(image)
	if err != nil {
		return nil, err
	}
	v := volumes{read}
	f := &Firmware{Version: v.Version, Digests: map[Bank]FirmwareDigests{}, reason: undecided(read)}
	for _, bank := range banks {
		if newHash(bank) == nil {
			return nil, fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", bank)
		}
		l := &eventLog{bank: bank}
		d := FirmwareDigests{PEI: l.digest(v.PEI), DXE: l.digest(v.DXE)}
		if f.reason == "" && v.isAnyOf(timerKept) {
			d.PEI, d.PEIOn = nil, map[Machine]Value{}
			for m := range timerPorts {
				d.PEIOn[m] = l.digest(timed(v.Volumes, timerVariable(v.Volumes), m))
			}
		}
		f.Digests[bank] = d
	}
	return f, nil
}

// volumes are those of a firmware.
type volumes struct{ *ffs.Volumes }

func (v volumes) isAnyOf(releases []string) bool {
	return slices.ContainsFunc(releases, func(release string) bool { return isRelease(v.Version, release) })
}

// Reason says why PCR 0 does not follow from the file, as a sentence without a stop; "" when it does, on each machine
// type at least.
func (f *Firmware) Reason() string { return f.reason }

// NeedsMachine says whether PCR 0 is another on each machine type.
func (f *Firmware) NeedsMachine() bool {
	for _, d := range f.Digests {
		if d.PEIOn != nil {
			return true
		}
	}
	return false
}

func undecided(v *ffs.Volumes) string {
	switch {
	case !v.Measures:
		return "the firmware has no module that measures it (Tcg2Pei)"
	case v.Version == "":
		return "no string of the firmware's Tcg2Pei surely names its release"
	}
	switch all := (volumes{v}); {
	case all.isAnyOf(timerKept) && timerVariable(v) < 0:
		return fmt.Sprintf("release %q, and PeiCore has no place surely known where it keeps the port of the ACPI timer", v.Version)
	case !all.isAnyOf(timerKept) && !all.isAnyOf(inPlace):
		known := slices.Sorted(slices.Values(append(slices.Clone(timerKept), inPlace...)))
		return fmt.Sprintf("release %q measures its PEI volume after its modules may have changed their data; of %s it is known what they do", v.Version, strings.Join(known, ", "))
	}
	for _, m := range v.Modules {
		if stable[m.String()] == "" {
			return fmt.Sprintf("PEI module %s may have changed its data before it is measured, as in builds with SMM", m)
		}
	}
	return ""
}

// isRelease says whether a version is that release, with whatever a distribution added.
func isRelease(version, release string) bool {
	rest, ok := strings.CutPrefix(version, release)
	return ok && (rest == "" || !strings.ContainsRune("0123456789.", rune(rest[0])))
}

// Events are the events of PCR 0 on a machine, in one of the banks that the digests are there for; without the PEI
// volume's when it does not follow from the file. The machine is "" where it does not matter, or for want of one.
func (f *Firmware) Events(bank Bank, m Machine) ([]Event, error) {
	d, ok := f.Digests[bank]
	if !ok {
		return nil, fmt.Errorf("bank %.20q: no digests of the firmware", bank)
	}
	if err := d.check(newHash(bank).Size()); err != nil {
		return nil, err
	}
	pei := d.PEI
	if d.PEIOn != nil {
		pei = d.PEIOn[m]
	}
	l := &eventLog{bank: bank}
	covers := []eventlog.Part{eventlog.PartFirmware}
	if f.Version != "" {
		l.measure(0, "CRTM version", ffs.UTF16(f.Version)).Covers = covers
	}
	if f.reason == "" && pei != nil {
		l.add(0, "PEI firmware volume", pei).Covers = covers
	}
	l.add(0, "DXE firmware volume", d.DXE).Covers = covers
	l.separator(0)
	return l.events, nil
}

// check wants digests of size bytes: of PEI one, or one for each machine type.
func (d FirmwareDigests) check(size int) error {
	pei := []Value{d.PEI}
	if d.PEIOn != nil {
		if d.PEI != nil || len(d.PEIOn) != len(timerPorts) {
			return fmt.Errorf("firmware: digests of the PEI volume on %d machine types and on any, want all %d or one", len(d.PEIOn), len(timerPorts))
		}
		pei = pei[:0]
		for m := range timerPorts {
			pei = append(pei, d.PEIOn[m])
		}
	}
	for _, v := range append(pei, d.DXE) {
		if len(v) != size {
			return fmt.Errorf("firmware: digest of %d bytes, want %d", len(v), size)
		}
	}
	return nil
}

// Check holds what was read from a file to what ReadFirmware gives: a release of printable ASCII, which becomes
// UTF-16, and digests of known banks. A nil Firmware is good.
func (f *Firmware) Check() error {
	if f == nil {
		return nil
	}
	if f.Version == "" || len(f.Version) > 128 || strings.ContainsFunc(f.Version, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return fmt.Errorf("crtm_version %.140q: want 1 to 128 characters of printable ASCII", f.Version)
	}
	if len(f.Digests) == 0 {
		return errors.New("digests: want those of a bank")
	}
	for bank := range f.Digests {
		if _, err := ParseBank(string(bank)); err != nil {
			return err
		}
		if _, err := f.Events(bank, ""); err != nil {
			return err
		}
		if f.Digests[bank].PEIOn == nil == f.NeedsMachine() {
			return errors.New("digests: of the PEI volume on each machine type in one bank, on any in another")
		}
	}
	return nil
}
