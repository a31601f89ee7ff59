package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"tally/internal/cli"
	"tally/measure/tdx"
)

// parseMemory reads a memory size as QEMU's -m does: MiB without a unit.
func parseMemory(s string) (uint64, error) {
	unit := uint64(1 << 20)
	number := strings.TrimSuffix(s, "M")
	if g, ok := strings.CutSuffix(s, "G"); ok {
		number, unit = g, 1<<30
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n == 0 || n > math.MaxUint64/unit {
		return 0, usagef("--memory %q: want a number of MiB, or one with M or G", s)
	}
	return n * unit, nil
}

// Limits on what is read whole, in bytes.
const (
	maxTDXFirmware = 64 << 20
	maxTDXTable    = 4 << 20
	maxTDXKernel   = 1 << 30
)

// tdxInput reads the files; done closes those that stay open.
func tdxInput(c *cli.Context) (in *tdx.Input, done func(), err error) {
	var open []io.Closer
	done = func() {
		for _, f := range open {
			f.Close()
		}
	}
	in = &tdx.Input{VCPUs: c.Int("vcpus"), Cmdline: c.String("append")}
	// The initrd is the most to hash: it starts first.
	for _, flag := range []string{"initrd", "ovmf", "kernel", "disk"} {
		if !c.IsSet(flag) {
			continue
		}
		f, size, err := openRegular(c.String(flag), flag)
		if err != nil {
			return nil, done, err
		}
		open = append(open, f)
		switch flag {
		case "initrd":
			in.Initrd = tdx.HashInitrd(f, size)
		case "disk":
			in.Disk = f
		case "ovmf":
			in.FirmwareFile = &tdx.File{R: f, Size: size}
		case "kernel":
			in.KernelFile = &tdx.File{R: f, Size: size}
		}
	}
	for _, f := range []struct {
		flag  string
		to    *[]byte
		limit int64
	}{{"uki", &in.UKI, maxTDXKernel}, {"acpi-tables", &in.ACPI, maxTDXTable}, {"smbios", &in.SMBIOS, maxTDXTable}} {
		if !c.IsSet(f.flag) {
			continue
		}
		if *f.to, err = readAtMost(c.String(f.flag), f.limit); err != nil {
			return nil, done, err
		}
	}
	return in, done, tdxValues(c, in)
}

// tdxValues reads the options that are values.
func tdxValues(c *cli.Context, in *tdx.Input) (err error) {
	if c.IsSet("memory") {
		if in.Memory, err = parseMemory(c.String("memory")); err != nil {
			return err
		}
	}
	if c.IsSet("disk-slot") {
		a, err := tdx.ParsePCIAddress(c.String("disk-slot"))
		if err != nil {
			return usagef("--disk-slot: %w", err)
		}
		in.BootDevice = &a
	}
	for _, s := range c.StringSlice("rtmr3-event") {
		d, err := tdx.ParseDigest(s)
		if err != nil {
			return usagef("--rtmr3-event: %w", err)
		}
		in.Events = append(in.Events, d)
	}
	return nil
}

// openRegular opens a file and says how long it is.
func openRegular(path, what string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: %s: not a regular file", path, what)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// openFirmware opens a firmware file and says how long it is.
func openFirmware(path string) (*os.File, int64, error) { return openRegular(path, "firmware") }
