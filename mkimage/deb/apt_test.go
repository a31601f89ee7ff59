package deb

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// An apt asks apt about the indexes of Debian that it has fetched on this machine, as if nothing were
// installed.
type apt struct {
	tool, arch string
	options    []string
	packages   []*Package
}

func newApt(t *testing.T) *apt {
	t.Helper()
	a := &apt{tool: testtool.Need(t, "apt-get")}
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(out)
	}
	a.arch = strings.TrimSpace(run(testtool.Need(t, "dpkg"), "--print-architecture"))
	targets := run(a.tool, "indextargets", "--format", "$(ARCHITECTURE)|$(FILENAME)|deb [trusted=yes] $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian", "Component: main")
	var sources strings.Builder
	files := map[string]string{"status": "", "archives/partial/x": "", "lists/partial/x": ""}
	for line := range strings.Lines(targets) {
		f := strings.SplitN(line, "|", 3)
		if f[0] != a.arch || strings.Contains(f[2], "-backports") { // apt takes nothing from backports unasked
			continue
		}
		text := run("/usr/lib/apt/apt-helper", "cat-file", f[1])
		ps, err := ParseIndex(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(f[1]), err)
		}
		// Apt reads a package's own entry again, which takes long when the list is compressed.
		list, _, _ := strings.Cut(filepath.Base(f[1]), "_Packages")
		files["lists/"+list+"_Packages"] = text
		a.packages = append(a.packages, ps...)
		sources.WriteString(f[2])
	}
	if len(a.packages) < 1000 {
		testtool.Missing(t, "apt has fetched no package list of Debian here (apt-get update)")
	}
	releases, err := filepath.Glob("/var/lib/apt/lists/*_InRelease")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range releases {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files["lists/"+filepath.Base(name)] = string(b)
	}
	files["sources.list"] = sources.String()
	dir := t.TempDir()
	put(t, dir, files)
	a.options = aptOptions(dir)
	return a
}

