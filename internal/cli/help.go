package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const (
	helpLine    = "help, h\tShows a list of commands or help for one command"
	helpFlag    = "--help, -h\tshow help"
	versionFlag = "--version, -v\tprint the version"
)

// ShowHelp prints the help of c's command, or of the program.
func ShowHelp(c *Context) error {
	w := tabwriter.NewWriter(c.App.Writer, 1, 8, 2, ' ', 0)
	name := strings.Join(c.path, " ")
	if c.Command == nil {
		section(w, "NAME", name+" - "+c.App.Usage)
		section(w, "USAGE", name+" [global options] command [command options]")
		section(w, "VERSION", c.App.Version)
		section(w, "COMMANDS", append(listing(c.App.Commands), helpLine)...)
		lastSection(w, "GLOBAL OPTIONS", helpFlag, versionFlag)
		return w.Flush()
	}
	section(w, "NAME", name+" - "+c.Command.Usage)
	section(w, "USAGE", strings.TrimSpace(name+" [command options] "+c.Command.ArgsUsage))
	if c.Command.Description != "" {
		section(w, "DESCRIPTION", strings.Split(c.Command.Description, "\n")...)
	}
	if subs := listing(c.Command.Subcommands); c.Command.IsGroup() {
		section(w, "COMMANDS", append(subs, helpLine)...)
	} else if len(subs) > 0 {
		section(w, "COMMANDS", subs...)
	}
	var flags []string
	for _, f := range c.Command.Flags {
		flags = append(flags, f.String())
	}
	lastSection(w, "OPTIONS", append(flags, helpFlag)...)
	return w.Flush()
}

func listing(cs []*Command) (lines []string) {
	for _, c := range cs {
		lines = append(lines, c.Name+"\t"+c.Usage)
	}
	return lines
}

func section(w io.Writer, title string, lines ...string) {
	lastSection(w, title, lines...)
	fmt.Fprintln(w)
}

func lastSection(w io.Writer, title string, lines ...string) {
	fmt.Fprintf(w, "%s:\n", title)
	for _, l := range lines {
		if l != "" {
			l = "   " + l
		}
		fmt.Fprintln(w, l)
	}
}
