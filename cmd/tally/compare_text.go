package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/term"

	"tally/compare"
)

// A painter colours text, or does not.
type painter bool

// wantColour says whether w gets colour: a terminal does, unless NO_COLOR (no-color.org) or TERM=dumb say no.
func wantColour(w io.Writer, getenv func(string) string) painter {
	f, ok := w.(*os.File)
	return painter(ok && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd())))
}

func (p painter) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) bold(s string) string  { return p.paint("1", s) }
func (p painter) red(s string) string   { return p.paint("31", s) }
func (p painter) green(s string) string { return p.paint("32", s) }
func (p painter) faint(s string) string { return p.paint("2", s) }

// plain makes a foreign string harmless to a terminal: one line without control characters.
func plain(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

// printCompare prints a whole report.
func printCompare(e *env, r *compare.Report) {
	p := wantColour(e.stdout, os.Getenv)
	if r.Equal {
		for _, a := range r.Artifacts {
			e.printf("%-7s %s\n", a.Status, plain(a.Name))
		}
		e.printf("%s  %s\n", p.green("EQUAL"), equalText(r))
		return
	}
	for _, a := range r.Artifacts {
		status := p.green(string(a.Status))
		if a.Status != compare.Match {
			status = p.red(string(a.Status))
		}
		e.printf("%s%s %s%s\n", status, strings.Repeat(" ", 7-len(a.Status)), plain(a.Name), sizes(a))
	}
	printExplanation(e, p, r)
}

func equalText(r *compare.Report) string {
	if r.Kind == "output" {
		return fmt.Sprintf("%d files, every byte", len(r.Artifacts))
	}
	if r.Kind == "tree" {
		return "every entry"
	}
	return "every byte"
}

func sizes(a compare.Artifact) string {
	if a.Status != compare.Differ || a.SizeA == a.SizeB {
		return ""
	}
	return fmt.Sprintf("  %d -> %d bytes", a.SizeA, a.SizeB)
}

// printExplanation prints what is said about a difference: causes, inputs, differences, registers.
func printExplanation(e *env, p painter, r *compare.Report) {
	e.printf("%s\n", p.bold("likely causes"))
	for i, c := range r.Causes {
		if i == 20 {
			e.printf("  … %d more (--json lists all)\n", len(r.Causes)-i)
			break
		}
		times := ""
		if c.Count > 1 {
			times = fmt.Sprintf(" (%d times)", c.Count)
		}
		e.printf("  %s%s  %s\n", plain(c.Cause), times, p.faint(plain(c.Example)))
	}
	if len(r.Inputs) > 0 {
		e.printf("%s\n", p.bold("inputs"))
	}
	for _, in := range r.Inputs {
		e.printf("  %s %s\n", plain(in.Kind), plain(in.Name))
		printSides(e, p, orNone(in.A), orNone(in.B))
	}
	printDifferences(e, p, r)
	printRegisters(e, p, r)
	for _, n := range r.Notes {
		e.printf("%s %s\n", p.bold("note"), plain(n))
	}
}

func printSides(e *env, p painter, a, b string) {
	e.printf("    %s\n    %s\n", p.red("- "+plain(a)), p.green("+ "+plain(b)))
}

func printDifferences(e *env, p painter, r *compare.Report) {
	head := ""
	for _, d := range r.Differences {
		if d.Field == "file" { // the table of artefacts says it
			continue
		}
		if h := strings.TrimSuffix(d.Layer+"  "+d.Where, "  "); h != head {
			head = h
			e.printf("%s\n", p.bold(plain(h)))
		}
		line := plain(strings.TrimSpace(d.Path + "  " + d.Field))
		tail := "  [" + plain(d.Cause) + "]"
		if d.Owner != "" && d.Owner != d.Cause {
			tail += "  from " + plain(d.Owner)
		}
		if d.Follows {
			e.printf("  %s\n", p.faint(line+"  [follows: "+plain(d.Cause)+"]"))
		} else {
			e.printf("  %s%s\n", line, tail)
		}
		if d.Text == "" || d.Field == "text" || strings.Contains(d.Cause, "one byte") {
			printSides(e, p, orNone(d.A), orNone(d.B))
		}
		printText(e, p, d.Text)
	}
	if r.Omitted > 0 {
		e.printf("  … %d more differences like these (--all)\n", r.Omitted)
	}
}

// printText prints the lines of a unified diff.
func printText(e *env, p painter, text string) {
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		tabs := strings.ReplaceAll(line, "\t", "    ")
		switch s := "      " + plain(tabs); {
		case text == "":
		case strings.HasPrefix(line, "-"):
			e.printf("%s\n", p.red(s))
		case strings.HasPrefix(line, "+"):
			e.printf("%s\n", p.green(s))
		default:
			e.printf("%s\n", s)
		}
	}
}

// bootText names the ways to boot of compare.Register.
var bootText = map[string]string{"direct": "direct boot", "uki": "UKI boot", "any": "any boot"}

func printRegisters(e *env, p painter, r *compare.Report) {
	e.printf("%s\n", p.bold("registers that move (values: tally measure)"))
	switch {
	case len(r.Registers) > 0:
	case slices.Contains(r.Notes, compare.NoRegister):
		e.printf("  none\n")
	default: // what was not read may move one: a note says so
		e.printf("  none known\n")
	}
	for _, reg := range r.Registers {
		e.printf("  %-18s %-12s %s\n", reg.Name, bootText[reg.Boot], p.faint(plain(strings.Join(reg.Because, ", "))))
	}
}
