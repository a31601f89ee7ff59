// Package depstest holds the import rules of the house as a test, after go/build's deps_test.go.
package depstest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A package is what go list says about one.
type pkg struct {
	ImportPath string
	Standard   bool
	Deps       []string
}

// TestImportRules checks rules.txt against the transitive imports of every package that ships.
func TestImportRules(t *testing.T) {
	pkgs, std := list(t)
	for _, r := range readRules(t) {
		matched := 0
		for _, p := range pkgs {
			if !match(r.subject, p.ImportPath) || matchAny(r.except, p.ImportPath) {
				continue
			}
			matched++
			for _, d := range p.Deps {
				if bad, why := r.forbids(d, std[d]); bad && !matchAny(r.allow, d) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, d, why)
				}
			}
		}
		if matched == 0 && !r.future {
			t.Errorf("rules.txt:%d: no package matches %q", r.line, r.subject)
		}
	}
}

// TestRulesCanFail holds the checker itself to a few known answers.
func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct {
		rule, dep string
		std, want bool
	}{
		{"tally/verity std", "golang.org/x/sys/unix", false, true},
		{"tally/verity std", "io", true, false},
		{"tally/verity std", "tally/internal/x", false, false},
		{"tally/measure/... not tally/mkimage/...", "tally/mkimage/deb", false, true},
		{"tally/measure/... not tally/mkimage/...", "tally/mkimage", false, true},
		{"tally/... not net", "net", true, true},
		{"tally/... not net", "net/url", true, false},
	} {
		r, err := parseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := r.forbids(c.dep, c.std); got != c.want {
			t.Errorf("rule %q on %s: forbids = %v, want %v", c.rule, c.dep, got, c.want)
		}
	}
	for _, bad := range []string{"tally/x", "tally/x maybe y", "tally/x not"} {
		if _, err := parseRule(bad); err == nil {
			t.Errorf("rule %q: no error", bad)
		}
	}
}

type rule struct {
	subject string   // packages the rule speaks of
	std     bool     // "std": standard library and this module only
	not     []string // "not": patterns that must not be reached
	except  []string
	allow   []string // dependencies that are fine all the same
	future  bool     // the package may not exist yet
	line    int
}

// parseRule reads `SUBJECT std|not PATTERN… [except PATTERN…] [allow PATTERN…] [future]`.
func parseRule(s string) (rule, error) {
	f := strings.Fields(s)
	if len(f) < 2 {
		return rule{}, errors.New("want SUBJECT and a verb")
	}
	r := rule{subject: f[0]}
	var into *[]string
	for _, w := range f[1:] {
		switch w {
		case "std":
			r.std = true
		case "not":
			into = &r.not
		case "except":
			into = &r.except
		case "allow":
			into = &r.allow
		case "future":
			r.future = true
		default:
			if into == nil {
				return rule{}, errors.New("unknown verb " + w)
			}
			*into = append(*into, w)
		}
	}
	if !r.std && len(r.not) == 0 {
		return rule{}, errors.New("rule forbids nothing")
	}
	return r, nil
}

func (r rule) forbids(dep string, std bool) (bool, string) {
	if r.std && !std && !strings.HasPrefix(dep, "tally/") {
		return true, "standard library and this module only"
	}
	for _, p := range r.not {
		if match(p, dep) {
			return true, "the rule says not " + p
		}
	}
	return false, ""
}

func matchAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if match(p, path) {
			return true
		}
	}
	return false
}

// match knows the go command's "..." at the end of a pattern.
func match(pattern, path string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func readRules(t *testing.T) []rule {
	f, err := os.Open("rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []rule
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		r, err := parseRule(text)
		if err != nil {
			t.Fatalf("rules.txt:%d: %v", n, err)
		}
		r.line = n
		rules = append(rules, r)
	}
	return rules
}

// list returns the packages of the module and which packages are standard.
func list(t *testing.T) ([]pkg, map[string]bool) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Deps", "tally/...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var own []pkg
	std := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return own, std
		} else if err != nil {
			t.Fatal(err)
		}
		std[p.ImportPath] = p.Standard
		if strings.HasPrefix(p.ImportPath, "tally/") {
			own = append(own, p)
		}
	}
}
