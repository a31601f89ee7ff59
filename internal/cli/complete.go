package cli

import (
	"fmt"
	"strings"
)

// complete, as the last argument, asks what the argument before it, which may be empty, could be completed to.
const complete = "--generate-bash-completion"

// complete prints, one a line, what the last of args could become, given those before it. Nothing stands for the name of
// a file, which shells complete themselves.
func (a *App) complete(args []string) {
	before, current := args, ""
	if n := len(args); n > 0 {
		before, current = args[:n-1], args[n-1]
	}
	if len(before) > 0 && before[0] == "help" {
		before = before[1:]
	}
	_, c, rest := a.resolve(before)
	for _, w := range a.candidates(c, rest, current) {
		if strings.HasPrefix(w, current) {
			fmt.Fprintln(a.Writer, w)
		}
	}
}

// candidates are the words that could follow rest below c.
func (a *App) candidates(c *Command, rest []string, current string) []string {
	dashed := strings.HasPrefix(current, "-")
	switch {
	case c == nil && len(rest) > 0:
		return nil
	case c == nil && dashed:
		return []string{"--help", "--version"}
	case c == nil:
		return append(commandNames(a.Commands), "help")
	}
	others, free := follows(c, rest)
	switch {
	case !free:
		return nil
	case dashed:
		return spellings(c)
	case others > 0:
		return nil
	case c.IsGroup():
		return append(commandNames(c.Subcommands), "help")
	case current == "":
		return c.Words // one that has subcommands and does something by itself mostly wants a file
	}
	return append(commandNames(c.Subcommands), c.Words...)
}

// follows counts the arguments of c in args that are no flags. free says whether what follows them may be a flag: it is
// no flag's value, and no "--" came before.
func follows(c *Command, args []string) (others int, free bool) {
	set := newFlagSet(c.Flags)
	for i := 0; i < len(args); i++ {
		switch w := args[i]; {
		case w == "--":
			return others, false
		case len(w) < 2 || w[0] != '-':
			others++
		case !strings.Contains(w, "=") && takesValue(set, strings.TrimLeft(w, "-")):
			if i++; i == len(args) {
				return others, false
			}
		}
	}
	return others, true
}

func commandNames(cs []*Command) (names []string) {
	for _, c := range cs {
		names = append(names, c.Name)
	}
	return names
}

// spellings are the flags of c as they are typed.
func spellings(c *Command) (words []string) {
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				n = "-" + n
			}
			words = append(words, "-"+n)
		}
	}
	return append(words, "--help")
}
