package spec

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"tally/internal/pattern"
	"tally/internal/strictyaml"
	"tally/mkimage/tree"
)

// Limits on a spec. The document itself is bounded by strictyaml.MaxSize.
const (
	maxSources   = 256
	maxPackages  = 4096 // names in one source
	maxList      = 256  // modules, devices, firmware, suites
	maxOverrides = 4096
	maxEpoch     = 1<<32 - 1
	minEpoch     = 315532800 // 1980-01-01, the first date FAT can hold
)

// readCapped reads a file that may be larger than a spec can be: the parser names the limit.
func readCapped(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, strictyaml.MaxSize+1))
}

// A checker looks at what the grammar alone cannot say. Paths in its messages are strictyaml's.
type checker struct {
	s    *Spec
	fail func(path, format string, args ...any) error
}

var (
	nameForm    = pattern.New(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	versionForm = pattern.New(`^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}$`)
	suiteForm   = pattern.New(`^[a-z0-9][a-z0-9-]{0,63}$`)
	pkgForm     = pattern.New(`^[a-z0-9][a-z0-9.+-]{1,127}$`)
	moduleForm  = pattern.New(`^[A-Za-z0-9_-]{1,64}$`)
	goPkgForm   = pattern.New(`^\./[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*$`)
)

func (c checker) check() error {
	s := c.s
	if !nameForm.MatchString(s.Name) {
		return c.fail("name", "name %.80q: want lower-case letters, digits, dots and hyphens, at most 64", s.Name)
	}
	if !versionForm.MatchString(s.Version) {
		return c.fail("version", "version %.80q: want one word of at most 64 characters, like 0.1.0", s.Version)
	}
	if s.Epoch < minEpoch || s.Epoch > maxEpoch {
		return c.fail("epoch", "epoch %d: want seconds since 1970, from %d (the year 1980) to %d", s.Epoch, minEpoch, int64(maxEpoch))
	}
	for _, f := range []func() error{c.checkRoot, c.checkSteps, c.checkDevices, c.checkBoot, c.checkFirmware, c.checkSuites, c.checkOutputs} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// one wants exactly one of the named alternatives.
func (c checker) one(at, what string, names []string, set []bool) error {
	n := 0
	for _, b := range set {
		if b {
			n++
		}
	}
	if n != 1 {
		return c.fail(at, "%s: want exactly one of %s; got %d", what, strings.Join(names, ", "), n)
	}
	return nil
}

func (c checker) checkRoot() error {
	if n := len(c.s.Root); n == 0 || n > maxSources {
		return c.fail("root", "root: %d sources, want 1 to %d", n, maxSources)
	}
	for i, src := range c.s.Root {
		at := fmt.Sprintf("root.%d", i)
		if err := c.one(at, "source", sourceNames, src.set()); err != nil {
			return err
		}
		if err := c.checkSource(at, src); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) checkSource(at string, src Source) error {
	switch {
	case src.Debian != nil:
		return c.debian(at+".debian", src.Debian)
	case src.OCI != nil:
		return c.oci(at+".oci", src.OCI)
	case src.Dir != nil:
		return c.dir(at+".dir", src.Dir)
	case src.Tar != nil:
		return c.tar(at+".tar", src.Tar)
	case src.File != nil:
		if err := c.decompress(at+".file.decompress", src.File.Decompress); err != nil {
			return err
		}
		if err := c.fileMode(at+".file", src.File); err != nil {
			return err
		}
		return c.both(at+".file", src.File.Path, src.File.Target, false)
	}
	if src.Model != nil {
		return c.model(at+".model", src.Model)
	}
	g := src.Go
	if err := c.program(at+".go", g); err != nil {
		return err
	}
	if err := c.attributes(at+".go", g.Mode, &g.UID, &g.GID); err != nil {
		return err
	}
	return c.target(at+".go.target", g.Target, false)
}

func (c checker) dir(at string, d *Dir) error {
	if err := c.attributes(at, nil, &d.UID, &d.GID); err != nil {
		return err
	}
	if err := c.overrides(at+".override", d.Override); err != nil {
		return err
	}
	return c.both(at, d.Path, d.Target, true)
}

func (c checker) tar(at string, t *Tar) error {
	if err := c.decompress(at+".decompress", t.Decompress); err != nil {
		return err
	}
	if err := c.overrides(at+".override", t.Override); err != nil {
		return err
	}
	return c.both(at, t.Path, t.Target, true)
}

// both checks a path of the disk and one of the image, which may be the root itself if empty is true.
func (c checker) both(at, p, target string, empty bool) error {
	if err := c.local(at+".path", p); err != nil {
		return err
	}
	return c.target(at+".target", target, empty)
}

func (c checker) debian(at string, d *Debian) error {
	if err := c.suites(at, d.Suites, &d.Components); err != nil {
		return err
	}
	switch {
	case d.Scripts != "" && d.Scripts != "known" && d.Scripts != "ignore":
		return c.fail(at+".scripts", "scripts %.40q: want known or ignore", d.Scripts)
	case len(d.Packages) == 0 && !d.Base:
		return c.fail(at+".packages", "packages: none named, and base is not true")
	case len(d.Packages) > maxPackages:
		return c.fail(at+".packages", "packages: %d named, want at most %d", len(d.Packages), maxPackages)
	}
	for i, p := range d.Packages {
		if !pkgForm.MatchString(p) || slices.Contains(d.Packages[:i], p) {
			return c.fail(fmt.Sprintf("%s.packages.%d", at, i), "package %.140q: want a package name, once", p)
		}
	}
	if err := c.omit(at+".omit", d.Omit); err != nil {
		return err
	}
	return c.pins(at+".pins", d)
}

// omit checks patterns of paths. Whether each of them finds something is seen when the packages are unpacked.
func (c checker) omit(at string, patterns []string) error {
	if len(patterns) > maxOverrides {
		return c.fail(at, "omit: %d paths, want at most %d", len(patterns), maxOverrides)
	}
	for i, p := range patterns {
		at := fmt.Sprintf("%s.%d", at, i)
		if err := tree.CheckPath(p); err != nil {
			return c.fail(at, "omit: %v", err)
		}
		if _, err := path.Match(p, ""); err != nil {
			return c.fail(at, "omit: path %.200q: want a pattern as a shell has it", p)
		}
		if slices.Contains(patterns[:i], p) {
			return c.fail(at, "omit: path %.200q: twice", p)
		}
	}
	return nil
}

// suites checks a list of suites and fills in the default of components.
func (c checker) suites(at string, suites []string, components *[]string) error {
	if n := len(suites); n == 0 || n > maxList {
		return c.fail(at+".suites", "suites: %d named, want 1 to %d", n, maxList)
	}
	if *components == nil {
		*components = []string{"main"}
	}
	if err := c.words(at+".suites", suites); err != nil {
		return err
	}
	if err := c.words(at+".components", *components); err != nil {
		return err
	}
	if len(*components) == 0 || len(*components) > maxList {
		return c.fail(at+".components", "components: %d named, want 1 to %d, or leave the key out", len(*components), maxList)
	}
	return nil
}

func (c checker) words(at string, list []string) error {
	for i, name := range list {
		if !suiteForm.MatchString(name) || slices.Contains(list[:i], name) {
			return c.fail(fmt.Sprintf("%s.%d", at, i), "%.80q: want a name like trixie or main, once", name)
		}
	}
	return nil
}

// local checks a path of the maintainer's disk.
func (c checker) local(at, p string) error {
	if p == "" || path.Clean(p) != p || path.IsAbs(p) || len(p) > tree.MaxPath || strings.ContainsAny(p, "\x00\\\n") {
		return c.fail(at, "path %.200q: want a clean path relative to the spec, with slashes", p)
	}
	return nil
}

// target checks a path in the image.
func (c checker) target(at, p string, empty bool) error {
	if p == "" && empty {
		return nil
	}
	if p == "" {
		return c.fail(at, "target: missing: where in the root does it go?")
	}
	if err := tree.CheckPath(p); err != nil {
		return c.fail(at, "target: %v", err)
	}
	return nil
}

func (c checker) decompress(at, how string) error {
	if how != "" && how != "xz" {
		return c.fail(at, "decompress %.40q: want xz, or leave the key out", how)
	}
	return nil
}

// Experiments returns the experiments of the Go toolchain that a program may be built with. runtimesecret is what
// tally/internal/erase needs to erase keys (linux on amd64 and arm64).
func Experiments() []string { return []string{"runtimesecret"} }

func (c checker) program(at string, g *Go) error {
	if p := g.Package; !goPkgForm.MatchString(p) || path.Clean(p) != p[2:] || strings.Contains(p, "..") {
		return c.fail(at+".package", "package %.200q: want a path like ./cmd/init", g.Package)
	}
	for i, e := range g.Experiments {
		if !slices.Contains(Experiments(), e) || slices.Contains(g.Experiments[:i], e) {
			return c.fail(at+".experiments", "experiment %.40q: want some of %q, each once", e, Experiments())
		}
	}
	for _, o := range c.s.Programs() {
		if o.Module == g.Module && o.Package == g.Package && !slices.Equal(o.Experiments, g.Experiments) {
			return c.fail(at+".experiments", "package %.200q stands there with other experiments", g.Package)
		}
	}
	return c.local(at+".module", g.Module)
}
