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

	"tally/internal/cli"
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
	err := newApp(e, args).Run(ctx, args)
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
		// No hint: whatever it would say is not what went wrong.
		fmt.Fprintln(e.stderr, "tally: error: interrupted")
		return
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
		Name:      "tally",
		Usage:     "build, measure, release, rebuild and verify confidential-AI enclave images",
		Version:   version,
		Writer:    e.out,
		Commands:  commands(e, args),
		UsageErr:  func(err error) error { return usagef("%w", err) },
		Unordered: true, // for `tally build SPEC -o OUT`
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return withHint(usagef("unknown command %q", c.Args().First()), "see 'tally --help'")
			}
			return cli.ShowHelp(c)
		},
	}
	for _, c := range app.Commands {
		prepare(e, c)
	}
	return app
}

// prepare gives every leaf command the common flags and every group a clear answer to an unknown
// subcommand.
func prepare(e *env, c *cli.Command) {
	for _, s := range c.Subcommands {
		prepare(e, s)
	}
	if c.IsGroup() {
		if c.Action == nil {
			c.Action = func(ctx *cli.Context) error {
				if ctx.Args().Present() {
					return usagef("unknown subcommand %q of %s", ctx.Args().First(), c.Name)
				}
				return cli.ShowHelp(ctx)
			}
		}
		return
	}
	c.Flags = append(c.Flags,
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object instead of text", Destination: &e.json},
		&cli.BoolFlag{Name: "quiet", Usage: "say nothing on stderr but errors", Destination: &e.quiet})
}

// wantArgs is the usual first line of an Action: exactly these positional arguments.
func wantArgs(c *cli.Context, names ...string) error {
	switch n := c.NArg(); {
	case n == len(names):
		return nil
	case len(names) == 0:
		return usagef("%s wants no arguments, got %.80q", c.Command.Name, c.Args().First())
	default:
		return usagef("%s wants %s, got %d", c.Command.Name, strings.Join(names, " "), n)
	}
}
