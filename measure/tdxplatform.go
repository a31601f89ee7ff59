package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"tally/measure/tdx"
)

// A TDXShape is one machine: what RTMR0 depends on beside the firmware.
type TDXShape struct {
	VCPUs  int         `json:"vcpus"`
	Memory uint64      `json:"memory"`         // MiB
	ACPI   *tdx.Tables `json:"acpi,omitempty"` // digests, as tally measure acpi capture records them; absent on gce
}

// The ways in which a trust domain starts an image.
const (
	bootDirect = "direct" // the VMM hands over kernel, initrd and command line
	bootUKI    = "uki"    // the firmware starts the UKI from the disk
)

// checkTDXKeys holds the keys of each shape to the known ones, spelled as they are.
func checkTDXKeys(p map[string]json.RawMessage) error {
	var shapes []map[string]json.RawMessage
	if err := json.Unmarshal(p["shapes"], &shapes); err != nil {
		return fmt.Errorf("shapes: %w", err)
	}
	for i, s := range shapes {
		if err := onlyKeys(s, []string{"vcpus", "memory", "acpi"}, []string{"vcpus", "memory"}); err != nil {
			return fmt.Errorf("shapes: %d: %w", i, err)
		}
		if s["acpi"] == nil {
			continue
		}
		var tables map[string]json.RawMessage
		if err := json.Unmarshal(s["acpi"], &tables); err != nil {
			return fmt.Errorf("shapes: %d: acpi: %w", i, err)
		}
		if err := onlyKeys(tables, []string{"tables", "loader", "rsdp", "smbios"}, []string{"tables", "loader", "rsdp"}); err != nil {
			return fmt.Errorf("shapes: %d: acpi: %w", i, err)
		}
	}
	return nil
}

// onlyKeys wants the keys of m to be known and those that are wanted to be there.
func onlyKeys(m map[string]json.RawMessage, known, wanted []string) error {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, key) {
			return fmt.Errorf("unknown key %.40q", key)
		}
	}
	for _, key := range wanted {
		if _, ok := m[key]; !ok {
			return fmt.Errorf("%s: missing", key)
		}
	}
	return nil
}

// checkTDX wants rules that leave nothing open, and shapes that fit them.
func (p *Platform) checkTDX() error {
	rules, err := p.tdxRules()
	switch {
	case err != nil:
		return err
	case p.Firmware == "":
		return errors.New("firmware: missing")
	case p.Boot != bootDirect && p.Boot != bootUKI || rules.GCE != nil && p.Boot != bootUKI:
		return fmt.Errorf("boot %.20q: want %q or %q, on gce %q", p.Boot, bootDirect, bootUKI, bootUKI)
	case len(p.Shapes) == 0 || len(p.Shapes) > maxShapes || rules.GCE != nil && len(p.Shapes) != 1:
		return fmt.Errorf("shapes: %d, want 1 to %d, on gce 1", len(p.Shapes), maxShapes)
	case len(p.Events) > maxShapes:
		return fmt.Errorf("rtmr3: %d events, want at most %d", len(p.Events), maxShapes)
	}
	if _, err := p.diskSlot(); err != nil {
		return err
	}
	for i, s := range p.Shapes {
		if s.VCPUs < 1 || s.VCPUs > 4096 || s.Memory == 0 || s.Memory > 1<<26 || (s.ACPI == nil) != (rules.GCE != nil) {
			return fmt.Errorf("shapes: %d: vcpus %d, memory %d MiB: want both, and acpi unless on gce", i, s.VCPUs, s.Memory)
		}
		if slices.ContainsFunc(p.Shapes[:i], func(o TDXShape) bool { return reflect.DeepEqual(o, s) }) {
			return fmt.Errorf("shapes: %d: twice", i)
		}
	}
	return nil
}

// tdxRules reads the platform's rules: one host and one firmware, or one generation of a gce shape.
func (p *Platform) tdxRules() (tdx.Profile, error) {
	r, err := tdx.ParseProfile(p.Rules)
	if err != nil {
		return r, err
	}
	if r.GCE == nil && (len(r.Hosts) != 1 || len(r.Firmwares) != 1) || r.GCE != nil && len(r.GCE.Seen) != 1 {
		return r, fmt.Errorf("profile %.80q: want HOST/FIRMWARE or gce/SHAPE/SEEN: one set of rules", p.Rules)
	}
	return r, nil
}

// diskSlot reads where the boot disk is; nil when the image is not started from it.
func (p *Platform) diskSlot() (*tdx.PCIAddress, error) {
	gce := p.tdxProfile() == "tdx-gce-uki"
	if wanted := p.Boot == bootUKI && !gce; wanted != (p.DiskSlot != "") {
		return nil, fmt.Errorf("disk-slot %.20q: want it with boot %q, but not on gce", p.DiskSlot, bootUKI)
	}
	if p.DiskSlot == "" {
		return nil, nil
	}
	a, err := tdx.ParsePCIAddress(p.DiskSlot)
	return &a, err
}
