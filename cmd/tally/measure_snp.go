package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"tally/measure/snp"
)

func measureSNPCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "snp",
		Usage: "compute an AMD SEV-SNP launch digest",
		Description: "Prints the launch digest in hex, alone on the line. Option names are sev-snp-measure's own.\n\n" +
			"Example: tally measure snp --vcpus 4 --vcpu-type EPYC-v4 --ovmf OVMF.fd --kernel vmlinuz --initrd initrd --append \"$(cat cmdline)\"\n\n" +
			"--json prints tally.launch-digest/v1: digest, vmm, vcpus, vcpu_signature, guest_features, covers, events (what, type, gpa,\npages, digest after it).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "mode", Value: "snp", Usage: "`MODE`: snp, or snp:ovmf-hash to print the digest of the firmware alone"},
			&cli.IntFlag{Name: "vcpus", Usage: "`NUMBER` of vCPUs"},
			&cli.StringFlag{Name: "vcpu-type", Usage: "QEMU CPU `MODEL`, e.g. EPYC-v4"},
			&cli.StringFlag{Name: "vcpu-sig", Usage: "CPU signature, CPUID 1 EAX, as a `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-family", Usage: "CPU family `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-model", Usage: "CPU model `NUMBER`"},
			&cli.UintFlag{Name: "vcpu-stepping", Usage: "CPU stepping `NUMBER`"},
			&cli.StringFlag{Name: "vmm-type", Value: "QEMU", Usage: "`NAME` of the monitor: QEMU, QEMU-no-fpu-init, ec2, ec2-2023, gce"},
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`"},
			&cli.StringFlag{Name: "snp-ovmf-hash", Usage: "digest of the firmware in `HEX`, instead of hashing its pages (its tables are still read)"},
			&cli.StringFlag{Name: "kernel", Usage: "kernel `FILE`"},
			&cli.StringFlag{Name: "initrd", Usage: "initrd `FILE`"},
			&cli.StringFlag{Name: "append", Usage: "kernel command line `TEXT`"},
			&cli.StringFlag{Name: "guest-features", Value: "0x1", Usage: "SEV_FEATURES as a `NUMBER`"},
			&cli.StringFlag{Name: "output-format", Value: "hex", Usage: "hex or base64"},
			&cli.BoolFlag{Name: "explain", Usage: "print the event list behind the value"},
			&cli.StringFlag{Name: "svsm", Usage: "not supported yet"},
			&cli.StringFlag{Name: "vars-size", Usage: "not supported yet (belongs to --svsm)"},
			&cli.StringFlag{Name: "vars-file", Usage: "not supported yet (belongs to --svsm)"},
		},
		Action: func(c *cli.Context) error { return measureSNP(c, e) },
	}
}

func measureSNP(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	in, err := snpOptions(c)
	if err != nil {
		return err
	}
	initrd := hashInitrd(c)
	if in.Firmware, err = readFirmware(c.String("ovmf"), c.String("snp-ovmf-hash")); err != nil {
		return err
	}
	if c.String("mode") == "snp:ovmf-hash" {
		e.printf("%s\n", in.Firmware.Digest)
		return nil
	}
	if c.String("kernel") != "" {
		h := &snp.KernelHashes{Cmdline: snp.HashCmdline(c.String("append"))}
		if h.Kernel, err = hashFile(c.Context, c.String("kernel")); err != nil {
			return err
		}
		if h.Initrd, err = initrd(); err != nil {
			return err
		}
		in.Hashes = h
	}
	l, err := snp.Measure(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("ovmf"), err)
	}
	return printLaunch(c, e, in, l)
}

// snpOptions reads everything that is not a file, and refuses what does not go together.
func snpOptions(c *cli.Context) (in snp.Input, err error) {
	for _, f := range []string{"svsm", "vars-size", "vars-file"} {
		if c.IsSet(f) {
			return in, usagef("--%s: SVSM is not supported", f)
		}
	}
	mode, format := c.String("mode"), c.String("output-format")
	switch {
	case mode != "snp" && mode != "snp:ovmf-hash":
		return in, usagef("--mode %q: want snp or snp:ovmf-hash", mode)
	case format != "hex" && format != "base64":
		return in, usagef("--output-format %q: want hex or base64", format)
	case c.String("ovmf") == "":
		return in, usagef("--ovmf is missing")
	case c.String("kernel") == "" && (c.IsSet("initrd") || c.IsSet("append")):
		return in, usagef("--initrd and --append need --kernel: without one the VMM passes no hashes")
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

// readFirmware reads at most one byte more than a firmware may have.
func readFirmware(path, digest string) (*snp.Firmware, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(fi.Size(), 64<<20+1))
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	fw, err := snp.ReadFirmware(data)
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

// hashInitrd starts hashing the initrd, the longest of the inputs, while the others are read, and returns
// how to get the result.
func hashInitrd(c *cli.Context) func() ([32]byte, error) {
	name := c.String("initrd")
	if name == "" {
		return func() ([32]byte, error) { return snp.NoInitrd(), nil }
	}
	type result struct {
		sum [32]byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		sum, err := hashFile(c.Context, name)
		done <- result{sum, err}
	}()
	return func() ([32]byte, error) {
		r := <-done
		return r.sum, r.err
	}
}

// hashFile returns the SHA-256 of a file.
func hashFile(ctx context.Context, path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h, buf := sha256.New(), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		} else if err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

func printLaunch(c *cli.Context, e *env, in snp.Input, l *snp.Launch) error {
	if e.json {
		covers := []string{"firmware"}
		if in.Hashes != nil {
			covers = append(covers, "kernel", "initrd", "cmdline")
		}
		return e.printJSON(map[string]any{"schema": "tally.launch-digest/v1", "digest": l.Digest, "vmm": in.VMM, "vcpus": in.VCPUs,
			"vcpu_signature": in.Signature, "guest_features": in.Features, "covers": covers, "events": l.Events})
	}
	if c.String("output-format") == "base64" {
		e.printf("%s\n", base64.StdEncoding.EncodeToString(l.Digest[:]))
	} else {
		e.printf("%s\n", l.Digest)
	}
	if c.Bool("explain") {
		explainSNP(e, l)
	}
	return nil
}

// explainSNP prints the events behind a launch digest.
func explainSNP(e *env, l *snp.Launch) {
	for _, ev := range l.Events {
		e.printf("  %-28s %-10s %#014x %6d pages  %s\n", ev.What, ev.Type, ev.GPA, ev.Pages, ev.Digest)
	}
}
