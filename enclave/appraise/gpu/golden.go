package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// manifests finds what the report says it runs, and joins the measurements.
func (d *judged) manifests() error {
	d.golden = map[int][]Digest{}
	versions := map[string]string{"vbios": d.VBIOS}
	if !d.Arch.Switch() {
		versions["driver"] = d.Driver
	}
	for _, part := range []string{"driver", "vbios"} {
		if want, ok := versions[part]; ok {
			if err := d.manifest(part, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// manifest takes, of the manifests for this chip and version that are in order, the one whose measurements are
// the report's. There can be several: boards differ, and their manifests do not name them.
func (d *judged) manifest(part, version string) error {
	var failed error
	var first *rimState
	for i := range d.v.rims {
		s := &d.v.rims[i]
		if s.rim.Product != d.Chip || !strings.EqualFold(s.rim.Version, version) {
			continue
		}
		if err := d.v.manifest(s); err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		if len(d.differing(s.rim.Measurements)) == 0 {
			return d.join(part, s)
		}
		first = cmp.Or(first, s)
	}
	switch {
	case first != nil: // measurements will say what differs
		return d.join(part, first)
	case failed != nil:
		return failed
	}
	return refuse(RIMMissing, "no manifest of the %s of %s, version %s", part, d.Chip, version)
}

func (d *judged) join(part string, s *rimState) error {
	for index, alternatives := range s.rim.Measurements {
		if _, ok := d.golden[index]; ok {
			return refuse(RIMConflict, "index %d is active in the manifests of both driver and VBIOS", index)
		}
		d.golden[index] = alternatives
	}
	d.Checks = append(d.Checks, d.v.passed("rim-"+part, s))
	return nil
}

// nvdecIndex is the one measurement that does not count when NVDEC0 is disabled.
const nvdecIndex, nvdecDisabled = 35, 0x55

// counts says whether a measurement has to be as a manifest says.
func (d *judged) counts(index int) bool {
	v := d.report.Opaque[FieldNVDEC0]
	return index != nvdecIndex || len(v) != 1 || v[0] != nvdecDisabled
}

// differing returns the indices at which the report has none of the alternatives.
func (d *judged) differing(golden map[int][]Digest) (wrong []int) {
	for index, alternatives := range golden {
		got, ok := d.report.Blocks[index]
		if d.counts(index) && (!ok || !slices.Contains(alternatives, got)) {
			wrong = append(wrong, index)
		}
	}
	slices.Sort(wrong)
	return wrong
}

func (d *judged) measurements() error {
	if wrong := d.differing(d.golden); len(wrong) > 0 {
		return refuse(BadMeasurement, "measurements %v are none of their manifests' alternatives", wrong)
	}
	for index := range d.golden {
		if d.counts(index) {
			d.Measured++
		} else {
			d.Passed++
		}
	}
	for index := range d.report.Blocks {
		if _, ok := d.golden[index]; !ok {
			d.Uncovered++
		}
	}
	d.ok("measurement", fmt.Sprintf("%d measurements", len(d.golden)), fmt.Sprintf("%d equal, %d passed over, %d that no manifest covers", d.Measured, d.Passed, d.Uncovered), "RIM")
	return nil
}
