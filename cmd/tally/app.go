package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"tally/internal/cli"
	"tally/internal/pattern"
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

	streamed bool // something went to stdout before the end

	argument []byte // FILE of quote show and quote verify, which may be a pipe and is read once; nil: not read yet
}

// flush sends what is there of an answer: due now, not when the command ends.
func (e *env) flush() error {
	e.streamed = true
	_, err := e.out.WriteTo(e.stdout)
	return err
}

// logf says something to the user on stderr, unless --quiet was given.
func (e *env) logf(format string, args ...any) {
	if !e.quiet {
		fmt.Fprintf(e.stderr, "tally: "+format+"\n", args...)
	}
}

// complain says what went wrong while the command goes on: --quiet leaves errors.
func (e *env) complain(format string, args ...any) {
	fmt.Fprintf(e.stderr, "tally: "+format+"\n", args...)
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
		refusalJSON(e, err)
	}
	if code != exitFailed && code != exitUsage {
		if _, werr := stdout.Write(e.out.Bytes()); werr != nil {
			fmt.Fprintf(stderr, "tally: error: writing the answer: %v\n", werr)
			return exitFailed
		}
	}
	return code
}

// A refusalAnswer is tally.refusal/v1: a verdict that came before the command had more to say than its reason.
type refusalAnswer struct {
	Schema string `json:"schema"`
	Reason string `json:"reason"`
	Error  string `json:"error"`
}

// refusalJSON is the answer of a command with --json that has ended with a verdict and printed none.
func refusalJSON(e *env, err error) {
	var ee *exitError
	if e.json && !e.streamed && e.out.Len() == 0 && errors.As(err, &ee) && ee.reason != "" {
		e.printJSON(refusalAnswer{"tally.refusal/v1", ee.reason, plainText(err)})
	}
}

// report prints the one line (and hint) that goes with a failure.
func report(e *env, code int, err error) {
	msg := strings.TrimSpace(plainText(err))
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

// plainText is what err says, without the names of Go's types.
func plainText(err error) string {
	msg := err.Error()
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		text := "a JSON " + wrong.Value + " is not what belongs here"
		// An embedded type stands in the path under its Go name; no key of ours begins with a capital.
		path := slices.DeleteFunc(strings.Split(wrong.Field, "."), func(key string) bool { return key != "" && key[0] >= 'A' && key[0] <= 'Z' })
		if field := strings.Join(path, "."); field != "" {
			text = field + ": " + text
		}
		msg = strings.ReplaceAll(msg, wrong.Error(), text)
	}
	return msg
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
	c.Action = wantNames(c.Action)
	c.Flags = append(c.Flags,
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object instead of text", Destination: &e.json},
		&cli.BoolFlag{Name: "quiet", Usage: "say nothing on stderr but errors", Destination: &e.quiet})
}

// wantNames refuses an empty name of a file, a directory or an address, before the action: a variable of the shell that is
// not set must not turn into a default.
func wantNames(action func(*cli.Context) error) func(*cli.Context) error {
	return func(c *cli.Context) error {
		for _, f := range c.Command.Flags {
			name := f.Names()[0]
			if c.IsSet(name) && namesPlace(f) && (c.String(name) == "" && len(c.StringSlice(name)) == 0 || slices.Contains(c.StringSlice(name), "")) {
				return usagef("%s is empty", strings.TrimSuffix(strings.Fields(f.String())[0], ","))
			}
		}
		return action(c)
	}
}

// namesPlace says whether the value of f, by the word that stands for it in help, names where something is.
func namesPlace(f cli.Flag) bool {
	words := strings.Fields(f.String())
	return len(words) > 1 && slices.ContainsFunc([]string{"FILE", "DIR", "OUT", "PATH", "BUNDLE", "PREFIX", "LOG", "URL", "HOST/PATH"},
		func(place string) bool {
			return words[1] == place || strings.HasPrefix(words[1], place+"|") || strings.HasPrefix(words[1], place+"[") || strings.HasPrefix(words[1], place+",")
		})
}

// wantArgs is the usual first line of an Action: exactly these positional arguments.
func wantArgs(c *cli.Context, names ...string) error {
	if i := slices.Index(c.Args(), ""); i >= 0 && i < len(names) {
		return usagef("%s wants %s, got an empty one", c.Command.Name, names[i])
	}
	switch n := c.NArg(); {
	case n == len(names):
		return nil
	case len(names) == 0:
		return usagef("%s wants no arguments, got %.80q", c.Command.Name, c.Args().First())
	default:
		return usagef("%s wants %s, got %d", c.Command.Name, strings.Join(names, " "), n)
	}
}

var plainWord = pattern.New(`^[A-Za-z0-9_./:@%+,=][A-Za-z0-9_./:@%+,=-]*$`)

// shellWord is s as a shell's user types it.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
