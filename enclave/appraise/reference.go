package appraise

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tally/enclave/appraise/amd"
	"tally/measure"
)

// proven is what hardware signed about the guest.
type proven struct {
	machine   string            // CHIP_ID, PPID or the name of a TPM's key
	registers map[string]string // hex by name, as in reference values
	parts     []measure.Part    // proven by the policy rather than by the release
	snp       *amd.Report       // of an SNP machine

	key         string // of a TPM that an SVSM keeps: the name of the quote's key, hex, and
	endorsement []byte // the TPMT_PUBLIC of its endorsement key
}

// parts are what must be proven together: each alone says little.
var parts = []measure.Part{measure.PartFirmware, measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot}

// required are the registers that must stand in statement and evidence alike, by TEE.
var required = map[string][]string{
	"snp":  {"launch_digest"},
	"tdx":  {"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"},
	"vtpm": {"pcr4", "pcr5", "pcr7", "pcr9", "pcr11", "pcr12", "pcr13"},
}

// compare holds the registers to the release's reference values: there must be one shape of one platform
// whose every value they are, and its values must cover the whole image.
func (a *appraisal) compare(tee string, p *proven) *refusal {
	rv := a.in.Reference
	best, names := "", map[string]bool{}
	bestLeft := len(required[tee]) + 1
	for rest := valuesOf(rv, tee); len(rest) > 0; {
		n := 1
		for n < len(rest) && reflect.DeepEqual(rest[n].Platform, rest[0].Platform) {
			n++
		}
		shape := rest[:n]
		rest = rest[n:]
		names[shape[0].Platform.Name] = true
		why, left := differs(shape, tee, p)
		if left == 0 {
			return a.covers(shape, p)
		}
		if left < bestLeft {
			best, bestLeft = why, left
		}
	}
	if best == "" {
		return &refusal{BadMeasurement, "a value of this kind of machine", fmt.Sprintf("the release %.64s %.64s has none for %s", rv.Name, rv.Version, tee), "release"}
	}
	return &refusal{BadMeasurement, best, registersOf(p), "release, platforms " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")}
}

func valuesOf(rv *measure.ReferenceValues, tee string) (all []measure.Value) {
	for _, v := range rv.Values {
		if v.Platform.TEE == tee {
			all = append(all, v)
		}
	}
	return all
}

// differs says the first register in which shape is not what was proven, and how many there are.
func differs(shape []measure.Value, tee string, p *proven) (first string, n int) {
	for _, name := range required[tee] {
		i := slices.IndexFunc(shape, func(v measure.Value) bool { return v.Register == name })
		want := "a value"
		if i >= 0 {
			want = shape[i].Digest.String()
		}
		if got, ok := p.registers[name]; !ok || i < 0 || want != got {
			if n++; first == "" {
				first = name + " " + want
			}
		}
	}
	return first, n
}

// covers wants firmware, kernel, initrd, command line and root proven together.
func (a *appraisal) covers(shape []measure.Value, p *proven) *refusal {
	have := slices.Clone(p.parts)
	for _, v := range shape {
		have = append(have, v.Covers...)
	}
	var missing []string
	for _, part := range parts {
		if !slices.Contains(have, part) {
			missing = append(missing, string(part))
		}
	}
	from := fmt.Sprintf("release %.64s %.64s, platform %s", a.in.Reference.Name, a.in.Reference.Version, shape[0].Platform.Name)
	if len(missing) > 0 {
		return &refusal{BadMeasurement, "all of firmware, kernel, initrd, cmdline and root", "the value covers no " + strings.Join(missing, ", "), from}
	}
	for _, name := range required[shape[0].Platform.TEE] {
		value := name + " " + p.registers[name]
		a.ok("measurement", value, value, from)
	}
	return nil
}

func registersOf(p *proven) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(p.registers)) {
		list = append(list, name+" "+p.registers[name])
	}
	return strings.Join(list, ", ")
}
