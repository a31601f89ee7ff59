package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tally/internal/cli"
)

// TestDocumentsShowWhatIsAccepted reads every command line of ours that the tree shows, and runs none: those of documents, of
// comments, and of the strings that help and hints are made of (see docs_read_test.go).
func TestDocumentsShowWhatIsAccepted(t *testing.T) {
	root := os.DirFS("../..")
	d, err := newDocCheck(root)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shown {
		if err := d.check(s.text, s.typed); err != nil {
			t.Errorf("%s: %s: %v", s.place, s.text, err)
		}
	}
	for name, least := range map[string]int{"tally": 200, "make": 15, "scripts": 5, "go": 2, "nix": 2} {
		if d.seen[name] < least {
			t.Errorf("%d lines of %s were found, want at least %d: the reader finds nothing", d.seen[name], name, least)
		}
	}
}

// docLines are lines to be typed, each with a part of what is wrong with it.
var docLines = map[string]string{
	"tally build SPEC -o OUT --jobs N # why": "",
	"tally verity":                           "",
	"tally --version | grep -F devel":        "",
	"tally help measure snp":                 "",
	"tally release keygen -o me && tally release sign out --key me.key -o b": "",
	"tally inputs export|import SPEC FILE":                                   "",
	"tally measure snp --vcpus 4 … --append \"$(cat cmdline)\"":              "",
	"tally lock SPEC [--offline] > lock.txt":                                 "",
	"tally rebuild --follow LOG":                                             "",
	"tally match ...":                                                        "",
	"tally release sign OUT \\\n  --key K -o B":                              "",
	"A=b make fuzz FUZZTIME=1m":                                              "",
	"scripts/gpu inputs":                                                     "",
	"source <(tally completion bash)":                                        "",
	"nix run . -- doctr":                                                     "unknown command",
	"tally audit":                                                            "unknown command",
	"tally release unsign":                                                   "unknown subcommand",
	"tally help audit":                                                       "unknown command",
	"tally build SPEC -o OUT --fast":                                         "not defined",
	"tally build SPEC --jobs many -o OUT":                                    "invalid value",
	"tally build SPEC -o":                                                    "needs an argument",
	"tally build SPEC -o --twice":                                            "-o has no value",
	"tally build -o OUT":                                                     "0 arguments, want SPEC",
	"tally compare A":                                                        "1 arguments, want A B",
	"tally lock diff A B C":                                                  "3 arguments, want A B",
	"tally verity verify DATA HASH ROOT MORE":                                "want DATA HASH [ROOT]",
	"tally secret send TARGET":                                               "want TARGET NAME=FILE...",
	"tally run OUT -- tally connect --nothing":                               "--nothing",
	"tally log monitor LOG --exec 'tally rebuild B --again'":                 "--again",
	"tally measure snp-id-block --measurement $(tally measure snp --cpus 4)": "--cpus",
	"tally lock SPEC && tally build SPEC -o OUT --fast":                      "--fast",
	"tally inputs export|explode SPEC FILE":                                  "unknown subcommand",
	"tally-keyless --serve":                                                  "takes no arguments",
	"tally man DIR DIR":                                                      "2 arguments, want DIR",
	"tally doctor now":                                                       "1 arguments, want none",
	"make nothing":                                                           "no such target",
	"scripts/nothing":                                                        "no such file",
	"make build && go run ./internal/nothing":                                "no such file",
}

