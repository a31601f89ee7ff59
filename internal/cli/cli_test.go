package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A seen is what an action found.
type seen struct {
	Command  string
	Str      string
	Int      int
	Int64    int64
	Uint     uint
	Uint64   uint64
	Bool     bool
	Duration time.Duration
	List     []string
	Args     []string
	Given    []string
	Set      map[string]bool
}

// program is an app with every type of flag; what ran is put into got.
func program(out *bytes.Buffer, got *seen) *App {
	act := func(c *Context) error {
		*got = seen{Str: c.String("str"), Int: c.Int("int"), Int64: c.Int64("int64"), Uint: c.Uint("uint"), Uint64: c.Uint64("uint64"), Bool: c.Bool("bool"),
			Duration: c.Duration("duration"), List: c.StringSlice("list"), Args: c.Args().Slice(), Set: map[string]bool{}}
		if c.Command == nil {
			return nil
		}
		got.Command, got.Given = c.Command.Name, c.GivenFlags()
		for _, n := range []string{"str", "s", "bool", "list"} {
			got.Set[n] = c.IsSet(n)
		}
		return nil
	}
	flags := func() []Flag {
		return []Flag{
			&StringFlag{Name: "str", Aliases: []string{"s"}, Usage: "a `WORD`", Value: "default"},
			&IntFlag{Name: "int", Usage: "a `NUMBER`", Value: 7},
			&Int64Flag{Name: "int64", Usage: "number"},
			&UintFlag{Name: "uint", Usage: "number"},
			&Uint64Flag{Name: "uint64", Usage: "number"},
			&BoolFlag{Name: "bool", Usage: "yes"},
			&DurationFlag{Name: "duration", Usage: "how long", Value: time.Minute},
			&StringSliceFlag{Name: "list", Usage: "a `WORD`, several times"},
		}
	}
	return &App{
		Name: "prog", Usage: "for the test", Version: "v1", Writer: out, Unordered: true, Action: act,
		UsageErr: func(err error) error { return errors.Join(errUsage, err) },
		Commands: []*Command{
			{Name: "one", Usage: "first", ArgsUsage: "FILE", Description: "Says\nmore.", Flags: flags(), Action: act},
			{Name: "must", Usage: "second", Flags: []Flag{&StringFlag{Name: "o", Usage: "where", Required: true}}, Action: act},
			{Name: "group", Usage: "third", Action: act, Subcommands: []*Command{{Name: "sub", Usage: "inner", Flags: flags(), Action: act}}},
			{Name: "both", Usage: "fourth", Flags: flags(), Action: act, Subcommands: []*Command{{Name: "sub", Usage: "inner", Action: act}}},
		},
	}
}

var errUsage = errors.New("usage")

func TestFlags(t *testing.T) {
	plain := seen{Command: "one", Str: "default", Int: 7, Duration: time.Minute, Set: map[string]bool{"str": false, "s": false, "bool": false, "list": false}}
	with := func(change func(*seen)) seen {
		s := plain
		s.Set = map[string]bool{"str": false, "s": false, "bool": false, "list": false}
		change(&s)
		return s
	}
	for args, want := range map[string]seen{
		"one":     plain,
		"one a b": with(func(s *seen) { s.Args = []string{"a", "b"} }),
		"one a --bool b -- --int": with(func(s *seen) {
			s.Args, s.Bool, s.Given, s.Set["bool"] = []string{"a", "b", "--int"}, true, []string{"bool"}, true
		}),
		"one -s x a": with(func(s *seen) {
			s.Str, s.Args, s.Given, s.Set["str"], s.Set["s"] = "x", []string{"a"}, []string{"str"}, true, true
		}),
		"one --str= -": with(func(s *seen) {
			s.Str, s.Args, s.Given, s.Set["str"], s.Set["s"] = "", []string{"-"}, []string{"str"}, true, true
		}),
		"one --str --x":  with(func(s *seen) { s.Str, s.Given, s.Set["str"], s.Set["s"] = "--x", []string{"str"}, true, true }),
		"one --bool=0 a": with(func(s *seen) { s.Args, s.Given, s.Set["bool"] = []string{"a"}, []string{"bool"}, true }),
		"one --list a,b z --list c": with(func(s *seen) {
			s.List, s.Args, s.Given, s.Set["list"] = []string{"a,b", "c"}, []string{"z"}, []string{"list"}, true
		}),
		"one --int 0x10 --int64 -3 --uint 4 --uint64 5 --duration 1h30m": with(func(s *seen) {
			s.Int, s.Int64, s.Uint, s.Uint64, s.Duration, s.Given = 16, -3, 4, 5, 90*time.Minute, []string{"int", "int64", "uint", "uint64", "duration"}
		}),
		"one sub":         with(func(s *seen) { s.Args = []string{"sub"} }),
		"group sub x":     with(func(s *seen) { s.Command, s.Args = "sub", []string{"x"} }),
		"group frob":      {Command: "group", Args: []string{"frob"}, Set: map[string]bool{"str": false, "s": false, "bool": false, "list": false}},
		"group help frob": {Command: "group", Args: []string{"frob"}, Set: map[string]bool{"str": false, "s": false, "bool": false, "list": false}},
		"both x --bool": with(func(s *seen) {
			s.Command, s.Args, s.Bool, s.Given, s.Set["bool"] = "both", []string{"x"}, true, []string{"bool"}, true
		}),
		"frob": {Args: []string{"frob"}},
		"":     {},
	} {
		var got seen
		var out bytes.Buffer
		if err := program(&out, &got).Run(context.Background(), append([]string{"prog"}, strings.Fields(args)...)); err != nil || out.Len() > 0 {
			t.Errorf("%q: %v, printed %q", args, err, out.String())
		}
		if got.Args == nil && want.Args == nil || len(got.Args) == 0 {
			got.Args = nil
		}
		if len(got.Set) == 0 {
			got.Set = nil
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", args, d)
		}
	}
}

