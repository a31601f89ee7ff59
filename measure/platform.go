package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"tally/measure/snp"
)

// A Platform is a kind of machine to measure for. The zero Platform is an error.
type Platform struct {
	Name          string  `json:"name"`
	TEE           string  `json:"tee"`                 // snp
	VMM           snp.VMM `json:"vmm"`                 // see snp.VMMs
	Firmware      string  `json:"firmware"`            // name of one of the image's firmware files
	KernelHashes  bool    `json:"kernel-hashes"`       // the VMM is given kernel, initrd and command line with their hashes
	VCPUType      string  `json:"vcpu-type,omitempty"` // QEMU CPU model
	VCPUs         []int   `json:"vcpus"`               // each number is one shape
	GuestFeatures uint64  `json:"guest-features"`      // SEV_FEATURES
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

// checkKeys refuses keys that are unknown, also those that differ from a known one in case alone, and
// wants those spelled out whose zero value would silently measure less.
func checkKeys(p map[string]json.RawMessage) error {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if !slices.Contains([]string{"name", "tee", "vmm", "firmware", "kernel-hashes", "vcpu-type", "vcpus", "guest-features"}, key) {
			return fmt.Errorf("unknown key %.40q", key)
		}
	}
	for _, key := range []string{"kernel-hashes", "guest-features"} {
		if _, ok := p[key]; !ok {
			return fmt.Errorf("%s: missing", key)
		}
	}
	return nil
}

func (p *Platform) check() error {
	switch {
	case p.Name == "":
		return errors.New("name: missing")
	case p.TEE != "snp":
		return fmt.Errorf("tee %.40q: want \"snp\"", p.TEE)
	case p.Firmware == "":
		return errors.New("firmware: missing")
	case len(p.VCPUs) == 0 || len(p.VCPUs) > maxShapes:
		return fmt.Errorf("vcpus: %d shapes, want 1 to %d", len(p.VCPUs), maxShapes)
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
	last := 0
	for _, n := range p.VCPUs {
		if n <= last || n > snp.MaxVCPUs {
			return fmt.Errorf("vcpus %v: want ascending numbers from 1 to %d", p.VCPUs, snp.MaxVCPUs)
		}
		last = n
	}
	return nil
}
