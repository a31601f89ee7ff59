package main

import (
	"fmt"

	"tally/internal/cli"
	"tally/measure/tdx"
)

// An mrtdAnswer is tally.mrtd/v1.
type mrtdAnswer struct {
	Schema string      `json:"schema"`
	Covers []string    `json:"covers"`
	Values []*tdx.MRTD `json:"values"`
}

// measureMRTD answers about the firmware alone, without reading it whole.
func measureMRTD(c *cli.Context, e *env) error {
	passes := tdx.Passes()
	if p := tdx.Pass(c.String("pass")); p != "" {
		passes = []tdx.Pass{p}
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
