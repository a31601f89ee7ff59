package cli

import (
	"context"
	"flag"
	"io"
	"slices"
	"time"
)

// A Context is one run of a command.
type Context struct {
	Context context.Context
	App     *App
	Command *Command // nil for the program itself

	path  []string // names from the program to Command
	flags *flag.FlagSet
	given map[string]bool // names of flags on the command line, all names of each
}

// Parse reads args by flags, outside of any command.
func Parse(flags []Flag, args []string) (*Context, error) {
	c := &Context{Context: context.Background(), Command: &Command{Flags: flags}, flags: newFlagSet(flags)}
	if err := c.flags.Parse(args); err != nil {
		return nil, err
	}
	c.markSet(flags)
	return c, nil
}

func newFlagSet(flags []Flag) *flag.FlagSet {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, f := range flags {
		f.apply(set)
	}
	return set
}

// markSet remembers which flags were given, by whichever of their names.
func (c *Context) markSet(flags []Flag) {
	c.given = map[string]bool{}
	c.flags.Visit(func(f *flag.Flag) { c.given[f.Name] = true })
	for _, f := range flags {
		if names := f.Names(); slices.ContainsFunc(names, func(n string) bool { return c.given[n] }) {
			for _, n := range names {
				c.given[n] = true
			}
		}
	}
}

// IsSet says whether a flag was given.
func (c *Context) IsSet(name string) bool { return c.given[name] }

// GivenFlags lists the flags of the command that were given, by their first names.
func (c *Context) GivenFlags() (names []string) {
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; c.given[name] {
			names = append(names, name)
		}
	}
	return names
}

// value is that of a flag; the zero T when the command has none of this name and type.
func value[T any](c *Context, name string) (v T) {
	if f := c.flags.Lookup(name); f != nil {
		if g, ok := f.Value.(flag.Getter); ok {
			v, _ = g.Get().(T)
		}
	}
	return v
}

// String is the value of a StringFlag.
func (c *Context) String(name string) string { return value[string](c, name) }

// Bool is the value of a BoolFlag.
func (c *Context) Bool(name string) bool { return value[bool](c, name) }

// Int is the value of an IntFlag.
func (c *Context) Int(name string) int { return value[int](c, name) }

// Uint is the value of a UintFlag.
func (c *Context) Uint(name string) uint { return value[uint](c, name) }

// Uint64 is the value of a Uint64Flag.
func (c *Context) Uint64(name string) uint64 { return value[uint64](c, name) }

// Int64 is the value of an Int64Flag.
func (c *Context) Int64(name string) int64 { return value[int64](c, name) }

// Duration is the value of a DurationFlag.
func (c *Context) Duration(name string) time.Duration { return value[time.Duration](c, name) }

// StringSlice is the values of a StringSliceFlag, in the order given.
func (c *Context) StringSlice(name string) []string { return value[[]string](c, name) }

// NArg is the number of arguments that are no flags.
func (c *Context) NArg() int { return c.flags.NArg() }

// Args are the arguments that are no flags.
func (c *Context) Args() Args { return c.flags.Args() }

// Args are arguments.
type Args []string

// Get is the argument at i; "" when there are no more.
func (a Args) Get(i int) string {
	if i >= 0 && i < len(a) {
		return a[i]
	}
	return ""
}

// First is the first argument; "" when there is none.
func (a Args) First() string { return a.Get(0) }

// Tail is all but the first.
func (a Args) Tail() []string { return slices.Clone(a[min(1, len(a)):]) }

// Slice is all of them.
func (a Args) Slice() []string { return slices.Clone(a) }

// Len is their number.
func (a Args) Len() int { return len(a) }

// Present says whether there are any.
func (a Args) Present() bool { return len(a) > 0 }
