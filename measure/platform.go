package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// A Platform is a kind of machine to measure for. The zero Platform is an error. Which fields there are
// depends on TEE, and so does the JSON form.
type Platform struct {
	Name string `json:"name"`
	TEE  string `json:"tee"` // snp, tdx or vtpm

	// Of snp.
	VMM           snp.VMM `json:"vmm"`                 // see snp.VMMs
	Firmware      string  `json:"firmware"`            // name of one of the image's firmware files
	KernelHashes  bool    `json:"kernel-hashes"`       // the VMM is given kernel, initrd and command line with their hashes
	VCPUType      string  `json:"vcpu-type,omitempty"` // QEMU CPU model
	VCPUs         []int   `json:"vcpus"`               // each number is one shape
	GuestFeatures uint64  `json:"guest-features"`      // SEV_FEATURES; Boot, below, is uki when the kernel handed over is the UKI, alone
	SVSM          string  `json:"svsm,omitempty"`      // name of the firmware file that is an SVSM under Firmware
	VarsSize      *int64  `json:"vars-size,omitempty"` // bytes of Firmware's variable store, with SVSM
	IGVM          string  `json:"igvm,omitempty"`      // name of the firmware file that is an IGVM file: it says everything but VMM

	// Of vtpm: a machine whose firmware loads the UKI from the disk, with a TPM. Firmware, above, may name it, for PCR 0;
	// Machine is with those whose PCR 0 depends on it.
	Bank       pcr.Bank           `json:"bank"`
	SecureBoot pcr.SecureBootForm `json:"secure-boot"` // how the firmware writes Secure Boot off
	Machine    pcr.Machine        `json:"machine,omitempty"`
	Phases     []string           `json:"phases,omitempty"` // of the boot, see pcr.Input

	// Of tdx, with Firmware above.
	Rules    string       `json:"profile"`             // HOST/FIRMWARE or gce/SHAPE/SEEN, see tdx.ParseProfile
	Boot     string       `json:"boot"`                // direct or uki; of snp absent or uki
	DiskSlot string       `json:"disk-slot,omitempty"` // PCI SLOT.FUNCTION of the virtio-blk device that a UKI is started from
	Shapes   []TDXShape   `json:"shapes"`              // each is one shape
	Events   []tdx.Digest `json:"rtmr3,omitempty"`     // what the application extends RTMR3 with
}

// maxPlatforms and maxShapes bound the work a list can ask for.
const (
	maxPlatforms = 64
	maxShapes    = 512

	maxPlatformsJSON = 1 << 20 // bytes
)

// ParsePlatforms reads a JSON list of platforms (in a spec the same is written in YAML). Unknown keys and
// an empty list are errors.
func ParsePlatforms(data []byte) ([]Platform, error) {
	if len(data) > maxPlatformsJSON {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(data), maxPlatformsJSON)
	}
	var raw []map[string]json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&raw); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the list")
	}
	for i, p := range raw {
		if err := checkKeys(p); err != nil {
			return nil, fmt.Errorf("platform %d: %w", i, err)
		}
	}
	var ps []Platform
	if err := json.Unmarshal(data, &ps); err != nil {
		return nil, err
	}
	if len(ps) == 0 || len(ps) > maxPlatforms {
		return nil, fmt.Errorf("%d platforms, want 1 to %d", len(ps), maxPlatforms)
	}
	seen := map[string]bool{}
	for i, p := range ps {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("platform %d: %w", i, err)
		}
		if seen[p.Name] {
			return nil, fmt.Errorf("platform %d: name %q twice", i, p.Name)
		}
		seen[p.Name] = true
	}
	return ps, nil
}

// A keySet is the keys of a kind of platform.
type keySet struct{ all, wanted []string }

// keys are those of each TEE, and of them those whose zero value would silently measure less.
var keys = map[string]keySet{
	"snp":  {[]string{"name", "tee", "vmm", "firmware", "kernel-hashes", "vcpu-type", "vcpus", "guest-features", "boot"}, []string{"kernel-hashes", "guest-features"}},
	"vtpm": {[]string{"name", "tee", "bank", "secure-boot", "firmware", "machine", "phases"}, []string{"bank", "secure-boot"}},
	"tdx":  {[]string{"name", "tee", "profile", "firmware", "boot", "disk-slot", "shapes", "rtmr3"}, []string{"profile", "boot", "shapes"}},
}

