package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"tally/measure"
	"tally/measure/snp"
)

func matchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "match",
		Usage:     "search for the inputs that would give a hardware's launch digest",
		ArgsUsage: "REPORT",
		Description: "REPORT is an SEV-SNP attestation report (1184 bytes) or a launch digest in 96 hex digits. Its signature is not checked.\n" +
			"The search goes over 1 to 512 vCPUs, every known CPU type and the report's own CPU, the feature masks in use and every\n" +
			"monitor, with the files as given and with each left out. Exit 0: found, one line each. Exit 3, reason measurement: none\n" +
			"of these inputs gives the digest, so the firmware, kernel, initrd or command line are others.\n\n" +
			"Example: tally match report.bin --values OUT/reference-values.json\n\n" +
			"--json prints tally.match/v1: digest, tried (how many digests were compared), found (vmm, vcpus, vcpu_signature, vcpu_types,\n" +
			"guest_features, inputs, firmware), reason when nothing was found.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "values", Usage: "take the inputs from the reference values in `FILE`"},
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`"},
			&cli.StringFlag{Name: "kernel", Usage: "kernel `FILE`"},
			&cli.StringFlag{Name: "initrd", Usage: "initrd `FILE`"},
			&cli.StringFlag{Name: "append", Usage: "kernel command line `TEXT`"},
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
	if err := wantArgs(c, "REPORT"); err != nil {
		return err
	}
	want, cpu, err := readReport(c.Args().First())
	if err != nil {
		return err
	}
	firmware, given, err := matchInputs(c)
	if err != nil {
		return err
	}
	a := matchAnswer{Schema: "tally.match/v1", Digest: want, Found: []matchFound{}}
	for _, f := range firmware {
		found, tried, err := snp.Match(c.Context, want, f.SNP, given.variants(f.SNP), cpu)
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

// A matchGiven is what the user says was launched.
type matchGiven struct {
	hashes  *snp.KernelHashes // nil: no kernel was given
	cmdline string
}

// variants lists what may have happened to the inputs on the way to firmware f.
func (g matchGiven) variants(f *snp.Firmware) []snp.Variant {
	none := snp.Variant{Name: "without kernel hashes"}
	if g.hashes == nil || !f.HasHashTable() {
		return []snp.Variant{none}
	}
	with := func(name string, change func(*snp.KernelHashes)) snp.Variant {
		h := *g.hashes
		change(&h)
		return snp.Variant{Name: name, Hashes: &h}
	}
	cmdline := func(text string) func(*snp.KernelHashes) {
		return func(h *snp.KernelHashes) { h.Cmdline = snp.HashCmdline(text) }
	}
	all := []snp.Variant{{Name: "files as given", Hashes: g.hashes}, none}
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

// matchInputs reads the inputs from reference values or from files.
func matchInputs(c *cli.Context) (firmware []measure.Firmware, given matchGiven, err error) {
	if err := refuseEmpty(c, "values", "ovmf", "kernel", "initrd"); err != nil {
		return nil, given, err
	}
	files := c.IsSet("ovmf") || c.IsSet("kernel") || c.IsSet("initrd") || c.IsSet("append")
	switch {
	case c.IsSet("values") == files:
		return nil, given, usagef("want either --values, or --ovmf with --kernel, --initrd and --append")
	case files && !c.IsSet("ovmf"):
		return nil, given, usagef("--ovmf is missing")
	case !c.IsSet("kernel") && (c.IsSet("initrd") || c.IsSet("append")):
		return nil, given, errNoKernel
	case !files:
		return matchValues(c.String("values"))
	}
	kernel := startKernel(c)
	f, err := readFirmware(c.String("ovmf"), "")
	if err != nil {
		return nil, given, err
	}
	given.cmdline = c.String("append")
	if given.hashes, err = kernel(); err != nil {
		return nil, given, err
	}
	if given.hashes != nil && !f.HasHashTable() {
		return nil, given, fmt.Errorf("%s: %w", c.String("ovmf"), snp.ErrNoHashTable)
	}
	return []measure.Firmware{{Name: c.String("ovmf"), SNP: f}}, given, nil
}

// matchValues takes the inputs from reference values.
func matchValues(path string) ([]measure.Firmware, matchGiven, error) {
	var given matchGiven
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, given, err
	}
	rv, err := measure.Parse(data)
	if err != nil {
		return nil, given, fmt.Errorf("%s: %w", path, err)
	}
	s := rv.Static
	given = matchGiven{&snp.KernelHashes{Kernel: s.Kernel, Initrd: s.Initrd, Cmdline: snp.HashCmdline(s.Cmdline)}, s.Cmdline}
	return s.Firmware, given, nil
}
