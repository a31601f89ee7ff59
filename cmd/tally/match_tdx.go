package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"tally/internal/cli"
	"tally/measure"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// A quoteMatch is tally.match/v1 for a TDX quote.
type quoteMatch struct {
	Schema    string          `json:"schema"`
	Tried     int             `json:"tried"`
	Inputs    string          `json:"inputs"` // the set of files that explains most
	Registers []registerMatch `json:"registers"`
	Reason    string          `json:"reason,omitempty"`
}

// A registerMatch says under which rules a register of the quote comes about.
type registerMatch struct {
	Register  string     `json:"register"`
	Digest    tdx.Digest `json:"digest"`
	State     string     `json:"state"` // explained, unexplained, or not-computed: some input is missing
	Label     string     `json:"label,omitempty"`
	Hosts     []string   `json:"hosts,omitempty"`
	Firmwares []string   `json:"firmwares,omitempty"`
	Hint      string     `json:"hint,omitempty"`
}

// States of a register.
const (
	explained   = "explained"
	unexplained = "unexplained"
	notComputed = "not-computed"
)

// isQuote says whether a file starts like a TDX quote: version 4 or 5, TEE type 0x81. So does an SNP report of these
// versions from a guest whose SVN is 0x81, but for its length: a quote with its signature is longer.
func isQuote(b []byte) bool {
	return len(b) > 8 && len(b) != snp.ReportSize && (b[0] == 4 || b[0] == 5) && b[1] == 0 && bytes.Equal(b[4:8], []byte{0x81, 0, 0, 0})
}

// matchQuote explains the registers of a quote one by one.
func matchQuote(c *cli.Context, e *env, data []byte) error {
	q, err := tdx.ParseQuote(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Args().First(), err)
	}
	if c.IsSet("values") {
		return matchQuoteValues(c, e, q)
	}
	if err := refuseEmptyLists(c, "ovmf", "kernel", "initrd", "memory"); err != nil {
		return err
	}
	switch {
	case !c.IsSet("ovmf"):
		return usagef("--ovmf is missing")
	case !c.IsSet("kernel") && (c.IsSet("initrd") || c.IsSet("append")):
		return usagef("--initrd and --append need --kernel")
	}
	sets, err := quoteSets(c)
	if err != nil {
		return err
	}
	a := quoteMatch{Schema: "tally.match/v1"}
	best := -1
	for _, s := range sets {
		r, err := s.compute()
		if err != nil {
			return fmt.Errorf("%s: %w", s.firmware, err)
		}
		a.Tried += len(r.Registers)
		if m, n := explain(q, r); n > best {
			best, a.Inputs, a.Registers = n, s.String(), m
		}
	}
	return printQuoteMatch(e, a)
}

// matchQuoteValues compares a quote with the reference values of each TDX platform and shape.
func matchQuoteValues(c *cli.Context, e *env, q *tdx.Quote) error {
	for _, f := range []string{"ovmf", "kernel", "initrd", "append", "memory", "acpi-tables"} {
		if c.IsSet(f) {
			return usagef("want either --values, or --ovmf with --kernel, --initrd and --append")
		}
	}
	path := c.String("values")
	data, err := readAtMost(path, maxReferenceValues)
	if err != nil {
		return err
	}
	rv, err := measure.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	a, best := quoteMatch{Schema: "tally.match/v1"}, -1
	for rest := tdxReferenceValues(rv); len(rest) > 0; {
		n := 1
		for n < len(rest) && reflect.DeepEqual(rest[n].Platform, rest[0].Platform) {
			n++
		}
		a.Tried += n
		if m, k := explain(q, resultOf(rest[:n])); k > best {
			best, a.Inputs, a.Registers = k, shapeOf(rest[0].Platform), m
		}
		rest = rest[n:]
	}
	if best < 0 {
		return fmt.Errorf("%s: no values of a TDX platform", path)
	}
	return printQuoteMatch(e, a)
}

func shapeOf(p measure.Platform) string {
	text := fmt.Sprintf("platform %s, %s", p.Name, p.Rules)
	for _, s := range p.Shapes {
		text += fmt.Sprintf(", %d vcpus, %d MiB", s.VCPUs, s.Memory)
	}
	return text
}

func tdxReferenceValues(rv *measure.ReferenceValues) (all []measure.Value) {
	for _, v := range rv.Values {
		if v.Platform.TEE == "tdx" {
			all = append(all, v)
		}
	}
	return all
}

// resultOf is the values of one platform and shape in the form that explain reads.
func resultOf(values []measure.Value) *tdx.Result {
	r := new(tdx.Result)
	for _, v := range values {
		x := tdx.Register{Register: v.Register}
		copy(x.Digest[:], v.Digest)
		r.Registers = append(r.Registers, x)
	}
	return r
}

