package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"tally/internal/cli"
	"tally/measure"
	"tally/measure/snp"
)

func matchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "match",
		Usage:     "search for the inputs that would give a hardware's measurements",
		ArgsUsage: "REPORT|QUOTE",
		Description: "REPORT is an SEV-SNP attestation report (1184 bytes) or a launch digest in 96 hex digits; QUOTE a TDX quote. Signatures are not\n" +
			"checked. For SNP the search goes over 1 to 512 vCPUs, every known CPU type and the report's own CPU, the feature masks in use and every\n" +
			"monitor, with the files as given and with each left out. An option given several times names several candidates, such as the\n" +
			"firmware of two releases; every combination is tried, 64 at most. Exit 0: found, one line each. Exit 3, reason measurement: none\n" +
			"of these inputs gives the digest, so the firmware, kernel, initrd or command line are others. Launches of an SVSM or an IGVM file are\n" +
			"not searched: `tally measure verify FILE` prints their digests.\n\n" +
			"The registers of a TDX quote are explained one by one, under every rule set that tally measure tdx knows: which hosts and\n" +
			"firmwares give this MRTD, RTMR0 (with --memory and --acpi-tables), RTMR1 and RTMR2, or that none does; with --values, which shape of\n" +
			"which TDX platform it is.\n\n" +
			"Example: tally match report.bin --values OUT/reference-values.json\n\n" +
			"--json prints tally.match/v1: digest, tried (how many digests were compared), found (vmm, vcpus, vcpu_signature, vcpu_types,\n" +
			"guest_features, inputs, firmware), reason when nothing was found; for a quote: tried, inputs, registers (register, digest,\n" +
			"state explained|unexplained|not-computed, label, hosts, firmwares, hint), reason.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "values", Usage: "take the inputs from the reference values in `FILE`"},
			&cli.StringSliceFlag{Name: "ovmf", Usage: "firmware `FILE` (several times: each is tried)"},
			&cli.StringSliceFlag{Name: "kernel", Usage: "kernel `FILE` (several times: each is tried)"},
			&cli.StringSliceFlag{Name: "initrd", Usage: "initrd `FILE` (several times: each is tried)"},
			&cli.StringSliceFlag{Name: "append", Usage: "kernel command line `TEXT` (several times: each is tried)"},
			&cli.StringSliceFlag{Name: "memory", Usage: "of a TDX guest, memory `SIZE` as QEMU's -m (several times: each is tried)"},
			&cli.StringFlag{Name: "acpi-tables", Usage: "of a TDX guest, ACPI tables `FILE`, as tally measure tdx takes them"},
		},
		Action: func(c *cli.Context) error { return match(c, e) },
	}
}

// A matchFound is one set of inputs, with the firmware's name or file.
type matchFound struct {
	snp.Found
	Firmware string `json:"firmware"`
}

// A matchAnswer is tally.match/v1.
type matchAnswer struct {
	Schema string       `json:"schema"`
	Digest snp.Digest   `json:"digest"`
	Tried  int          `json:"tried"`
	Found  []matchFound `json:"found"`
	Reason string       `json:"reason,omitempty"`
}

func match(c *cli.Context, e *env) error {
	if err := wantArgs(c, "REPORT|QUOTE"); err != nil {
		return err
	}
	data, err := readEvidence(c.Args().First())
	if err != nil {
		return err
	}
	if isQuote(data) {
		return matchQuote(c, e, data)
	}
	if c.IsSet("memory") || c.IsSet("acpi-tables") {
		return usagef("--memory and --acpi-tables go with a TDX quote")
	}
	want, cpu, err := readReport(c.Args().First())
	if err != nil {
		return err
	}
	firmware, sets, err := matchInputs(c)
	if err != nil {
		return err
	}
	a := matchAnswer{Schema: "tally.match/v1", Digest: want, Found: []matchFound{}}
	for _, f := range firmware {
		found, tried, err := snp.Match(c.Context, want, f.SNP, variants(sets, f.SNP), cpu)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		a.Tried += tried
		for _, one := range found {
			a.Found = append(a.Found, matchFound{one, f.Name})
		}
	}
	return printMatch(e, a)
}

