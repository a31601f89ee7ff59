package main

import (
	"fmt"

	"tally/internal/cli"
	"tally/measure/snp"
)

// measureIGVM prints the digest of a guest that starts from an IGVM file.
func measureIGVM(c *cli.Context, e *env) error {
	if err := refuseEmpty(c, "igvm"); err != nil {
		return err
	}
	for _, f := range c.GivenFlags() {
		switch f {
		case "igvm", "output-format", "explain", "json", "quiet":
		default:
			return usagef("--%s does not go with --igvm: the file says it itself", f)
		}
	}
	if format := c.String("output-format"); format != "hex" && format != "base64" {
		return usagef("--output-format %q: want hex or base64", format)
	}
	name := c.String("igvm")
	data, err := readAtMost(name, snp.MaxIGVM)
	if err != nil {
		return err
	}
	l, err := snp.MeasureIGVM(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	vcpus := 0
	for _, ev := range l.Events {
		if ev.Type == "vmsa" {
			vcpus += ev.Pages
		}
	}
	e.logf("this digest covers what the file holds, for %d vcpu(s); whether a kernel is among it, only its maker knows", vcpus)
	return printLaunch(c, e, snp.Input{VMM: snp.QEMU, VCPUs: vcpus}, l)
}
