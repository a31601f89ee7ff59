// Package cli reads the command line of a program of many commands and prints their help.
//
// It exists for what it does not link. The general libraries print help through text/template, which finds methods by
// name, and so makes the linker keep every method of every type: of tally an eighth, in a file and in memory, for
// each command. The names are those of github.com/urfave/cli/v2, the part of it that tally uses.
package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// An App is a program.
type App struct {
	Name      string
	Usage     string // in one line, what it is for
	Version   string
	Writer    io.Writer // help, version and completion go there
	Commands  []*Command
	Action    func(*Context) error // without a command, or with one that there is not
	UsageErr  func(error) error    // makes of an error in the arguments what Run returns; may be nil
	Unordered bool                 // flags may follow arguments, up to "--"
}

// A Command is one command, or a group of them.
type Command struct {
	Name        string
	Usage       string   // in one line
	ArgsUsage   string   // e.g. "SPEC FILE"
	Words       []string // what its first argument can be, when that is one of few words; for completion
	Description string
	Flags       []Flag
	Subcommands []*Command
	Action      func(*Context) error // of a group: without a subcommand, or with one that there is not
}

// IsGroup says whether c only gathers others. One with flags of its own does something by itself.
func (c *Command) IsGroup() bool { return len(c.Subcommands) > 0 && len(c.Flags) == 0 }

// Find returns the command called name; nil when there is none.
func Find(cs []*Command, name string) *Command {
	if i := slices.IndexFunc(cs, func(c *Command) bool { return c.Name == name }); i >= 0 {
		return cs[i]
	}
	return nil
}

// Run runs the command that args, with the program's name first, asks for.
func (a *App) Run(ctx context.Context, args []string) error {
	args = args[min(1, len(args)):]
	completing := len(args) > 0 && args[len(args)-1] == complete
	if completing {
		args = args[:len(args)-1]
	}
	if len(args) > 0 && args[0] == "help" && !completing {
		args = append(slices.Clone(args[1:]), "--help")
	}
	if completing {
		a.complete(args)
		return nil
	}
	path, c, rest := a.resolve(args)
	if c != nil && c.IsGroup() && len(rest) > 0 && rest[0] == "help" {
		path, c, rest = groupHelp(path, c, rest[1:])
	}
	return a.run(ctx, path, c, rest)
}

// resolve walks from command to subcommand as far as args name them. c is nil for the program itself.
func (a *App) resolve(args []string) (path []string, c *Command, rest []string) {
	path, cs := []string{a.Name}, a.Commands
	for len(args) > 0 {
		next := Find(cs, args[0])
		if next == nil {
			break
		}
		c, cs, args = next, next.Subcommands, args[1:]
		path = append(path, next.Name)
	}
	return path, c, args
}

// groupHelp is what `GROUP help NAME` is another word for: `GROUP NAME --help`. A name that is none is left to the
// group to refuse.
func groupHelp(path []string, c *Command, names []string) ([]string, *Command, []string) {
	if len(names) == 0 {
		return path, c, []string{"--help"}
	}
	if sub := Find(c.Subcommands, names[0]); sub != nil {
		return append(path, sub.Name), sub, []string{"--help"}
	}
	return path, c, names
}

// run reads the flags of c and calls its action.
func (a *App) run(ctx context.Context, path []string, c *Command, args []string) error {
	x := &Context{Context: ctx, App: a, Command: c, path: path}
	var flags []Flag
	if c != nil {
		flags = c.Flags
	}
	var help, version bool
	x.flags = newFlagSet(flags)
	x.flags.BoolVar(&help, "help", false, "")
	x.flags.BoolVar(&help, "h", false, "")
	if c == nil {
		x.flags.BoolVar(&version, "version", false, "")
		x.flags.BoolVar(&version, "v", false, "")
	}
	if a.Unordered && c != nil && !c.IsGroup() {
		args = reorder(x.flags, args)
	}
	if err := x.flags.Parse(args); err != nil {
		return a.usageError(spelled(err))
	}
	x.markSet(flags)
	switch {
	case help:
		return ShowHelp(x)
	case version:
		fmt.Fprintf(a.Writer, "%s version %s\n", a.Name, a.Version)
		return nil
	}
	for _, f := range flags {
		if name := f.Names()[0]; f.required() && !x.IsSet(name) {
			return a.usageError(fmt.Errorf("required flag %q not set", name))
		}
	}
	if c == nil {
		return a.Action(x)
	}
	return c.Action(x)
}

func (a *App) usageError(err error) error {
	if a.UsageErr != nil {
		return a.UsageErr(err)
	}
	return err
}

// reorder moves flags, with their values, before the other arguments, where the flag package looks for them.
func reorder(set *flag.FlagSet, args []string) []string {
	var flags, others []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			others = append(others, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			others = append(others, a)
			continue
		}
		flags = append(flags, a)
		if !strings.Contains(a, "=") && takesValue(set, strings.TrimLeft(a, "-")) {
			if i++; i == len(args) {
				return flags // the value is missing, and is nothing that would stand behind
			}
			flags = append(flags, args[i])
		}
	}
	return append(append(flags, "--"), others...)
}

func takesValue(set *flag.FlagSet, name string) bool {
	f := set.Lookup(name)
	if f == nil {
		return false
	}
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !b.IsBoolFlag()
}
