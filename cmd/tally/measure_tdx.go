package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"tally/measure/tdx"
)

func measureTDXCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "tdx",
		Usage: "compute the MRTD of an Intel TDX trust domain",
		Description: "Prints `mrtd PASS HEX`, one line for each order in which hosts add pages: single-pass is upstream KVM and QEMU, two-pass\n" +
			"Intel's and Ubuntu's QEMU 8.2 trees. --pass prints one. MRTD covers the firmware alone: kernel, initrd and command line are in\n" +
			"RTMR1 and RTMR2, which this command does not compute.\n\n" +
			"Example: tally measure tdx --ovmf OVMF.fd --pass single-pass\n\n" +
			"--json prints tally.mrtd/v1: covers, values (pass, digest, events of what, gpa, pages, extended).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`"},
			&cli.StringFlag{Name: "pass", Usage: "only this `ORDER`: single-pass or two-pass"},
			&cli.BoolFlag{Name: "explain", Usage: "print the sections behind each value"},
		},
		Action: func(c *cli.Context) error { return measureTDX(c, e) },
	}
}

// An mrtdAnswer is tally.mrtd/v1.
type mrtdAnswer struct {
	Schema string      `json:"schema"`
	Covers []string    `json:"covers"`
	Values []*tdx.MRTD `json:"values"`
}

func measureTDX(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	if err := refuseEmpty(c, "ovmf", "pass"); err != nil {
		return err
	}
	passes := tdx.Passes()
	switch p := tdx.Pass(c.String("pass")); {
	case !c.IsSet("ovmf"):
		return usagef("--ovmf is missing")
	case p == tdx.SinglePass, p == tdx.TwoPass:
		passes = []tdx.Pass{p}
	case p != "":
		return usagef("--pass %q: want one of %v", p, tdx.Passes())
	}
	f, size, err := openFirmware(c.String("ovmf"))
	if err != nil {
		return err
	}
	defer f.Close()
	a := mrtdAnswer{Schema: "tally.mrtd/v1", Covers: []string{"firmware"}}
	for _, p := range passes {
		m, err := tdx.Measure(f, size, p)
		if err != nil {
			return fmt.Errorf("%s: %w", c.String("ovmf"), err)
		}
		a.Values = append(a.Values, m)
	}
	if e.json {
		return e.printJSON(a)
	}
	for _, m := range a.Values {
		e.printf("mrtd %s %s\n", m.Pass, m.Digest)
		if c.Bool("explain") {
			for _, ev := range m.Events {
				e.printf("  %-8s %#014x %6d pages  extended %t\n", ev.What, ev.GPA, ev.Pages, ev.Extended)
			}
		}
	}
	return nil
}

// openFirmware opens a firmware file and says how long it is.
func openFirmware(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: firmware: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}
