package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"
)

// version is passed in by the linker (-X main.version=...); it never enters a built image.
var version = "devel"

// An env is what a command may touch of the outside: its streams. Commands get it instead of reaching
// for os.Stdout, so that tests run them in process.
type env struct {
	stdin  io.Reader
	out    *bytes.Buffer // the answer; flushed only when the exit code is a verdict (0, 3, 4, 5)
	stdout io.Writer     // the real stdout, for commands that stream their answer
	stderr io.Writer     // the talk
	quiet  bool
	json   bool
}

// logf says something to the user on stderr, unless --quiet was given.
func (e *env) logf(format string, args ...any) {
	if !e.quiet {
		fmt.Fprintf(e.stderr, "tally: "+format+"\n", args...)
	}
}

// logger is what libraries get to talk with; it follows --quiet.
func (e *env) logger() *slog.Logger {
	level := slog.LevelInfo
	if e.quiet {
		level = slog.LevelError
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

// printf adds to the answer.
func (e *env) printf(format string, args ...any) { fmt.Fprintf(e.out, format, args...) }

// printJSON makes v, which must have a Schema field tagged `json:"schema"`, the answer.
func (e *env) printJSON(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Main runs one command line and returns its exit code. It touches nothing but its arguments, so tests
// call it in process.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, out: new(bytes.Buffer), stdout: stdout, stderr: stderr}
	app := newApp(e, args)
	args, err := permute(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	code := exitCode(err)
	if err != nil {
		report(e, code, err)
	}
	if code != exitFailed && code != exitUsage {
		if _, werr := stdout.Write(e.out.Bytes()); werr != nil {
			fmt.Fprintf(stderr, "tally: error: writing the answer: %v\n", werr)
			return exitFailed
		}
	}
	return code
}

// report prints the one line (and hint) that goes with a failure.
func report(e *env, code int, err error) {
	msg := strings.TrimSpace(err.Error())
	if errors.Is(err, context.Canceled) {
		msg = "interrupted"
	}
	fmt.Fprintf(e.stderr, "tally: error: %s\n", strings.ReplaceAll(msg, "\n", " "))
	var ee *exitError
	if errors.As(err, &ee) && ee.hint != "" {
		fmt.Fprintf(e.stderr, "tally: hint: %s\n", ee.hint)
	}
}

// newApp makes the program as far as args need it (see commands).
func newApp(e *env, args []string) *cli.App {
	app := &cli.App{
		Name:                 "tally",
		Usage:                "build, measure, release, rebuild and verify confidential-AI enclave images",
		Version:              version,
		HideVersion:          false,
		EnableBashCompletion: true,
		// A comma is part of a value: kernel command lines have many.
		DisableSliceFlagSeparator: true,
		Writer:                    e.out,
		ErrWriter:                 e.stderr,
		Commands:                  commands(e, args),
		ExitErrHandler:            func(*cli.Context, error) {}, // Main decides
		CommandNotFound:           nil,
		OnUsageError:              onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return withHint(usagef("unknown command %q", c.Args().First()), "see 'tally --help'")
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		prepare(e, c)
	}
	return app
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usagef("%w", err) }

// prepare gives every leaf command the common flags and every group a clear answer to an unknown
// subcommand.
func prepare(e *env, c *cli.Command) {
	c.OnUsageError = onUsageError
	for _, s := range c.Subcommands {
		prepare(e, s)
	}
	if isGroup(c) {
		if c.Action == nil {
			c.Action = func(ctx *cli.Context) error {
				if ctx.Args().Present() {
					return usagef("unknown subcommand %q of %s", ctx.Args().First(), c.Name)
				}
				return cli.ShowSubcommandHelp(ctx)
			}
		}
		return
	}
	c.HideHelpCommand = true // a leaf has --help, not a subcommand "help"
	c.Flags = append(c.Flags,
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object instead of text", Destination: &e.json},
		&cli.BoolFlag{Name: "quiet", Usage: "say nothing on stderr but errors", Destination: &e.quiet})
}

// isGroup says whether a command only gathers others. One with flags of its own does something by itself.
func isGroup(c *cli.Command) bool { return len(c.Subcommands) > 0 && len(c.Flags) == 0 }

// permute moves flags before positional arguments, for `tally build SPEC -o OUT`: the flag library
// itself stops at the first positional one.
func permute(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 || args[len(args)-1] == "--generate-bash-completion" {
		return args, nil
	}
	out, rest := args[:1:1], args[1:]
	cmds := app.Commands
	var cmd *cli.Command
	for len(rest) > 0 {
		next := find(cmds, rest[0])
		if next == nil {
			break
		}
		cmd, cmds = next, next.Subcommands
		out, rest = append(out, rest[0]), rest[1:]
	}
	if cmd == nil || isGroup(cmd) {
		return args, nil
	}
	flags, pos := split(cmd, rest)
	return append(append(out, flags...), pos...), nil
}

// split separates the flags of cmd (with their values) from its positional arguments.
func split(cmd *cli.Command, rest []string) (flags, pos []string) {
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			return append(flags, "--"), append(pos, rest[i+1:]...)
		case len(a) < 2 || a[0] != '-':
			pos = append(pos, a)
			continue
		}
		flags = append(flags, a)
		if !strings.Contains(a, "=") && takesValue(cmd, strings.TrimLeft(a, "-")) && i+1 < len(rest) {
			i++
			flags = append(flags, rest[i])
		}
	}
	return append(flags, "--"), pos
}

func takesValue(cmd *cli.Command, name string) bool {
	for _, f := range cmd.Flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}

func find(cmds []*cli.Command, name string) *cli.Command {
	for _, c := range cmds {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// wantArgs is the usual first line of an Action: exactly these positional arguments.
func wantArgs(c *cli.Context, names ...string) error {
	if c.NArg() != len(names) {
		return usagef("%s wants %d argument(s): %s; got %d", c.Command.FullName(), len(names), strings.Join(names, " "), c.NArg())
	}
	return nil
}
