package lock

import (
	"fmt"
	"path"
	"strings"
	"time"

	"tally/internal/pattern"
	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

// maxEntries bounds every list of a lock.
const maxEntries = 1 << 17

// SnapshotTime is how snapshot archives spell a time, in Go's notation.
const SnapshotTime = "20060102T150405Z"

var (
	toolchainForm = pattern.New(`^go1\.[0-9]{1,3}(\.[0-9]{1,3}|rc[0-9]{1,2})$`)
	platformForm  = pattern.New(`^[a-z0-9]{1,16}-[a-z0-9]{1,16}$`)
	sumForm       = pattern.New(`^h1:[A-Za-z0-9+/]{43}=$`)
	suiteForm     = pattern.New(`^[a-z0-9][a-z0-9.+-]{0,127}(@[0-9]{8}T[0-9]{6}Z)?$`) // as spec names it, or with a date: Update
	wordForm      = pattern.New(`^[a-z0-9][a-z0-9.+-]{0,127}$`)
)

// check looks at what later code relies on: what goes into addresses, commands and tables.
func (l *Lock) check() error {
	if n := len(l.Toolchains) + len(l.Suites) + len(l.Packages) + len(l.Files) + len(l.Dirs) + len(l.Go) + len(l.Modules) + len(l.OCI) + len(l.Models); n > maxEntries {
		return fmt.Errorf("%d entries, want at most %d", n, maxEntries)
	}
	if l.Arch != "amd64" {
		return fmt.Errorf("arch %.40q: want amd64", l.Arch)
	}
	if l.Variant != "" {
		if err := spec.CheckVariant(l.Variant); err != nil {
			return err
		}
	}
	for _, f := range []func() error{l.checkSuites, l.checkPackages, l.checkGo, l.checkOCI, l.checkModels} {
		if err := f(); err != nil {
			return err
		}
	}
	for _, f := range l.Files {
		if f.Size < 0 {
			return fmt.Errorf("file %.200q: size %d", f.Path, f.Size)
		}
	}
	return nil
}

func (l *Lock) checkSuites() error {
	seen := map[string]bool{}
	for _, s := range l.Suites {
		if !suiteForm.MatchString(s.Name) || seen[s.Name] {
			return fmt.Errorf("suite %.80q: want a name, once", s.Name)
		}
		seen[s.Name] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("suite %s: %w", s.Name, err)
		}
		if _, date, ok := strings.Cut(s.Name, "@"); ok && date != s.Snapshot {
			return fmt.Errorf("suite %s: snapshot %.40q: want that of its name", s.Name, s.Snapshot)
		}
		if _, err := time.Parse(SnapshotTime, s.Snapshot); err != nil {
			return fmt.Errorf("suite %s: snapshot %.40q: want a time like %s", s.Name, s.Snapshot, SnapshotTime)
		}
		for _, i := range s.Indexes {
			if !wordForm.MatchString(i.Component) || i.Size < 0 {
				return fmt.Errorf("suite %s: index %.80q: want a component and a size", s.Name, i.Component)
			}
		}
	}
	return nil
}

// check looks at the words that became possible with spec.Suite.
func (s *Suite) check() error {
	debian := spec.Suite{Archive: s.Archive}.Debian()
	switch {
	case !wordForm.MatchString(s.Archive) || debian && s.Archive != archiveOf(s.dist()):
		return fmt.Errorf("archive %.40q, want %s or one that is not Debian's", s.Archive, archiveOf(s.dist()))
	case debian == (s.Keyring != nil):
		return fmt.Errorf("archive %s: want a keyring exactly when it is not Debian's", s.Archive)
	case s.Keyring != nil && (s.Keyring.Size < 0 || s.Keyring.Size > deb.MaxKeyring):
		return fmt.Errorf("keyring: %d bytes, want at most %d", s.Keyring.Size, deb.MaxKeyring)
	case !wordForm.MatchString(s.dist()):
		return fmt.Errorf("suite %.80q: want a name", s.Dist)
	case s.Priority < 0 || s.Priority > spec.MaxPriority:
		return fmt.Errorf("priority %d: want 1 to %d", s.Priority, spec.MaxPriority)
	case s.Policy != "" && s.Policy != spec.Enforce && s.Policy != spec.Ignore:
		return fmt.Errorf("valid_until_policy %.40q: want enforce or ignore", s.Policy)
	}
	return nil
}

func (l *Lock) checkPackages() error {
	for _, p := range l.Packages {
		switch {
		case l.suite(p.Suite) == nil:
			return fmt.Errorf("package %.80q: suite %.80q is not in the lock", p.Name, p.Suite)
		case p.Path == "" || path.Clean(p.Path) != p.Path || path.IsAbs(p.Path) || strings.HasPrefix(p.Path, "..") || strings.ContainsAny(p.Path, "\\?#%\x00\n"):
			return fmt.Errorf("package %.80q: path %.200q: want a clean relative path", p.Name, p.Path)
		case p.Size < 0:
			return fmt.Errorf("package %.80q: size %d", p.Name, p.Size)
		}
	}
	return nil
}

func (l *Lock) checkGo() error {
	for _, t := range l.Toolchains {
		if !toolchainForm.MatchString(t.Version) || !platformForm.MatchString(t.Platform) || !sumForm.MatchString(t.Sum) {
			return fmt.Errorf("toolchain %.40q for %.40q with sum %.80q: want a release like go1.26.8, a platform like linux-amd64, h1:…", t.Version, t.Platform, t.Sum)
		}
	}
	for _, g := range l.Go {
		if !toolchainForm.MatchString(g.Toolchain) {
			return fmt.Errorf("program %.200q: toolchain %.40q: want a release like go1.26.8", g.Package, g.Toolchain)
		}
	}
	for _, m := range l.Modules {
		if !sumForm.MatchString(m.Sum) {
			return fmt.Errorf("module %.200q: sum %.80q: want h1:…", m.Path, m.Sum)
		}
	}
	return nil
}

// archiveOf says which of Debian's archives holds a suite: security updates have their own.
func archiveOf(suite string) string { return new(spec.Spec).SuiteNamed(suite).Archive }
