package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"tally/internal/atomicfile"
	"tally/internal/cli"
)

func manCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "write one man page a command (section 1) into a directory",
		ArgsUsage: "DIR",
		Description: "Writes tally.1 and tally-COMMAND.1 for every command. They hold what --help prints, so that the two\n" +
			"cannot differ; read one with 'man -l DIR/tally-build.1'.\n\n" +
			"--json prints tally.man/v1: dir, pages (how many).",
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, "DIR"); err != nil {
				return err
			}
			n, err := writeManPages(c.App, c.Args().First())
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(manAnswer{"tally.man/v1", c.Args().First(), n})
			}
			e.logf("%d man pages in %s", n, c.Args().First())
			return nil
		},
	}
}

// A manAnswer is tally.man/v1.
type manAnswer struct {
	Schema string `json:"schema"`
	Dir    string `json:"dir"`
	Pages  int    `json:"pages"`
}

func writeManPages(app *cli.App, dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	pages := map[string][]byte{"tally.1": manRoot(app)}
	var walk func(words string, cs []*cli.Command)
	walk = func(words string, cs []*cli.Command) {
		for _, c := range cs {
			words := words + " " + c.Name
			walk(words, c.Subcommands)
			if c.IsGroup() {
				continue
			}
			pages[strings.ReplaceAll(words, " ", "-")+".1"] = manLeaf(words, c)
		}
	}
	walk("tally", app.Commands)
	var written []string
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		file := filepath.Join(dir, name)
		if err := atomicfile.WriteFile(file, pages[name], 0o644); err != nil {
			for _, w := range written { // some of the pages would look like all
				err = errors.Join(err, os.Remove(w))
			}
			return 0, err
		}
		written = append(written, file)
	}
	return len(pages), nil
}

func manRoot(app *cli.App) []byte {
	b := new(bytes.Buffer)
	manHead(b, "tally", app.Usage)
	fmt.Fprintf(b, ".SH SYNOPSIS\n.B tally\n.I command\n[options] [arguments]\n.SH COMMANDS\n")
	var walk func(prefix string, cs []*cli.Command)
	walk = func(prefix string, cs []*cli.Command) {
		for _, c := range cs {
			walk(prefix+" "+c.Name, c.Subcommands)
			if !c.IsGroup() {
				fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(prefix+" "+c.Name), roff(c.Usage))
			}
		}
	}
	walk("tally", app.Commands)
	fmt.Fprintf(b, ".SH OPTIONS\n")
	manFlag(b, "--help, -h", "show help")
	manFlag(b, "--version, -v", "print the version")
	manExit(b)
	return b.Bytes()
}

func manFlag(b *bytes.Buffer, names, usage string) {
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(names), roff(usage))
}

// manLeaf is the page of the command that is typed as words.
func manLeaf(words string, c *cli.Command) []byte {
	b := new(bytes.Buffer)
	manHead(b, strings.ReplaceAll(words, " ", "-"), c.Usage)
	fmt.Fprintf(b, ".SH SYNOPSIS\n.B %s\n[options] %s\n", roff(words), roff(c.ArgsUsage))
	if c.Description != "" {
		fmt.Fprintf(b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(c.Description))
	}
	fmt.Fprintf(b, ".SH OPTIONS\n")
	for _, f := range c.Flags {
		names, usage, ok := strings.Cut(f.String(), "\t")
		if !ok {
			names, usage = f.String(), ""
		}
		manFlag(b, names, strings.TrimSpace(usage))
	}
	manFlag(b, "--help, -h", "show help")
	manExit(b)
	return b.Bytes()
}

func manHead(b *bytes.Buffer, name, usage string) {
	fmt.Fprintf(b, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(name), roff(usage))
}

func manExit(b *bytes.Buffer) {
	fmt.Fprint(b, ".SH EXIT STATUS\n")
	for _, row := range []struct{ code, text string }{
		{"0", "the answer is yes"},
		{"1", "the operation failed; stdout is empty and no output file is left; or the answer could not be written (a stdout that was closed before tally began counts as /dev/null)"},
		{"2", "wrong flags or arguments; stdout is empty and no output file is left"},
		{"3", "bytes differ"},
		{"4", "a signature, proof or hash tree is not verified"},
		{"5", "appraisal failed; with --json, of a command that ends with 3, 4 or 5 before it has its own object, stdout is tally.refusal/v1: reason, error"},
	} {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", row.code, row.text)
	}
}

// roff escapes text for a man page: backslashes and hyphens (which must stay copyable), what is not ASCII (which groff by
// itself reads as Latin-1), and a leading dot or quote, which would be a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	var ascii strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			ascii.WriteRune(r)
		} else {
			fmt.Fprintf(&ascii, `\[u%04X]`, r)
		}
	}
	s = ascii.String()
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
