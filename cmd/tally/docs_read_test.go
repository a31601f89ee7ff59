package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A shownLine is a command line in a document: one to be typed as it stands, or a mention.
type shownLine struct {
	place, text string
	typed       bool
}

// A shownForm is a form in which a text shows a command line.
type shownForm struct {
	form   *regexp.Regexp
	typed  bool
	before string // what the reader adds to it
}

var shownForms = sync.OnceValue(func() []shownForm {
	var names []string
	for _, b := range builders() {
		names = append(names, b.name)
	}
	return []shownForm{
		// A line of code: indented, or behind a word such as "Example:", with the lines that a backslash joins to it.
		{regexp.MustCompile(`(?m)^(?: {3,}|\t+| *[A-Za-z]+: +)(?:[a-z]+: +)?((?:(?:source <\()?tally(?:-keyless)?|make|nix run|scripts/[a-z-]+) (?:.*\\\n)*.*)`), true, ""},
		{regexp.MustCompile("`((?:[A-Z_]+=[a-z0-9]+ )?(?:tally|tally-keyless|make|nix run|scripts/[a-z-]+|source <\\(tally) [^`]*)`"), false, ""},
		{regexp.MustCompile(`'(tally(?:-keyless)? [^']*)'`), false, ""},
		{regexp.MustCompile(`\((?:see )?(tally [^(),;]*)[),;]`), false, ""},
		{regexp.MustCompile(`(?:^|[^\w/.-])(scripts/[a-z][a-z-]*)`), false, ""},
		// One of our commands without our name, with a flag.
		{regexp.MustCompile("`((?:" + strings.Join(names, "|") + ") (?:[a-z]+ )?(?:[A-Z]+ )?--[a-z][^`]*)`"), false, "tally "},
	}
})

// mayShow says, quickly, whether a text can hold any of these forms.
func mayShow(text string) bool {
	return slices.ContainsFunc([]string{"tally ", "tally-keyless ", "`make ", "   make ", "nix run", "scripts/"}, func(s string) bool { return strings.Contains(text, s) }) ||
		strings.Contains(text, "`") && strings.Contains(text, " --")
}

// readTree finds every command line of ours that the tree shows.
func readTree(root fs.FS) (all []shownLine, err error) {
	err = docFiles(root, func(name, text string) error {
		add := func(text string, line func(offset int) int) {
			if !mayShow(text) {
				return
			}
			for _, f := range shownForms() {
				for _, m := range f.form.FindAllStringSubmatchIndex(text, -1) {
					s := text[m[2]:m[3]]
					if !f.typed {
						s = strings.Join(strings.Fields(s), " ")
					}
					all = append(all, shownLine{fmt.Sprintf("%s:%d", name, line(m[2])), f.before + s, f.typed})
				}
			}
		}
		switch filepath.Ext(name) {
		case ".go":
			return goTexts(name, text, add)
		case ".md":
			text = markdownText(text)
		default:
			text = yamlComment.ReplaceAllString(text, "")
		}
		add(text, lineAfter(text, 1))
		return nil
	})
	return all, err
}

var yamlComment = regexp.MustCompile(`(?m)^ *#`)

// docFiles calls f for every file that may show a command line.
func docFiles(root fs.FS, f func(name, text string) error) error {
	return fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		base := e.Name()
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." && (base[0] == '.' || slices.Contains([]string{"bin", "man", "out", "testdata"}, base)):
			return fs.SkipDir
		case base != "SOURCE" && !slices.Contains([]string{".md", ".yaml", ".go"}, filepath.Ext(base)) || strings.HasSuffix(base, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil || !mayShow(string(text)) {
			return err
		}
		return f(name, string(text))
	})
}

// lineAfter counts lines of text, the first of which has that number.
func lineAfter(text string, first int) func(offset int) int {
	return func(offset int) int { return first + strings.Count(text[:offset], "\n") }
}

// markdownText writes a fenced block as an indented one, and leaves out what is said to be removed; line for line.
func markdownText(s string) string {
	fenced, removed := false, false
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(strings.TrimSpace(l), "```"):
			fenced, lines[i] = !fenced, ""
		case fenced:
			lines[i] = "    " + l
		case strings.HasPrefix(l, "#"):
			removed = strings.HasSuffix(l, "# Removed")
		case removed:
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// goTexts calls add for every comment and every string, those of a sum as one. What is no literal in a sum is %v.
func goTexts(name, src string, add func(text string, line func(offset int) int)) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, g := range f.Comments {
		var b strings.Builder
		for _, c := range g.List {
			b.WriteString(strings.TrimPrefix(c.Text, "//") + "\n")
		}
		add(b.String(), lineAfter(b.String(), set.Position(g.Pos()).Line))
	}
	seen := map[ast.Node]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		x, ok := n.(ast.Expr)
		if !ok || seen[n] {
			return true
		}
		text, line := "", []int(nil) // of each byte
		literal := false
		foldStrings(x, func(x ast.Expr) {
			lit, ok := x.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				text, line = text+"%v", append(line, 0, 0)
				return
			}
			s, _ := strconv.Unquote(lit.Value)
			l := set.Position(lit.Pos()).Line
			for i := range len(s) {
				line = append(line, l)
				if s[i] == '\n' && lit.Value[0] == '`' {
					l++
				}
			}
			text, literal = text+s, true
		}, seen)
		if literal {
			add(text, func(offset int) int { return line[offset] })
		}
		return true
	})
	return nil
}

// foldStrings calls f for each part of a sum, or for x.
func foldStrings(x ast.Expr, f func(ast.Expr), seen map[ast.Node]bool) {
	seen[x] = true
	if sum, ok := x.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		foldStrings(sum.X, f, seen)
		foldStrings(sum.Y, f, seen)
		return
	}
	f(x)
}

// shellCommands cuts a line into commands and these into words: quotes, $(…) and <(…) hold together; a comment, a redirection
// and the brackets around what is optional are left out.
func shellCommands(line string) (commands [][]string) {
	var words []string
	target := false // of a redirection
	for _, w := range shellWords.FindAllString(line, -1) {
		switch {
		case w[0] == '#':
			return append(commands, words)
		case w[0] == '\\' || target:
			target = false
		case w == "|" || w == "&&" || w == "||" || w == ";" || w == "&":
			commands, words = append(commands, words), nil
		case w[0] == '>' || w[0] == '<' && !strings.HasPrefix(w, "<("):
			target = len(w) == 1
		default:
			w = strings.TrimPrefix(w, "[")
			if !strings.Contains(w, "[") {
				w = strings.TrimSuffix(w, "]")
			}
			words = append(words, strings.Trim(w, `'"`))
		}
	}
	return append(commands, words)
}

var shellWords = regexp.MustCompile(`(?s)\\\n|#.*|(?:'[^']*'|"[^"]*"|[$<]\([^)]*\)|[^\s'"\\])+`)