// resolver is one that leaves the second solver out if the apt here has none.
func (a *apt) resolver(t *testing.T, r *Resolver) *Resolver {
	t.Helper()
	out, err := exec.Command(a.tool, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var major int
	if _, err := fmt.Sscanf(string(out), "apt %d.", &major); err != nil {
		t.Fatalf("%s --version: %.80s: %v", a.tool, out, err)
	}
	r.once = major < 3
	return r
}

// put writes files below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// aptOptions makes apt look at dir alone, and act as it does when nobody configured it.
func aptOptions(dir string) (options []string) {
	for _, o := range []string{"Dir::State::status=" + dir + "/status", "Dir::State::lists=" + dir + "/lists", "Dir::Etc::sourcelist=" + dir + "/sources.list", "Dir::Etc::sourceparts=/dev/null",
		"Dir::Etc::preferences=" + dir + "/preferences", "Dir::Etc::preferencesparts=/dev/null", "Dir::Cache=" + dir, "Dir::Cache::pkgcache=pkgcache.bin", "Dir::Cache::srcpkgcache=srcpkgcache.bin",
		"Debug::NoLocking=1", "APT::Install-Recommends=0", "APT::AutoRemove::SuggestsImportant=1", "APT::Solver=internal", "APT::Sandbox::User=root", "Acquire::Languages=none"} {
		options = append(options, "-o", o)
	}
	return options
}

// aptLine is a line of --print-uris: 'ADDRESS' NAME_VERSION_ARCH.deb SIZE HASH. It is asked for rather than
// -s, which also works out an order of installation, at ten times the cost.
var aptLine = regexp.MustCompile(`(?m)^'[^']*' ([^_ ]+)_([^_ ]+)_[^_ ]+\.deb `)

// ask returns what apt would install for names, as NAME=VERSION, sorted.
func (a *apt) ask(names []string) ([]string, error) {
	cmd := exec.Command(a.tool, slices.Concat(a.options, []string{"-qq", "--print-uris", "install"}, names)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get install %s: %w: %s%s", strings.Join(names, " "), err, out, &stderr)
	}
	var all []string
	for _, m := range aptLine.FindAllStringSubmatch(string(out), -1) {
		all = append(all, m[1]+"="+strings.ReplaceAll(m[2], "%3a", ":"))
	}
	slices.Sort(all)
	return all, nil
}

// render puts our answer into the form of apt's.
func render(ps []*Package) []string {
	var all []string
	for _, p := range ps {
		all = append(all, p.Name+"="+string(p.Version))
	}
	slices.Sort(all)
	return all
}

// TestAgainstApt holds our choice against apt's for the same roots and indexes.
func TestAgainstApt(t *testing.T) {
	a := newApt(t)
	r := a.resolver(t, NewResolver(a.packages, a.arch, level))
	for _, roots := range [][]string{
		slices.Concat(r.Base(), []string{"apt", "systemd", "systemd-sysv", "dbus"}),
		// Many virtual packages and alternatives, some versioned.
		{"linux-headers-" + a.arch, "build-essential", "dracut", "postfix", "podman", "default-jre-headless", "ca-certificates", "nginx"},
		{"gnome-core"},
	} {
		name := roots[len(roots)-1]
		theirs, err := a.ask(roots)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := r.Resolve(roots)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		closed(t, ps)
		if d := cmp.Diff(theirs, render(ps)); d != "" {
			t.Errorf("%s (-apt +tally):\n%s", name, d)
		}
	}
}

// closed checks that every dependency of ps is among them and that none excludes another.
func closed(t *testing.T, ps []*Package) {
	t.Helper()
	type provision struct {
		by *Package
		as Version
	}
	has := map[string][]provision{}
	for _, p := range ps {
		has[p.Name] = append(has[p.Name], provision{p, p.Version})
		for _, v := range p.Provides {
			has[v.Name] = append(has[v.Name], provision{p, v.Version})
		}
	}
	others := func(p *Package, alts []Relation) bool {
		return slices.ContainsFunc(alts, func(a Relation) bool {
			return slices.ContainsFunc(has[a.Name], func(v provision) bool { return v.by != p && a.satisfiedBy(v.as) })
		})
	}
	for _, p := range ps {
		for _, d := range p.Depends {
			if !others(nil, d) {
				t.Errorf("package %s: %s is not there", p.Name, joinAlts(d))
			}
		}
		for _, d := range p.Conflicts {
			if others(p, d) {
				t.Errorf("package %s excludes one that is there: %s", p.Name, joinAlts(d))
			}
		}
	}
}

// word is a name in the short lines of a case.
var word = regexp.MustCompile(`\b(?:[a-z]{2,3}|none|p[0-9]+)\b`)

// TestCasesAgainstApt asks apt about the cases of TestResolve and TestResolveRefusals, all in one archive: the names
// of each are made its own.
func TestCasesAgainstApt(t *testing.T) {
	a := &apt{tool: testtool.Need(t, "apt-get")}
	w := &world{suites: []worldSuite{{name: "base", priority: 500}}}
	roots := map[string][]string{}
	for i, cases := range []map[string]resolveCase{resolveCases, refusals} {
		for j, name := range slices.Sorted(maps.Keys(cases)) {
			own := func(s string) string { return word.ReplaceAllString(s, fmt.Sprintf("${0}-%d-%d", i, j)) }
			for _, line := range cases[name].index {
				parts := strings.Split(line, "; ")
				parts[0] = own(parts[0])
				for k, f := range parts[1:] {
					if field, value, _ := strings.Cut(f, ": "); !slices.Contains([]string{"Priority", "Essential", "Multi-Arch"}, field) {
						parts[1+k] = field + ": " + own(value)
					}
				}
				w.suites[0].packages.WriteString(stanzas(strings.Join(parts, "; ")))
			}
			for _, root := range cases[name].roots {
				roots[name] = append(roots[name], own(root))
			}
		}
	}
	a.options = w.write(t, t.TempDir())
	r := a.resolver(t, w.resolver(t))
	for name, names := range roots {
		theirs, aptErr := a.ask(names)
		ps, err := r.Resolve(names)
		if (err == nil) != (aptErr == nil) || err == nil && !slices.Equal(theirs, render(ps)) {
			t.Errorf("%s: %s, %v; apt: %s, %v", name, render(ps), err, theirs, aptErr)
		}
	}
}
