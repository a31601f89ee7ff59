package spec

import (
	"fmt"
	"slices"
	"strings"
)

// MaxPriority is the highest priority of a suite, below that of a pin.
const MaxPriority = 999

// checkSuites checks the list suites. Each entry must be of use: a misspelt name would leave a suite with
// the defaults.
func (c checker) checkSuites() error {
	if n := len(c.s.Suites); n > maxList {
		return c.fail("suites", "suites: %d, want at most %d", n, maxList)
	}
	named := c.s.suiteNames()
	seen := map[string]bool{}
	for i, u := range c.s.Suites {
		at := fmt.Sprintf("suites.%d", i)
		switch {
		case !suiteForm.MatchString(u.Name) || seen[u.Name]:
			return c.fail(at+".name", "%.80q: want a name like trixie, once", u.Name)
		case !slices.Contains(named, u.Name):
			return c.fail(at+".name", "suite %s: nothing in this spec names it", u.Name)
		}
		seen[u.Name] = true
		if err := c.suite(at, u); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) suite(at string, u Suite) error {
	switch full := c.s.SuiteNamed(u.Name); {
	case !suiteForm.MatchString(full.Archive):
		return c.fail(at+".archive", "archive %.80q: want a name like debian", u.Archive)
	case !suiteForm.MatchString(full.Suite):
		return c.fail(at+".suite", "suite %.80q: want a name like trixie", u.Suite)
	case u.Priority < 0 || u.Priority > MaxPriority:
		return c.fail(at+".priority", "priority %d: want 1 to %d", u.Priority, MaxPriority)
	case full.ValidUntil != Enforce && full.ValidUntil != Ignore:
		return c.fail(at+".valid-until", "valid-until %.40q: want enforce or ignore", u.ValidUntil)
	case full.Debian() && u.Keyring != "":
		return c.fail(at+".keyring", "keyring: archive %s is Debian's, whose keys tally knows", full.Archive)
	case full.Debian():
		return nil
	case u.Keyring == "":
		return c.fail(at, "suite %s: archive %s is not Debian's: want a keyring, the file of its signing keys", u.Name, u.Archive)
	}
	return c.local(at+".keyring", u.Keyring)
}

// suiteNames lists the suites that the spec takes packages from.
func (s *Spec) suiteNames() []string {
	all := slices.Clone(s.Kernel.Debian.Suites)
	if p := s.Stub.Debian; p != nil {
		all = append(all, p.Suites...)
	}
	for _, f := range s.Firmware {
		if f.Debian != nil {
			all = append(all, f.Debian.Suites...)
		}
	}
	for _, src := range s.Root {
		if src.Debian != nil {
			all = append(all, src.Debian.Suites...)
		}
	}
	for _, step := range s.Steps {
		all = append(all, step.Root.Suites...)
	}
	return all
}

// pins checks the pins of one source: a package may be pinned once.
func (c checker) pins(at string, d *Debian) error {
	if len(d.Pins) > maxList {
		return c.fail(at, "pins: %d, want at most %d", len(d.Pins), maxList)
	}
	seen := map[string]bool{}
	for i, p := range d.Pins {
		at := fmt.Sprintf("%s.%d", at, i)
		switch {
		case !slices.Contains(d.Suites, p.Suite):
			return c.fail(at+".suite", "suite %.80q: want one of %s", p.Suite, strings.Join(d.Suites, ", "))
		case len(p.Packages) == 0 || len(p.Packages) > maxPackages:
			return c.fail(at+".packages", "packages: %d named, want 1 to %d", len(p.Packages), maxPackages)
		}
		for j, name := range p.Packages {
			if !pkgForm.MatchString(name) || seen[name] {
				return c.fail(fmt.Sprintf("%s.packages.%d", at, j), "package %.140q: want a package name, pinned once", name)
			}
			seen[name] = true
		}
	}
	return nil
}