func TestRefused(t *testing.T) {
	for args, want := range map[string]string{
		"one --frob":         "flag provided but not defined: --frob",
		"--frob":             "flag provided but not defined: --frob",
		"group --bool":       "flag provided but not defined: --bool",
		"one --int x":        `invalid value "x" for flag --int: `,
		"one a --int":        `flag needs an argument: --int`,
		"one a -s":           `flag needs an argument: -s`,
		"one -int=-for":      `invalid value "-for" for flag --int: `,
		"one --uint -1":      `invalid value "-1" for flag --uint: `,
		"one --duration 5":   `invalid value "5" for flag --duration: `,
		"one --bool=perhaps": `invalid boolean value "perhaps" for --bool`,
		"must":               `required flag "o" not set`,
	} {
		var got seen
		var out bytes.Buffer
		err := program(&out, &got).Run(context.Background(), append([]string{"prog"}, strings.Fields(args)...))
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), want) || out.Len() > 0 || got.Command != "" {
			t.Errorf("%q: error %v, printed %q, ran %q; want %q", args, err, out.String(), got.Command, want)
		}
	}
}

func TestHelp(t *testing.T) {
	const one = `NAME:
   prog one - first

USAGE:
   prog one [command options] FILE

DESCRIPTION:
   Says
   more.

OPTIONS:
   --str WORD, -s WORD          a WORD (default: "default")
   --int NUMBER                 a NUMBER (default: 7)
   --int64 value                number (default: 0)
   --uint value                 number (default: 0)
   --uint64 value               number (default: 0)
   --bool                       yes (default: false)
   --duration value             how long (default: 1m0s)
   --list WORD [ --list WORD ]  a WORD, several times
   --help, -h                   show help
`
	const root = `NAME:
   prog - for the test

USAGE:
   prog [global options] command [command options]

VERSION:
   v1

COMMANDS:
   one      first
   must     second
   group    third
   both     fourth
   help, h  Shows a list of commands or help for one command

GLOBAL OPTIONS:
   --help, -h     show help
   --version, -v  print the version
`
	for args, want := range map[string]string{
		"one --help": one, "help one": one, "one x -h": one, "--help": root, "help": root, "-h": root,
		"--version": "prog version v1\n", "-v": "prog version v1\n",
		"must --help":    "prog must - second",
		"group help":     "help, h  Shows a list",
		"group help sub": "prog group sub - inner",
	} {
		var got seen
		var out bytes.Buffer
		err := program(&out, &got).Run(context.Background(), append([]string{"prog"}, strings.Fields(args)...))
		if text := out.String(); err != nil || got.Command != "" || text != want && (want == "" || strings.HasSuffix(want, "\n") || !strings.Contains(text, want)) {
			t.Errorf("%q: %v, ran %q, printed\n%s\nwant\n%s", args, err, got.Command, out.String(), want)
		}
	}
}

func TestDefaultInWords(t *testing.T) {
	if got, want := (&UintFlag{Name: "n", Usage: "a `NUMBER` (default: all)"}).String(), "-n NUMBER\ta NUMBER (default: all)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is completed is the last word; what stands before it says what can be there. Nothing printed: a file.
func TestComplete(t *testing.T) {
	for args, want := range map[string]string{
		"":                  "one must group both help",
		"o":                 "one",
		"h":                 "help",
		"--":                "--help --version",
		"nothing ":          "",
		"help g":            "group",
		"help group ":       "sub help",
		"group":             "group",
		"group ":            "sub help",
		"group sub":         "sub",
		"group x ":          "",
		"group sub --b":     "--bool",
		"one ":              "",
		"one --u":           "--uint --uint64",
		"one -":             "--str -s --int --int64 --uint --uint64 --bool --duration --list --help",
		"one -s":            "-s",
		"one x --st":        "--str",
		"one --str ":        "",
		"one --str -":       "",
		"one --str --str -": "--str -s --int --int64 --uint --uint64 --bool --duration --list --help",
		"one --str=x --st":  "--str",
		"one --bool --st":   "--str",
		"one -- -":          "",
		"must -":            "-o --help",
		"both ":             "", // a file is more likely
		"both s":            "sub",
		"both x s":          "",
		"word ":             "red green",
		"word g":            "green",
		"word red ":         "",
	} {
		var got seen
		var out bytes.Buffer
		app := program(&out, &got)
		app.Commands = append(app.Commands[:4:4], &Command{Name: "word", Words: []string{"red", "green"}})
		if args == "" {
			want = strings.Replace(want, "help", "word help", 1)
		}
		err := app.Run(context.Background(), append(append([]string{"prog"}, strings.Split(args, " ")...), complete))
		if text := strings.Join(strings.Fields(out.String()), " "); err != nil || got.Command != "" || text != want {
			t.Errorf("%q: %v, ran %q, printed %q, want %q", args, err, got.Command, text, want)
		}
	}
	var got seen
	var out bytes.Buffer
	if err := program(&out, &got).Run(context.Background(), []string{"prog", complete}); err != nil || !strings.HasPrefix(out.String(), "one\n") {
		t.Errorf("no words: %v, printed %q", err, out.String())
	}
}