func printMatch(e *env, a matchAnswer) error {
	var err error
	if len(a.Found) == 0 {
		a.Reason = "measurement"
		err = verdict(exitDiffers, a.Reason, "none of %d launches of these inputs gives %s: firmware, kernel, initrd or command line are others", a.Tried, a.Digest)
	}
	if e.json {
		if jerr := e.printJSON(a); jerr != nil {
			return jerr
		}
		return err
	}
	for _, f := range a.Found {
		cpu := "any CPU type"
		if f.Signature != 0 {
			cpu = fmt.Sprintf("CPU %#x (%s)", f.Signature, strings.Join(f.CPUs, ", "))
			if len(f.CPUs) == 0 {
				cpu = fmt.Sprintf("CPU %#x (no QEMU model: -cpu host?)", f.Signature)
			}
		}
		e.printf("%s, %d vcpus, %s, guest features %#x, firmware %s, %s\n", f.VMM, f.VCPUs, cpu, f.Features, f.Firmware, f.Inputs)
	}
	if len(a.Found) == 0 {
		e.printf("no match among %d launches\n", a.Tried)
	}
	return err
}

// readReport reads a report's measurement and the CPU it names, or a digest given as text.
func readReport(arg string) (snp.Digest, uint32, error) {
	var d snp.Digest
	if _, err := hex.DecodeString(arg); err == nil && len(arg) == 2*len(d) {
		return d, 0, d.UnmarshalText([]byte(arg))
	}
	f, err := os.Open(arg)
	if err != nil {
		return d, 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, snp.ReportSize+1))
	if err != nil {
		return d, 0, fmt.Errorf("%s: %w", arg, err)
	}
	r, err := snp.ParseReport(data)
	if err != nil {
		return d, 0, fmt.Errorf("%s: %w", arg, err)
	}
	return r.Measurement, r.Signature, nil
}

// A matchGiven is one set of files that the user says may have been launched.
type matchGiven struct {
	hashes  *snp.KernelHashes // nil: no kernel was given
	cmdline string
	label   string // which of several files these are; "" when there is one of each
}

// variants lists what may have happened to the inputs on the way to firmware f.
func variants(sets []matchGiven, f *snp.Firmware) []snp.Variant {
	all := []snp.Variant{{Name: "without kernel hashes"}}
	for _, g := range sets {
		if g.hashes != nil && f.HasHashTable() {
			all = append(all, g.variants()...)
		}
	}
	if len(all) > 1 { // what was meant comes first: it is searched over the most feature masks
		all[0], all[1] = all[1], all[0]
	}
	return all
}

func (g matchGiven) variants() []snp.Variant {
	name := func(s string) string {
		if g.label == "" {
			return s
		}
		return g.label + ", " + s
	}
	with := func(what string, change func(*snp.KernelHashes)) snp.Variant {
		h := *g.hashes
		change(&h)
		return snp.Variant{Name: name(what), Hashes: &h}
	}
	cmdline := func(text string) func(*snp.KernelHashes) {
		return func(h *snp.KernelHashes) { h.Cmdline = snp.HashCmdline(text) }
	}
	all := []snp.Variant{{Name: name("files as given"), Hashes: g.hashes}}
	if g.hashes.Initrd != snp.NoInitrd() {
		all = append(all, with("but without initrd", func(h *snp.KernelHashes) { h.Initrd = snp.NoInitrd() }))
	}
	if g.cmdline != "" {
		all = append(all, with("but without command line", cmdline("")),
			with("but a newline after the command line", cmdline(g.cmdline+"\n")),
			with("but a space after the command line", cmdline(g.cmdline+" ")))
	}
	return all
}

// maxSets bounds the combinations of files that one search goes over.
const maxSets = 64

// matchInputs reads the inputs from reference values or from files.
func matchInputs(c *cli.Context) ([]measure.Firmware, []matchGiven, error) {
	if err := refuseEmptyLists(c, "ovmf", "kernel", "initrd"); err != nil {
		return nil, nil, err
	}
	if err := refuseEmpty(c, "values"); err != nil {
		return nil, nil, err
	}
	files := c.IsSet("ovmf") || c.IsSet("kernel") || c.IsSet("initrd") || c.IsSet("append")
	switch {
	case c.IsSet("values") == files:
		return nil, nil, usagef("want either --values, or --ovmf with --kernel, --initrd and --append")
	case files && !c.IsSet("ovmf"):
		return nil, nil, usagef("--ovmf is missing")
	case !c.IsSet("kernel") && (c.IsSet("initrd") || c.IsSet("append")):
		return nil, nil, errNoKernel
	case !files:
		return matchValues(c.String("values"))
	}
	return matchFiles(c)
}

