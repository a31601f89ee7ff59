package main

import (
	"errors"
	"fmt"
	"strconv"

	"tally/internal/cli"
	"tally/measure/snp"
)

// svsmOptions holds the options of --mode snp:svsm to their rules; they belong to no other mode.
func svsmOptions(c *cli.Context) error {
	if c.String("mode") != "snp:svsm" {
		for _, f := range []string{"svsm", "vars-size", "vars-file"} {
			if c.IsSet(f) {
				return usagef("--%s goes with --mode snp:svsm", f)
			}
		}
		return nil
	}
	for _, f := range []string{"kernel", "initrd", "append", "snp-ovmf-hash"} {
		if c.IsSet(f) {
			return usagef("--%s does not go with --mode snp:svsm", f)
		}
	}
	switch {
	case !c.IsSet("svsm"):
		return usagef("--mode snp:svsm wants --svsm")
	case c.IsSet("vars-size") == c.IsSet("vars-file"):
		return usagef("--mode snp:svsm wants one of --vars-size and --vars-file")
	case c.String("vmm-type") != string(snp.QEMU):
		return usagef("--vmm-type %s: an SVSM is known on QEMU alone", c.String("vmm-type"))
	}
	return nil
}

// measureSVSM prints the digest of a guest that starts in an SVSM.
func measureSVSM(c *cli.Context, e *env, in snp.Input) error {
	vars, err := varsSize(c)
	if err != nil {
		return err
	}
	firmware, err := readFirmware(c.String("ovmf"), "")
	if err != nil {
		return err
	}
	f, size, err := openFirmware(c.String("svsm"))
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := snp.ReadSVSM(f, size, firmware, vars)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("svsm"), err)
	}
	l, err := snp.MeasureSVSM(s, in.VCPUs, in.Signature, in.Features)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("svsm"), err)
	}
	e.logf("this digest covers firmware and SVSM; what the firmware starts is in the PCRs of the SVSM's vTPM")
	return printLaunch(c, e, in, l)
}

// varsSize is the size of the variable store in bytes.
func varsSize(c *cli.Context) (int64, error) {
	if name := c.String("vars-file"); name != "" {
		f, size, err := openRegular(name, "vars-file")
		if err != nil {
			return 0, err
		}
		if size == 0 {
			err = fmt.Errorf("%s: vars-file: 0 bytes, want a variable store", name)
		}
		return size, errors.Join(err, f.Close())
	}
	n, err := strconv.ParseInt(c.String("vars-size"), 0, 64)
	if err != nil || n < 0 {
		return 0, usagef("--vars-size %q: want a number of bytes", c.String("vars-size"))
	}
	return n, nil
}
