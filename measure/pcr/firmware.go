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
// PEI modules run in place. Where one of them has changed its own data before it is measured, the volume in
// the file says nothing about the digest: see Reason.
type Firmware struct {
	Version string                   `json:"crtm_version"`
	Digests map[Bank]FirmwareDigests `json:"digests"`

	reason string
}

// FirmwareDigests are those of the two volumes in one bank.
type FirmwareDigests struct {
	PEI Value `json:"pei"`
	DXE Value `json:"dxe"`
}

// inPlace are the releases of edk2 whose PEI volume is measured as it lies in the file, as real boots showed;
// of 2022.11 and 2025.02 they showed that it is not.
var inPlace = []string{"2026.08"}

// stable are the modules of such a volume, by name: each was there when a real boot's digest was the file's.
// SmmAccessPei, FaultTolerantWritePei and PeiVariable, in builds with SMM, are not among them: there it was another.
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
	v, err := ffs.ReadVolumes(image)
	if err != nil {
		return nil, err
	}
	f := &Firmware{Version: v.Version, Digests: map[Bank]FirmwareDigests{}, reason: undecided(v)}
	for _, bank := range banks {
		if newHash(bank) == nil {
			return nil, fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", bank)
		}
		l := &eventLog{bank: bank}
		f.Digests[bank] = FirmwareDigests{PEI: l.digest(v.PEI), DXE: l.digest(v.DXE)}
	}
	return f, nil
}

// Reason says why PCR 0 does not follow from the file, as a sentence without a stop; "" when it does.
func (f *Firmware) Reason() string { return f.reason }

func undecided(v *ffs.Volumes) string {
	switch {
	case !v.Measures:
		return "the firmware has no module that measures it (Tcg2Pei)"
	case v.Version == "":
		return "no string of the firmware's Tcg2Pei surely names its release"
	}
	if !slices.ContainsFunc(inPlace, func(release string) bool { return isRelease(v.Version, release) }) {
		return fmt.Sprintf("release %q measures its PEI volume after its modules may have changed their data; of %s it is known that they do not", v.Version, strings.Join(inPlace, ", "))
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

// Events are the events of PCR 0 in one of the banks that the digests are there for; without the PEI volume's
// when it does not follow from the file.
func (f *Firmware) Events(bank Bank) ([]Event, error) {
	d, ok := f.Digests[bank]
	if !ok {
		return nil, fmt.Errorf("bank %.20q: no digests of the firmware", bank)
	}
	l := &eventLog{bank: bank}
	if size := newHash(bank).Size(); len(d.PEI) != size || len(d.DXE) != size {
		return nil, fmt.Errorf("firmware: digests of %d and %d bytes, want %d", len(d.PEI), len(d.DXE), size)
	}
	covers := []eventlog.Part{eventlog.PartFirmware}
	if f.Version != "" {
		l.measure(0, "CRTM version", ffs.UTF16(f.Version)).Covers = covers
	}
	if f.reason == "" {
		l.add(0, "PEI firmware volume", d.PEI).Covers = covers
	}
	l.add(0, "DXE firmware volume", d.DXE).Covers = covers
	l.separator(0)
	return l.events, nil
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
		if _, err := f.Events(bank); err != nil {
			return err
		}
	}
	return nil
}