// matchFiles reads every firmware and makes every combination of kernel, initrd and command line.
func matchFiles(c *cli.Context) (firmware []measure.Firmware, sets []matchGiven, err error) {
	if n := max(1, len(c.StringSlice("kernel"))) * max(1, len(c.StringSlice("initrd"))) * max(1, len(c.StringSlice("append"))) * len(c.StringSlice("ovmf")); n > maxSets {
		return nil, nil, usagef("%d combinations of files, want at most %d", n, maxSets)
	}
	table := false
	for _, name := range c.StringSlice("ovmf") {
		f, err := readFirmware(name, "")
		if err != nil {
			return nil, nil, err
		}
		table = table || f.HasHashTable()
		firmware = append(firmware, measure.Firmware{Name: name, SNP: f})
	}
	if !c.IsSet("kernel") {
		return firmware, nil, nil
	}
	if !table {
		return nil, nil, fmt.Errorf("%s: %w", c.StringSlice("ovmf")[0], snp.ErrNoHashTable)
	}
	sets, err = matchSets(c)
	return firmware, sets, err
}

// matchSets hashes each file once and combines them.
func matchSets(c *cli.Context) (sets []matchGiven, err error) {
	hashes := map[string][32]byte{"": snp.NoInitrd()}
	hash := func(names []string, of func(context.Context, string) ([32]byte, error)) error {
		for _, name := range names {
			if _, ok := hashes[name]; ok {
				continue
			}
			sum, err := of(c.Context, name)
			if err != nil {
				return err
			}
			hashes[name] = sum
		}
		return nil
	}
	if err := hash(c.StringSlice("kernel"), hashKernel); err != nil {
		return nil, err
	}
	if err := hash(c.StringSlice("initrd"), hashFile); err != nil {
		return nil, err
	}
	initrds, cmdlines := c.StringSlice("initrd"), c.StringSlice("append")
	if len(initrds) == 0 {
		initrds = []string{""}
	}
	if len(cmdlines) == 0 {
		cmdlines = []string{""}
	}
	for _, kernel := range c.StringSlice("kernel") {
		for _, initrd := range initrds {
			for _, cmdline := range cmdlines {
				g := matchGiven{hashes: &snp.KernelHashes{Kernel: hashes[kernel], Initrd: hashes[initrd], Cmdline: snp.HashCmdline(cmdline)}, cmdline: cmdline}
				if len(c.StringSlice("kernel"))*len(initrds)*len(cmdlines) > 1 {
					g.label = fmt.Sprintf("kernel %s, initrd %s, command line %q", kernel, initrd, cmdline)
				}
				sets = append(sets, g)
			}
		}
	}
	return sets, nil
}

// matchValues takes the inputs from reference values.
func matchValues(path string) ([]measure.Firmware, []matchGiven, error) {
	data, err := readSmall(path, maxReferenceValues)
	if err != nil {
		return nil, nil, err
	}
	rv, err := measure.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	s := rv.Static
	given := []matchGiven{{hashes: &snp.KernelHashes{Kernel: s.Kernel, Initrd: s.Initrd, Cmdline: snp.HashCmdline(s.Cmdline)}, cmdline: s.Cmdline}}
	if s.UKI != nil { // handed over alone, as measure.Static.Launches has it
		given = append(given, matchGiven{hashes: &snp.KernelHashes{Kernel: *s.UKI, Initrd: snp.NoInitrd(), Cmdline: snp.HashCmdline("")}, label: "the UKI as kernel"})
	}
	firmware := slices.DeleteFunc(slices.Clone(s.Firmware), func(f measure.Firmware) bool { return f.SNP == nil }) // such as one of TDX
	if len(firmware) == 0 {
		return nil, nil, fmt.Errorf("%s: static.firmware: none is for SNP", path)
	}
	return firmware, given, nil
}
