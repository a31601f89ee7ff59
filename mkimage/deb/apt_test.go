package deb

import (
	"bytes"
	"fmt"
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
	for line := range strings.Lines(targets) {
		f := strings.SplitN(line, "|", 3)
		if f[0] != a.arch || strings.Contains(f[2], "-backports") { // apt takes nothing from backports unasked
			continue
		}
		ps, err := ParseIndex(strings.NewReader(run("/usr/lib/apt/apt-helper", "cat-file", f[1])))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(f[1]), err)
		}
		a.packages = append(a.packages, ps...)
		sources.WriteString(f[2])
	}
	if len(a.packages) < 1000 {
		testtool.Missing(t, "apt has fetched no package list of Debian here (apt-get update)")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "archives/partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"status": "", "sources.list": sources.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []string{"Dir::State::status=" + filepath.Join(dir, "status"), "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"),
		"Dir::Etc::sourceparts=/dev/null", "Dir::Etc::preferencesparts=/dev/null", "Dir::Cache=" + dir, "Debug::NoLocking=1", "APT::Install-Recommends=0"} {
		a.options = append(a.options, "-o", o)
	}
	return a
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
	r := NewResolver(a.packages, a.arch, level)
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
	has := map[string][]provider{}
	for _, p := range ps {
		has[p.Name] = append(has[p.Name], provider{p, p.Version})
		for _, v := range p.Provides {
			has[v.Name] = append(has[v.Name], provider{p, v.Version})
		}
	}
	others := func(p *Package, alts []Relation) bool {
		return slices.ContainsFunc(alts, func(a Relation) bool {
			return slices.ContainsFunc(has[a.Name], func(v provider) bool { return v.p != p && a.satisfiedBy(v.version) })
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