// TestDocumentCheckCanFail holds the check to a few known answers.
func TestDocumentCheckCanFail(t *testing.T) {
	d, err := newDocCheck(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range docLines {
		if err := d.check(line, true); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	for line, good := range map[string]bool{"tally build": true, "tally build --twice": true, "tally compare A": false} {
		if err := d.check(line, false); good != (err == nil) {
			t.Errorf("%s, mentioned: %v", line, err)
		}
	}
}

var (
	assignment  = regexp.MustCompile(`^[A-Z_]+=`)
	nested      = regexp.MustCompile(`(?s)^[$<]\((.*)\)$|^(tally .*)`)
	placeholder = regexp.MustCompile(`^[A-Z][A-Z0-9-]*$|[%$]`)
)

// A docCheck knows what can be typed.
type docCheck struct {
	root    fs.FS
	targets map[string]bool // of the Makefile
	seen    map[string]int
}

func newDocCheck(root fs.FS) (*docCheck, error) {
	d := &docCheck{root: root, targets: map[string]bool{}, seen: map[string]int{}}
	makefile, err := fs.ReadFile(root, "Makefile")
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):([^=]|$)`).FindAllSubmatch(makefile, -1) {
		d.targets[string(m[1])] = true
	}
	return d, err
}

// check says what is wrong with the commands of a shell's line. One that is mentioned, not to be typed, may leave out what
// it wants.
func (d *docCheck) check(line string, typed bool) error {
	for _, words := range shellCommands(line) {
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		for _, words := range alternatives(words) {
			if err := d.command(words, typed); err != nil {
				return err
			}
		}
	}
	return nil
}

// alternatives takes `a|b c` for `a c` and `b c`.
func alternatives(words []string) [][]string {
	for i, w := range words {
		if strings.ContainsAny(w, " (<\\") || !strings.Contains(w, "|") {
			continue
		}
		var all [][]string
		for _, one := range strings.Split(w, "|") {
			all = append(all, alternatives(slices.Concat(words[:i], []string{one}, words[i+1:]))...)
		}
		return all
	}
	return [][]string{words}
}

func (d *docCheck) command(words []string, typed bool) error {
	if len(words) == 0 {
		return nil
	}
	name, args := words[0], words[1:]
	if strings.HasPrefix(name, "scripts/") {
		name, args = "scripts", words[:1]
	}
	d.seen[name]++
	for i, a := range args {
		inner := ""
		if m := nested.FindStringSubmatch(a); m != nil {
			inner = m[1] + m[2]
		} else if a == "--" && name == "tally" {
			inner = strings.Join(args[i+1:], " ")
		} else if a == "--" && name == "nix" {
			inner = "tally " + strings.Join(args[i+1:], " ")
		}
		if err := d.check(inner, typed); err != nil {
			return err
		}
		dir, ours := strings.CutPrefix(a, "./")
		if _, err := fs.Stat(d.root, dir); err != nil && (name == "scripts" || name == "go" && ours && !strings.Contains(a, "...")) {
			return fmt.Errorf("no such file: %s", a)
		}
		if name == "make" && !d.targets[a] && !strings.Contains(a, "=") {
			return fmt.Errorf("no such target: %s", a)
		}
	}
	switch {
	case name == "tally":
		return accepted(words, typed)
	case name == "tally-keyless" && len(args) > 0:
		return errors.New("tally-keyless takes no arguments")
	}
	return nil
}

// accepted has the program's own parser read words, with actions that only look at what it found.
func accepted(words []string, typed bool) error {
	words = slices.Clone(words)
	open := slices.ContainsFunc(words, anyNumber)
	words = slices.DeleteFunc(words, anyNumber)
	for i, w := range words {
		if placeholder.MatchString(w) {
			words[i] = "0" // good for a name, a number, and a time
		}
	}
	app := newApp(&env{out: new(bytes.Buffer)}, words)
	var only func(cs []*cli.Command)
	only = func(cs []*cli.Command) {
		for _, c := range cs {
			if only(c.Subcommands); !c.IsGroup() {
				c.Action = func(x *cli.Context) error { return fits(x, open, typed) }
			}
		}
	}
	only(app.Commands)
	err := app.Run(context.Background(), words)
	if !typed && err != nil && (strings.Contains(err.Error(), "required flag") || strings.Contains(err.Error(), "needs an argument")) {
		return nil
	}
	return err
}

// anyNumber: … stands for any number of arguments.
func anyNumber(w string) bool { return w == "…" || w == "..." }

// flagInstead are flags that stand in place of the arguments.
var flagInstead = map[string]string{"init": "schema", "rebuild": "follow", "sign": "root-hash-file"}

// fits says what the parser does not.
func fits(x *cli.Context, open, typed bool) error {
	for _, f := range x.Command.Flags {
		values := append(x.StringSlice(f.Names()[0]), x.String(f.Names()[0]))
		if slices.ContainsFunc(values, func(s string) bool { return strings.HasPrefix(s, "--") }) {
			return fmt.Errorf("%s has no value", strings.TrimSuffix(strings.Fields(f.String())[0], ","))
		}
	}
	if x.NArg() == 0 && (!typed || x.IsSet(flagInstead[x.Command.Name])) {
		return nil
	}
	if least, most := argCount(x.Command.ArgsUsage); !open && (x.NArg() < least || x.NArg() > most) {
		return fmt.Errorf("%d arguments, want %s", x.NArg(), cmp.Or(x.Command.ArgsUsage, "none"))
	}
	return nil
}

// argCount reads a command's usage: how many arguments it wants at least and at most.
func argCount(usage string) (least, most int) {
	optional := false
	for _, w := range strings.Fields(usage) {
		optional = optional || strings.HasPrefix(w, "[")
		if w != "--" && w != "[--" {
			most++
			if !optional {
				least++
			}
		}
		if strings.HasSuffix(strings.TrimRight(w, "]"), "...") || w == "QEMU-ARGUMENTS" {
			most = 1 << 20
		}
		optional = optional && !strings.HasSuffix(w, "]")
	}
	return least, most
}
