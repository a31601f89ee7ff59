package main

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tally/internal/cli"
	"tally/measure"
	"tally/measure/eventlog"
	"tally/measure/snp"
)

func measureSNPCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "snp",
		Usage: "compute an AMD SEV-SNP launch digest",
		Description: "Prints the launch digest in hex, alone on the line. Option names are sev-snp-measure's own.\n\n" +
			"Example: tally measure snp --vcpus 4 --vcpu-type EPYC-v4 --ovmf OVMF.fd --kernel vmlinuz --initrd initrd --append \"$(cat cmdline)\"\n\n" +
			"--igvm measures an IGVM file, as KVM does for the vCPUs whose save areas it holds.\n\n" +
			"--json prints tally.launch-digest/v1: digest, vmm, vcpus, vcpu_signature, guest_features, covers, events (what, type, gpa,\n" +
			"pages, digest after it, covers), mark (firmware-only when no kernel is covered); with --mode snp:ovmf-hash tally.firmware-digest/v1: digest, size, reset_eip, hash_table_gpa\n" +
			"(0: the firmware checks no kernel), sections (gpa, size, type).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "mode", Value: "snp", Usage: "`MODE`: snp; snp:ovmf-hash to print the digest of the firmware alone; snp:svsm for an SVSM under the firmware"},
			&cli.IntFlag{Name: "vcpus", Usage: "`NUMBER` of vCPUs"},
			&cli.StringFlag{Name: "vcpu-type", Usage: "QEMU CPU `MODEL`, e.g. EPYC-v4"},
			&cli.StringFlag{Name: "vcpu-sig", Usage: "CPU signature, CPUID 1 EAX, as a `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-family", Usage: "CPU family `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-model", Usage: "CPU model `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-stepping", Usage: "CPU stepping `NUMBER`"},
			&cli.StringFlag{Name: "vmm-type", Value: "QEMU", Usage: "`NAME` of the monitor: QEMU, QEMU-no-fpu-init, ec2, ec2-2023, gce, gce-genoa"},
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`"},
			&cli.StringFlag{Name: "snp-ovmf-hash", Usage: "digest of the firmware in `HEX`, instead of hashing its pages (its tables are still read)"},
			&cli.StringFlag{Name: "kernel", Usage: "kernel `FILE`"},
			&cli.StringFlag{Name: "initrd", Usage: "initrd `FILE`"},
			&cli.StringFlag{Name: "append", Usage: "kernel command line `TEXT`"},
			&cli.StringFlag{Name: "guest-features", Value: "0x1", Usage: "SEV_FEATURES as a `NUMBER`"},
			&cli.StringFlag{Name: "output-format", Value: "hex", Usage: "hex or base64"},
			&cli.BoolFlag{Name: "explain", Usage: "print the event list behind the value"},
			&cli.StringFlag{Name: "igvm", Usage: "IGVM `FILE`, which says everything itself: goes with no other input (QEMU on KVM)"},
			&cli.StringFlag{Name: "svsm", Usage: "SVSM `FILE`, with --mode snp:svsm"},
			&cli.StringFlag{Name: "vars-size", Usage: "size of the firmware's variable store in bytes, a `NUMBER`, with --mode snp:svsm"},
			&cli.StringFlag{Name: "vars-file", Usage: "variable store `FILE`, of which only the size counts, with --mode snp:svsm"},
		},
		Action: func(c *cli.Context) error { return measureSNP(c, e) },
	}
}

func measureSNP(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	if c.IsSet("igvm") {
		return measureIGVM(c, e)
	}
	in, err := snpOptions(c)
	if err != nil {
		return err
	}
	if c.String("mode") == "snp:svsm" {
		return measureSVSM(c, e, in)
	}
	kernel := startKernel(c, e)
	if in.Firmware, err = readFirmware(c.String("ovmf"), c.String("snp-ovmf-hash")); err != nil {
		return err
	}
	if c.String("mode") == "snp:ovmf-hash" {
		return printFirmware(c, e, in.Firmware)
	}
	if in.Hashes, err = kernel(); err != nil {
		return err
	}
	l, err := snp.Measure(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("ovmf"), err)
	}
	if in.Hashes == nil && in.Firmware.HasHashTable() {
		e.logf("without --kernel this digest covers the firmware only, and this firmware then starts whatever the host hands it")
	}
	return printLaunch(c, e, in, l)
}

// snpOptions reads everything that is not a file, and refuses what does not go together.
func snpOptions(c *cli.Context) (in snp.Input, err error) {
	if err := refuseEmpty(c, "ovmf", "kernel", "initrd", "snp-ovmf-hash", "vcpu-type", "svsm", "vars-size", "vars-file"); err != nil {
		return in, err
	}
	if err := svsmOptions(c); err != nil {
		return in, err
	}
	mode, format := c.String("mode"), c.String("output-format")
	switch {
	case mode != "snp" && mode != "snp:ovmf-hash" && mode != "snp:svsm":
		return in, usagef("--mode %q: want snp, snp:ovmf-hash or snp:svsm", mode)
	case format != "hex" && format != "base64":
		return in, usagef("--output-format %q: want hex or base64", format)
	case c.IsSet("vcpus") && (c.Int("vcpus") < 1 || c.Int("vcpus") > snp.MaxVCPUs):
		return in, usagef("--vcpus %d: want 1 to %d", c.Int("vcpus"), snp.MaxVCPUs)
	case !c.IsSet("ovmf"):
		return in, usagef("--ovmf is missing")
	case !c.IsSet("kernel") && (c.IsSet("initrd") || c.IsSet("append")):
		return in, errNoKernel
	case mode == "snp:ovmf-hash" && c.IsSet("snp-ovmf-hash"):
		return in, usagef("--snp-ovmf-hash is what --mode snp:ovmf-hash computes")
	}
	if mode == "snp:ovmf-hash" {
		return in, nil
	}
	if in.VMM, err = snp.ParseVMM(c.String("vmm-type")); err != nil {
		return in, usagef("--vmm-type: %w", err)
	}
	if in.VCPUs = c.Int("vcpus"); in.VCPUs < 1 || in.VCPUs > snp.MaxVCPUs {
		return in, usagef("--vcpus %d: want 1 to %d", in.VCPUs, snp.MaxVCPUs)
	}
	if in.Features, err = strconv.ParseUint(c.String("guest-features"), 0, 64); err != nil {
		return in, usagef("--guest-features %q: want a number", c.String("guest-features"))
	}
	switch {
	case in.Features&1 == 0:
		return in, usagef("--guest-features %#x: bit 0 (SNPActive) is not set", in.Features)
	case c.IsSet("kernel") && !in.VMM.TakesKernel():
		return in, usagef("--kernel: %s hands the firmware no kernel, its digest covers the firmware only", in.VMM)
	}
	in.Signature, err = cpuSignature(c, in.VMM)
	return in, err
}

// cpuSignature reads the CPU from exactly one of its three spellings.
func cpuSignature(c *cli.Context, vmm snp.VMM) (uint32, error) {
	byNumbers := c.IsSet("vcpu-family") || c.IsSet("vcpu-model") || c.IsSet("vcpu-stepping")
	given := 0
	for _, is := range []bool{c.IsSet("vcpu-type"), c.IsSet("vcpu-sig"), byNumbers} {
		if is {
			given++
		}
	}
	switch {
	case given == 0 && !vmm.NeedsVCPU():
		return 0, nil
	case given != 1:
		return 0, usagef("want one of --vcpu-type, --vcpu-sig, or --vcpu-family with --vcpu-model and --vcpu-stepping")
	case c.IsSet("vcpu-type"):
		sig, err := snp.VCPUSignature(c.String("vcpu-type"))
		if err != nil {
			return 0, usagef("--vcpu-type: %w", err)
		}
		return sig, nil
	case c.IsSet("vcpu-sig"):
		sig, err := strconv.ParseUint(c.String("vcpu-sig"), 0, 32)
		if err != nil || sig == 0 {
			return 0, usagef("--vcpu-sig %q: want a number of 32 bits, not zero", c.String("vcpu-sig"))
		}
		return uint32(sig), nil
	case !c.IsSet("vcpu-family") || !c.IsSet("vcpu-model") || !c.IsSet("vcpu-stepping"):
		return 0, usagef("--vcpu-family, --vcpu-model and --vcpu-stepping go together")
	}
	sig, err := snp.Signature(c.Uint("vcpu-family"), c.Uint("vcpu-model"), c.Uint("vcpu-stepping"))
	if err != nil {
		return 0, usagef("%w", err)
	}
	return sig, nil
}

// readFirmware measures a firmware; digest, unless empty, takes the place of its pages' own.
func readFirmware(path, digest string) (*snp.Firmware, error) {
	f, size, err := openFirmware(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fw, err := snp.ReadFirmware(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if digest != "" {
		if err := fw.Digest.UnmarshalText([]byte(strings.ToLower(digest))); err != nil {
			return nil, usagef("--snp-ovmf-hash: %w", err)
		}
	}
	return fw, nil
}

// A launchAnswer is tally.launch-digest/v1.
type launchAnswer struct {
	Schema    string          `json:"schema"`
	Digest    snp.Digest      `json:"digest"`
	VMM       snp.VMM         `json:"vmm"`
	VCPUs     int             `json:"vcpus"`
	Signature uint32          `json:"vcpu_signature"`
	Features  uint64          `json:"guest_features"`
	Covers    []eventlog.Part `json:"covers"`
	Mark      string          `json:"mark,omitempty"`
	Events    []snp.Event     `json:"events"`
}

func printLaunch(c *cli.Context, e *env, in snp.Input, l *snp.Launch) error {
	if e.json {
		return e.printJSON(launchAnswer{"tally.launch-digest/v1", l.Digest, in.VMM, in.VCPUs, in.Signature, in.Features, l.Covers(), markOf(l.Covers()), l.Events})
	}
	e.printf("%s\n", digestText(c, l.Digest))
	if c.Bool("explain") {
		explainSNP(e, l)
	}
	return nil
}

// A firmwareAnswer is tally.firmware-digest/v1.
type firmwareAnswer struct {
	Schema string `json:"schema"`
	*snp.Firmware
}

func printFirmware(c *cli.Context, e *env, f *snp.Firmware) error {
	if e.json {
		return e.printJSON(firmwareAnswer{"tally.firmware-digest/v1", f})
	}
	e.printf("%s\n", digestText(c, f.Digest))
	return nil
}

func digestText(c *cli.Context, d snp.Digest) string {
	if c.String("output-format") == "base64" {
		return base64.StdEncoding.EncodeToString(d[:])
	}
	return d.String()
}

// explainSNP prints the events behind a launch digest: the digest after each.
func explainSNP(e *env, l *snp.Launch) {
	for _, ev := range l.Events {
		if ev.Pages == 0 { // a file that is measured as a whole
			e.printf("  %-28s %s%s\n", ev.What, ev.Digest, coversText(ev.Covers))
			continue
		}
		e.printf("  %-28s %-10s %#014x %6d pages  %s%s\n", ev.What, ev.Type, ev.GPA, ev.Pages, ev.Digest, coversText(ev.Covers))
	}
}

// markOf says what a value lacks that covers the firmware alone: such a machine starts anything.
func markOf(covers []eventlog.Part) string {
	if slices.Contains(covers, eventlog.PartKernel) {
		return ""
	}
	return measure.FirmwareOnly
}
