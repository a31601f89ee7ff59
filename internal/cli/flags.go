package cli

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Flag is one of the types of this file.
type Flag interface {
	Names() []string // without dashes, the main one first
	String() string  // for help: the spellings, a tab, the usage
	apply(*flag.FlagSet)
	required() bool
}

// names are the name and the aliases of a flag.
func names(name string, aliases []string) []string { return append([]string{name}, aliases...) }

// A StringFlag takes a value. Of its usage a word in backquotes stands for the value.
type StringFlag struct {
	Name     string
	Aliases  []string
	Usage    string
	Value    string
	Required bool
}

// Names sees [Flag].
func (f *StringFlag) Names() []string { return names(f.Name, f.Aliases) }

func (f *StringFlag) required() bool { return f.Required }

func (f *StringFlag) apply(set *flag.FlagSet) {
	v := f.Value
	for _, n := range f.Names() {
		set.StringVar(&v, n, f.Value, "")
	}
}

// String sees [Flag].
func (f *StringFlag) String() string {
	def := ""
	if f.Value != "" {
		def = fmt.Sprintf("%q", f.Value)
	}
	return describe(f.Names(), f.Usage, true, false, def)
}

// A BoolFlag is given or not, or =true or =false.
type BoolFlag struct {
	Name        string
	Usage       string
	Destination *bool // where the value goes too, or nil
}

// Names sees [Flag].
func (f *BoolFlag) Names() []string { return names(f.Name, nil) }

func (f *BoolFlag) required() bool { return false }

func (f *BoolFlag) apply(set *flag.FlagSet) {
	v := f.Destination
	if v == nil {
		v = new(bool)
	}
	set.BoolVar(v, f.Name, false, "")
}

// String sees [Flag].
func (f *BoolFlag) String() string { return describe(f.Names(), f.Usage, false, false, "false") }

// An IntFlag takes a number.
type IntFlag struct {
	Name  string
	Usage string
	Value int
}

// Names sees [Flag].
func (f *IntFlag) Names() []string { return names(f.Name, nil) }

func (f *IntFlag) required() bool { return false }

func (f *IntFlag) apply(set *flag.FlagSet) { set.Int(f.Name, f.Value, "") }

// String sees [Flag].
func (f *IntFlag) String() string {
	return describe(f.Names(), f.Usage, true, false, fmt.Sprint(f.Value))
}

// An Int64Flag takes a number of 64 bits.
type Int64Flag struct {
	Name  string
	Usage string
	Value int64
}

// Names sees [Flag].
func (f *Int64Flag) Names() []string { return names(f.Name, nil) }

func (f *Int64Flag) required() bool { return false }

func (f *Int64Flag) apply(set *flag.FlagSet) { set.Int64(f.Name, f.Value, "") }

// String sees [Flag].
func (f *Int64Flag) String() string {
	return describe(f.Names(), f.Usage, true, false, fmt.Sprint(f.Value))
}

// A UintFlag takes a number that is not negative.
type UintFlag struct {
	Name  string
	Usage string
	Value uint
}

// Names sees [Flag].
func (f *UintFlag) Names() []string { return names(f.Name, nil) }

func (f *UintFlag) required() bool { return false }

func (f *UintFlag) apply(set *flag.FlagSet) { set.Uint(f.Name, f.Value, "") }

// String sees [Flag].
func (f *UintFlag) String() string {
	return describe(f.Names(), f.Usage, true, false, fmt.Sprint(f.Value))
}

// A Uint64Flag takes a number of 64 bits that is not negative.
type Uint64Flag struct {
	Name  string
	Usage string
	Value uint64
}

// Names sees [Flag].
func (f *Uint64Flag) Names() []string { return names(f.Name, nil) }

func (f *Uint64Flag) required() bool { return false }

func (f *Uint64Flag) apply(set *flag.FlagSet) { set.Uint64(f.Name, f.Value, "") }

// String sees [Flag].
func (f *Uint64Flag) String() string {
	return describe(f.Names(), f.Usage, true, false, fmt.Sprint(f.Value))
}

// A DurationFlag takes a span of time, such as 90s or 1h30m.
type DurationFlag struct {
	Name  string
	Usage string
	Value time.Duration
}

// Names sees [Flag].
func (f *DurationFlag) Names() []string { return names(f.Name, nil) }

func (f *DurationFlag) required() bool { return false }

func (f *DurationFlag) apply(set *flag.FlagSet) { set.Duration(f.Name, f.Value, "") }

// String sees [Flag].
func (f *DurationFlag) String() string {
	return describe(f.Names(), f.Usage, true, false, f.Value.String())
}

// A StringSliceFlag takes a value each time it is given. A comma is part of a value.
type StringSliceFlag struct {
	Name    string
	Aliases []string
	Usage   string
}

// Names sees [Flag].
func (f *StringSliceFlag) Names() []string { return names(f.Name, f.Aliases) }

func (f *StringSliceFlag) required() bool { return false }

func (f *StringSliceFlag) apply(set *flag.FlagSet) {
	v := new(list)
	for _, n := range f.Names() {
		set.Var(v, n, "")
	}
}

// String sees [Flag].
func (f *StringSliceFlag) String() string { return describe(f.Names(), f.Usage, true, true, "") }

// list is the [flag.Value] of a StringSliceFlag.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }
func (l *list) Get() any           { return []string(*l) }

// describe is a line of help. The word in backquotes in usage stands for the value; without one it is "value".
func describe(names []string, usage string, valued, many bool, def string) string {
	word := "value"
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		if quoted, after, ok := strings.Cut(rest, "`"); ok {
			word, usage = quoted, before+quoted+after
		}
	}
	var spelt []string
	for _, n := range names {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		s := dashes + n
		if valued {
			s += " " + word
		}
		spelt = append(spelt, s)
	}
	all := strings.Join(spelt, ", ")
	if many {
		all += " [ " + all + " ]"
	}
	if def != "" && !strings.Contains(usage, "(default: ") { // which says it in words
		usage += " (default: " + def + ")"
	}
	return all + "\t" + strings.TrimSpace(usage)
}

// spelled is what the flag package says of a command line, with flags as help spells them.
func spelled(err error) error {
	msg := err.Error()
	before, rest := "", msg
	for _, about := range []string{"invalid value ", "invalid boolean value "} {
		if value, ok := strings.CutPrefix(msg, about); ok {
			quoted, _ := strconv.QuotedPrefix(value)
			before, rest = about+quoted, strings.TrimPrefix(value, quoted)
		}
	}
	for _, about := range []string{" for flag -", " for -", "flag provided but not defined: -", "flag needs an argument: -"} {
		if name, ok := strings.CutPrefix(rest, about); ok {
			if word, _, _ := strings.Cut(name, ":"); len(word) > 1 {
				about += "-"
			}
			return errors.New(before + about + name)
		}
	}
	return err
}