// checkKeys refuses keys that are unknown, also those that differ from a known one in case alone, and
// wants those spelled out whose zero value would silently measure less.
func checkKeys(p map[string]json.RawMessage) error {
	var tee string
	if raw, ok := p["tee"]; ok {
		if err := json.Unmarshal(raw, &tee); err != nil {
			return fmt.Errorf("tee: %w", err)
		}
	}
	k, ok := keys[tee]
	if !ok {
		return fmt.Errorf("tee %.40q: want \"snp\", \"tdx\" or \"vtpm\"", tee)
	}
	if _, is := p["svsm"]; is && tee == "snp" {
		k = svsmKeys
	} else if _, is := p["igvm"]; is && tee == "snp" {
		k = igvmKeys
	}
	if err := onlyKeys(p, k.all, k.wanted); err != nil {
		return err
	}
	if tee == "tdx" {
		return checkTDXKeys(p)
	}
	if raw, ok := p["firmware"]; ok && tee == "vtpm" && (string(raw) == `""` || string(raw) == "null") {
		return errors.New("firmware: empty: leave it out, or name one for PCR 0")
	}
	return nil
}

func (p *Platform) check() error {
	switch {
	case p.Name == "":
		return errors.New("name: missing")
	case p.TEE == "snp":
		return p.checkSNP()
	case p.TEE == "tdx":
		return p.checkTDX()
	case p.TEE == "vtpm":
		return p.checkVTPM()
	}
	return fmt.Errorf("tee %.40q: want \"snp\", \"tdx\" or \"vtpm\"", p.TEE)
}

// checkVTPM wants a bank that TPMs have and a known form of Secure Boot off.
func (p *Platform) checkVTPM() error {
	if _, err := pcr.ParseBank(string(p.Bank)); err != nil {
		return err
	}
	if p.SecureBoot != pcr.SecureBootEmpty && p.SecureBoot != pcr.SecureBootZero {
		return fmt.Errorf("secure-boot %.20q: want %q or %q", p.SecureBoot, pcr.SecureBootEmpty, pcr.SecureBootZero)
	}
	if p.Machine != "" {
		if p.Firmware == "" {
			return errors.New("machine: goes with firmware: PCR 0 alone may depend on it")
		}
		if _, err := pcr.ParseMachine(string(p.Machine)); err != nil {
			return err
		}
	}
	return pcr.CheckPhases(p.Phases)
}

func (p *Platform) checkSNP() error {
	if p.IGVM != "" {
		return p.checkIGVM()
	}
	if err := p.checkSVSM(); err != nil {
		return err
	}
	switch {
	case p.Firmware == "":
		return errors.New("firmware: missing")
	case len(p.VCPUs) == 0 || len(p.VCPUs) > maxShapes:
		return fmt.Errorf("vcpus: %d shapes, want 1 to %d", len(p.VCPUs), maxShapes)
	}
	if p.Boot != "" && (p.Boot != bootUKI || !p.KernelHashes) {
		return fmt.Errorf("boot %.20q: want it absent, or %q with kernel-hashes", p.Boot, bootUKI)
	}
	if v, err := snp.ParseVMM(string(p.VMM)); err != nil || v != p.VMM {
		return fmt.Errorf("vmm %.40q: want one of %v", p.VMM, snp.VMMs())
	}
	if p.KernelHashes && !p.VMM.TakesKernel() {
		return fmt.Errorf("kernel-hashes: vmm %s hands the firmware no kernel, its value covers the firmware alone", p.VMM)
	}
	if p.GuestFeatures&1 == 0 {
		return fmt.Errorf("guest-features %#x: bit 0 (SNPActive) is not set", p.GuestFeatures)
	}
	if p.VMM.NeedsVCPU() {
		if _, err := snp.VCPUSignature(p.VCPUType); err != nil {
			return err
		}
	} else if p.VCPUType != "" {
		return fmt.Errorf("vcpu-type %q: does not enter the digest on vmm %s", p.VCPUType, p.VMM)
	}
	return p.checkVCPUs()
}

func (p *Platform) checkVCPUs() error {
	last := 0
	for _, n := range p.VCPUs {
		if n <= last || n > snp.MaxVCPUs {
			return fmt.Errorf("vcpus %v: want ascending numbers from 1 to %d", p.VCPUs, snp.MaxVCPUs)
		}
		last = n
	}
	return nil
}
