package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"tally/internal/cli"
	"tally/measure"
)

func measureProfilesCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "profiles",
		Usage: "list the kinds of machine that values are computed for, and what backs each",
		Description: "One line a profile: name and version, TEE, what its values cover, what backs them, and from where. Backed by a hardware report:\n" +
			"the value is what hardware signed. By a peer tool: what an independent program computes. By a real boot: what the same firmware\n" +
			"and kernel measured without the hardware. By source reading: nothing else was\n" +
			"compared. A profile that covers the firmware only is marked: such a machine starts whatever its host hands it. The rules of\n" +
			"a TDX guest are those of a host and of a firmware, which have rows of their own.\n\n" +
			"--json prints tally.profiles/v1: profiles (name, version, tee, registers, covers, mark, backing, source).",
		Action: func(c *cli.Context) error { return measureProfiles(c, e) },
	}
}

func measureProfiles(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	all := measure.Profiles()
	if e.json {
		return e.printJSON(struct {
			Schema   string            `json:"schema"`
			Profiles []measure.Profile `json:"profiles"`
		}{"tally.profiles/v1", all})
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROFILE\tTEE\tCOVERS\tBACKED BY\tSOURCE")
	for _, p := range all {
		covers := strings.TrimPrefix(coversText(p.Covers), "  covers ")
		if p.Mark != "" {
			covers += " (" + p.Mark + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.ID(), p.TEE, covers, p.Backing, p.Source)
	}
	return w.Flush()
}
