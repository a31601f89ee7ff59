package main

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tally/internal/cli"
	"tally/internal/qemu"
	"tally/internal/qtest"
	"tally/measure/tdx"
)

func measureACPICommand(e *env) *cli.Command {
	return &cli.Command{
		Name:        "acpi",
		Usage:       "capture the ACPI tables that a machine shape measures",
		Subcommands: []*cli.Command{measureACPICaptureCommand(e)},
	}
}

func measureACPICaptureCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "capture",
		Usage:     "read QEMU's ACPI tables without running a guest",
		ArgsUsage: "-- QEMU-ARGUMENTS",
		Description: "Starts a stock QEMU with the arguments behind --, its processors stopped, without KVM, firmware, configuration files, environment or\n" +
			"default devices; programs the q35 machine as edk2 does (PCI Express base, power management ports, one 64-bit BAR at the start of the window of\n" +
			"--phys-bits address bits), and writes fw_cfg's etc/acpi/tables to -o FILE, for tally measure tdx --acpi-tables. FILE.json records what they\n" +
			"are from: QEMU's version and SHA-256, the arguments, the digests. The arguments are those of the guest that shape the machine (-machine, -cpu, -smp,\n" +
			"-m, -object of memory, -global, -device), without accelerator, protection, firmware and console. The tables depend on QEMU's release: give the\n" +
			"one that runs the guest; --qemu-sha256 pins it. Prints `NAME VALUE`, one a line.\n\n" +
			"--json prints the record, tally.acpi-capture/v1: qemu (version, sha256), args, phys_bits, window (whether a device has a 64-bit BAR), vcpus, size\n" +
			"of the tables, acpi (SHA-384 of tables, loader, rsdp: what a platform of tee tdx wants).\n\n" +
			"Example: tally measure acpi capture -o tables.bin -- -machine q35 -smp 4 -m 2048M -device virtio-scsi-pci",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "write the tables to `FILE`"},
			&cli.StringFlag{Name: "qemu", Usage: "QEMU `PROGRAM` (default: " + qemu.Binary + ")"},
			&cli.StringFlag{Name: "qemu-sha256", Usage: "refuse another program than that with SHA-256 `HEX`"},
			&cli.IntFlag{Name: "phys-bits", Usage: "physical address `BITS` of the guest's processor (default: phys-bits= of -cpu, else 46)"},
		},
		Action: func(c *cli.Context) error { return measureACPICapture(c, e) },
	}
}

// An acpiRecord is tally.acpi-capture/v1.
type acpiRecord struct {
	Schema   string         `json:"schema"`
	QEMU     *qtest.Program `json:"qemu"`
	Args     []string       `json:"args"`
	PhysBits int            `json:"phys_bits"`
	Window   bool           `json:"window"`
	VCPUs    int            `json:"vcpus"`
	Size     int            `json:"size"` // of the tables, in bytes
	ACPI     tdx.Tables     `json:"acpi"` // as a platform of tdx names them
}

func measureACPICapture(c *cli.Context, e *env) error {
	if err := refuseEmpty(c, "o", "qemu", "qemu-sha256"); err != nil {
		return err
	}
	args := c.Args().Slice()
	switch {
	case !c.IsSet("o"):
		return usagef("-o is missing")
	case len(args) == 0:
		return usagef("no QEMU arguments: give those that shape the machine behind --")
	}
	bits, err := physBits(c, args)
	if err != nil {
		return err
	}
	path := c.String("qemu")
	if path == "" {
		if path, err = qemu.Find(); err != nil {
			return withHint(err, "install the Debian package "+qemu.Package)
		}
	}
	program, err := qtest.Identify(c.Context, path)
	if err != nil {
		return err
	}
	if want := c.String("qemu-sha256"); want != "" && want != program.SHA256 {
		return fmt.Errorf("%s: SHA-256 %s, want %.80s (%s)", path, program.SHA256, want, program.Version)
	}
	a, err := qtest.Capture(c.Context, path, args, bits)
	if err != nil {
		return err
	}
	r := &acpiRecord{Schema: "tally.acpi-capture/v1", QEMU: program, Args: slices.Clone(args), PhysBits: bits, Window: a.Window, Size: len(a.Tables)}
	r.ACPI = tdx.Tables{ACPI: sha512.Sum384(a.Tables), Loader: sha512.Sum384(a.Loader), RSDP: sha512.Sum384(a.RSDP)}
	if err := r.derive(a); err != nil {
		return err
	}
	for _, name := range a.Config {
		e.logf("the machine sets fw_cfg %s: edk2 from 202505 on measures it, and tally measure tdx takes it for unset", name)
	}
	return r.write(c, e, a.Tables)
}

// physBits finds the address width where the guest's processor gets it from: its model's phys-bits=, unless
// that leaves it open.
func physBits(c *cli.Context, args []string) (int, error) {
	const usual = 46 // of the hosts that the published guests ran on
	bits := c.Int("phys-bits")
	for i, a := range args {
		if i == 0 || args[i-1] != "-cpu" {
			continue
		}
		for _, word := range strings.Split(a, ",") {
			v, ok := strings.CutPrefix(word, "phys-bits=")
			if !ok {
				continue
			}
			n, err := strconv.Atoi(v)
			if err != nil || bits != 0 && bits != n {
				return 0, usagef("--phys-bits %d, but -cpu %.80q", bits, a)
			}
			bits = n
		}
	}
	if bits == 0 && !c.IsSet("phys-bits") {
		bits = usual
	}
	if bits < 36 || bits > 52 {
		return 0, usagef("--phys-bits %d: want 36 to 52", bits)
	}
	return bits, nil
}

// derive makes sure that measuring derives the same linker files from the tables as QEMU made.
func (r *acpiRecord) derive(a *qtest.ACPI) error {
	d, err := tdx.ReadACPI(a.Tables)
	if err != nil {
		return err
	}
	if !bytes.Equal(d.Loader, a.Loader) || !bytes.Equal(d.RSDP, a.RSDP) {
		return fmt.Errorf("%s: table-loader or rsdp is not what follows from the tables: this release links them in another way", r.QEMU.Version)
	}
	r.VCPUs = d.VCPUs
	return nil
}

func (r *acpiRecord) write(c *cli.Context, e *env, tables []byte) error {
	record, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	out := c.String("o")
	if err := writeAll(output{out + ".json", append(record, '\n')}, output{out, tables}); err != nil {
		return err
	}
	if !r.Window {
		e.logf("no device has a 64-bit BAR: the tables describe no 64-bit PCI window")
	}
	if e.json {
		return e.printJSON(r)
	}
	e.printf("qemu %s\nqemu-sha256 %s\nvcpus %d\ntables %s\n", r.QEMU.Version, r.QEMU.SHA256, r.VCPUs, r.ACPI.ACPI)
	return nil
}