// explain says of each register of q which of the computed values it is, and counts those explained.
func explain(q *tdx.Quote, r *tdx.Result) (all []registerMatch, n int) {
	for _, name := range []string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"} {
		m := registerMatch{Register: name, Digest: q.Registers()[name], State: notComputed, Hint: hints[name]}
		for _, v := range r.Registers {
			if v.Register != name {
				continue
			}
			if m.State == notComputed {
				m.State = unexplained
			}
			if v.Digest == m.Digest {
				m.State, m.Label, m.Hint = explained, v.Label, ""
				m.Hosts, m.Firmwares = v.Hosts, v.Firmwares
				n++
				break
			}
		}
		all = append(all, m)
	}
	return all, n
}

// hints say what enters a register.
var hints = map[string]string{
	"mrtd":  "another firmware",
	"rtmr0": "another memory size, variable store, ACPI tables (vCPUs, devices, QEMU release) or edk2 release",
	"rtmr1": "another kernel, or a QEMU and edk2 release that hand it over in another form",
	"rtmr2": "another command line or initrd",
	"rtmr3": "what applications measured after the start",
}

func printQuoteMatch(e *env, a quoteMatch) error {
	var missing []string
	for _, m := range a.Registers {
		if m.State == unexplained {
			missing = append(missing, m.Register)
		}
	}
	var err error
	if len(missing) > 0 {
		a.Reason = "measurement"
		err = verdict(exitDiffers, a.Reason, "these inputs do not explain %s", strings.Join(missing, ", "))
	}
	if e.json {
		return errors.Join(err, e.printJSON(a))
	}
	e.printf("%s\n", a.Inputs)
	for _, m := range a.Registers {
		line := m.Register + " " + m.State
		switch {
		case m.State == explained && m.Label != "":
			line += ": " + m.Label
		case m.State == unexplained:
			line += ": " + m.Hint
		}
		e.printf("%s\n", line)
		if m.State == explained && len(m.Hosts)+len(m.Firmwares) > 0 {
			e.printf("  hosts %s; firmwares %s\n", strings.Join(m.Hosts, ", "), strings.Join(m.Firmwares, ", "))
		}
	}
	return err
}

// A quoteSet is one combination of candidates.
type quoteSet struct {
	firmware, kernel, initrd, cmdline, memory string
	files                                     map[string][]byte
	acpi                                      []byte
}

func (s quoteSet) String() string {
	text := "firmware " + s.firmware
	if s.memory != "" {
		text += ", memory " + s.memory
	}
	if s.kernel != "" {
		text += fmt.Sprintf(", kernel %s, initrd %s, command line %q", s.kernel, s.initrd, s.cmdline)
	}
	return text
}

// quoteSets reads each file once and makes every combination.
func quoteSets(c *cli.Context) (sets []quoteSet, err error) {
	files := map[string][]byte{}
	for _, name := range slices.Concat(c.StringSlice("ovmf"), c.StringSlice("kernel"), c.StringSlice("initrd")) {
		if files[name] == nil {
			if files[name], err = readAtMost(name, maxTDXKernel); err != nil {
				return nil, err
			}
		}
	}
	var acpi []byte
	if name := c.String("acpi-tables"); name != "" {
		if acpi, err = readAtMost(name, maxTDXTable); err != nil {
			return nil, err
		}
	}
	orNone := func(flag string) []string {
		if all := c.StringSlice(flag); len(all) > 0 {
			return all
		}
		return []string{""}
	}
	for _, firmware := range c.StringSlice("ovmf") {
		for _, kernel := range orNone("kernel") {
			for _, initrd := range orNone("initrd") {
				for _, cmdline := range orNone("append") {
					for _, memory := range orNone("memory") {
						sets = append(sets, quoteSet{firmware, kernel, initrd, cmdline, memory, files, acpi})
					}
				}
			}
		}
	}
	if len(sets) > maxSets {
		return nil, usagef("%d combinations of files, want at most %d", len(sets), maxSets)
	}
	return sets, nil
}

// compute computes every register under every rule set that is known.
func (s quoteSet) compute() (*tdx.Result, error) {
	in := tdx.Input{Firmware: s.files[s.firmware], Cmdline: s.cmdline, ACPI: s.acpi}
	if s.kernel != "" {
		in.Kernel = s.files[s.kernel]
	}
	if s.initrd != "" {
		b := s.files[s.initrd]
		in.Initrd = tdx.HashInitrd(bytes.NewReader(b), int64(len(b)))
	}
	if s.memory != "" {
		var err error
		if in.Memory, err = parseMemory(s.memory); err != nil {
			return nil, err
		}
	}
	p, err := tdx.ParseProfile("")
	if err != nil {
		return nil, err
	}
	return tdx.Compute(in, p)
}

// readEvidence reads what match is about: a launch digest in hex is none.
func readEvidence(arg string) ([]byte, error) {
	if _, err := os.Stat(arg); errors.Is(err, os.ErrNotExist) {
		return nil, nil // a digest as text, or a file that readReport will miss
	}
	return readAtMost(arg, tdx.MaxQuote)
}
