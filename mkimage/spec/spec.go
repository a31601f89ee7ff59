// Package spec reads image.yaml, the description of an image that a maintainer writes. It is strict: an
// unknown or duplicate key, a wrong type and an impossible value are errors with file, line and column.
//
//	name: minimal                 # lower-case letters, digits, dots, hyphens
//	version: "0.1.0"
//	epoch: 1767225600             # seconds since 1970; nothing in the image is newer
//	suites:                       # optional; the default is trixie, main, amd64
//	  - {name: trixie, components: [main]}
//	root:                         # sources in order; each is exactly one of
//	  - debian: {packages: [libc6], base: false, scripts: ignore}
//	  - dir: {path: rootfs, target: ""}
//	  - file: {path: a.xz, sha256: …, decompress: xz, target: etc/a, mode: 0644}
//	  - go: {module: ., package: ./cmd/enclave, target: sbin/init}
//	init: {module: ., package: ./cmd/init}
//	kernel: {suite: trixie, package: linux-image-cloud-amd64}
//	modules: [sha256-ssse3, dm-verity]
//	stub: {suite: trixie, package: systemd-boot-efi, path: usr/lib/systemd/boot/efi/linuxx64.efi.stub}
//	firmware:
//	  - {name: ovmf, package: {suite: trixie, package: ovmf, path: usr/share/ovmf/OVMF.fd}, vars: as-is}
//	  - {name: amdsev, file: {path: OVMF.amdsev.fd.xz, decompress: xz}, vars: as-is}
//	cmdline: console=ttyS0
//	platforms: […]                # for tally measure; opaque here
//
// Paths are relative to the spec's directory.
package spec

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"tally/internal/strictyaml"
)

// A Spec is a read image.yaml.
type Spec struct {
	Name      string          `yaml:"name,required"`
	Version   string          `yaml:"version,required"`
	Epoch     int64           `yaml:"epoch,required"`
	Suites    []Suite         `yaml:"suites"`
	Root      []Source        `yaml:"root,required"`
	Init      Go              `yaml:"init,required"`
	Kernel    Kernel          `yaml:"kernel,required"`
	Modules   []string        `yaml:"modules,required"`
	Stub      PackageFile     `yaml:"stub,required"`
	Firmware  []Firmware      `yaml:"firmware,required"`
	Cmdline   string          `yaml:"cmdline"`
	Platforms json.RawMessage `yaml:"platforms,required"`
}

// A Suite is one suite of a Debian mirror.
type Suite struct {
	Name       string   `yaml:"name,required"`
	Components []string `yaml:"components"` // default: main
}

// A Source adds to the root file system. Exactly one field is set.
type Source struct {
	Debian *Debian `yaml:"debian"`
	Dir    *Dir    `yaml:"dir"`
	File   *File   `yaml:"file"`
	Go     *Go     `yaml:"go"`
}

// Debian is a set of packages with all they depend on.
type Debian struct {
	Packages []string `yaml:"packages,required"`
	Base     bool     `yaml:"base"`    // also all Essential and required packages
	Scripts  string   `yaml:"scripts"` // "ignore": maintainer scripts are left out and listed; else they are refused
}

// A Dir is a directory below the spec's.
type Dir struct {
	Path   string `yaml:"path,required"`
	Target string `yaml:"target"` // where it goes; default: the root
}

// A File is one file below the spec's directory.
type File struct {
	Path       string `yaml:"path,required"`
	Decompress string `yaml:"decompress"` // "" or "xz"
	Target     string `yaml:"target"`     // where it goes; required below root
	Executable bool   `yaml:"executable"` // mode 0755 instead of 0644
}

// Go is a program built from source.
type Go struct {
	Module  string `yaml:"module,required"`  // directory of go.mod
	Package string `yaml:"package,required"` // path below it, e.g. ./cmd/init
	Target  string `yaml:"target"`           // where it goes; required below root
}

// A Kernel is a package with boot/vmlinuz-*, or a metapackage that depends on one linux-image-*.
type Kernel struct {
	Suite   string `yaml:"suite,required"`
	Package string `yaml:"package,required"`
}

// A PackageFile is one file of one package.
type PackageFile struct {
	Suite   string `yaml:"suite,required"`
	Package string `yaml:"package,required"`
	Path    string `yaml:"path,required"`
}

// A Firmware is one firmware file; exactly one of Package and File is set.
type Firmware struct {
	Name    string       `yaml:"name,required"`
	Package *PackageFile `yaml:"package"`
	File    *File        `yaml:"file"`
	Vars    string       `yaml:"vars,required"` // "as-is" or "blank"
}

// Load reads and checks the spec at file.
func Load(file string) (*Spec, []byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	s, err := Parse(data, file)
	return s, data, err
}

// Parse reads and checks a spec; name stands in error messages.
func Parse(data []byte, name string) (*Spec, error) {
	s := new(Spec)
	if err := strictyaml.Unmarshal(data, name, s); err != nil {
		return nil, err
	}
	at, err := strictyaml.Locate(data, name)
	if err != nil {
		return nil, err
	}
	if len(s.Suites) == 0 {
		s.Suites = []Suite{{Name: "trixie"}}
	}
	for i := range s.Suites {
		if len(s.Suites[i].Components) == 0 {
			s.Suites[i].Components = []string{"main"}
		}
	}
	c := checker{s: s, fail: func(path, format string, args ...any) error { return at.Error(name, path, format, args...) }}
	return s, c.check()
}

type checker struct {
	s    *Spec
	fail func(path, format string, args ...any) error
}

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	suiteForm = regexp.MustCompile(`^[a-z0-9][a-z0-9./-]{0,63}$`)
	pkgForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{1,127}$`)
)

func (c checker) check() error {
	s := c.s
	if !nameForm.MatchString(s.Name) {
		return c.fail("name", "name %q: want lower-case letters, digits, dots and hyphens", s.Name)
	}
	if s.Version == "" || strings.ContainsAny(s.Version, " \t\n\"") {
		return c.fail("version", "version %q: want one word", s.Version)
	}
	if s.Epoch < 315532800 || s.Epoch > 1<<32-1 {
		return c.fail("epoch", "epoch %d: want seconds since 1970, from 315532800 (the year 1980) to 4294967295", s.Epoch)
	}
	seen := map[string]bool{}
	for i, suite := range s.Suites {
		at := fmt.Sprintf("suites.%d", i)
		if !suiteForm.MatchString(suite.Name) || seen[suite.Name] {
			return c.fail(at, "suite %q: want a name like trixie, once", suite.Name)
		}
		seen[suite.Name] = true
	}
	for _, f := range []func(map[string]bool) error{c.checkRoot, c.checkBoot, c.checkFirmware} {
		if err := f(seen); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) checkRoot(map[string]bool) error {
	if len(c.s.Root) == 0 {
		return c.fail("root", "root: want at least one source")
	}
	for i, src := range c.s.Root {
		at := fmt.Sprintf("root.%d", i)
		n := 0
		for _, set := range []bool{src.Debian != nil, src.Dir != nil, src.File != nil, src.Go != nil} {
			if set {
				n++
			}
		}
		if n != 1 {
			return c.fail(at, "source: want exactly one of debian, dir, file, go")
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
		if src.Debian.Scripts != "" && src.Debian.Scripts != "ignore" {
			return c.fail(at+".debian.scripts", "scripts %q: want ignore, or leave the key out", src.Debian.Scripts)
		}
		if len(src.Debian.Packages) == 0 && !src.Debian.Base {
			return c.fail(at+".debian", "debian: no packages")
		}
		for j, p := range src.Debian.Packages {
			if !pkgForm.MatchString(p) {
				return c.fail(fmt.Sprintf("%s.debian.packages.%d", at, j), "package %q: want a package name", p)
			}
		}
	case src.Dir != nil:
		if err := c.path(at+".dir.path", src.Dir.Path, true); err != nil {
			return err
		}
		if src.Dir.Target != "" {
			return c.path(at+".dir.target", src.Dir.Target, false)
		}
	case src.File != nil:
		if err := c.file(at+".file", src.File); err != nil {
			return err
		}
		return c.path(at+".file.target", src.File.Target, false)
	case src.Go != nil:
		if err := c.program(at+".go", src.Go); err != nil {
			return err
		}
		return c.path(at+".go.target", src.Go.Target, false)
	}
	return nil
}

// path wants a clean relative path; one that may climb starts at the spec and may leave its directory
// (a module above the example).
func (c checker) path(at, p string, climb bool) error {
	ok := p != "" && path.Clean(p) == p && !path.IsAbs(p) && len(p) < 4096
	if !climb && (p == "." || p == ".." || strings.HasPrefix(p, "../")) {
		ok = false
	}
	if !ok {
		return c.fail(at, "path %q: want a clean relative path", p)
	}
	return nil
}

func (c checker) file(at string, f *File) error {
	if f.Decompress != "" && f.Decompress != "xz" {
		return c.fail(at+".decompress", "decompress %q: want xz, or leave the key out", f.Decompress)
	}
	return c.path(at+".path", f.Path, true)
}

func (c checker) program(at string, g *Go) error {
	if !strings.HasPrefix(g.Package, "./") || path.Clean(g.Package) != g.Package[2:] || strings.Contains(g.Package, "..") {
		return c.fail(at+".package", "package %q: want a path like ./cmd/init", g.Package)
	}
	return c.path(at+".module", g.Module, true)
}

func (c checker) checkBoot(suites map[string]bool) error {
	s := c.s
	if err := c.program("init", &s.Init); err != nil {
		return err
	}
	if s.Init.Target != "" {
		return c.fail("init.target", "target: the initrd's init is always /init")
	}
	if !suites[s.Kernel.Suite] || !pkgForm.MatchString(s.Kernel.Package) {
		return c.fail("kernel", "kernel %s/%s: want a package of one of the spec's suites", s.Kernel.Suite, s.Kernel.Package)
	}
	for i, m := range s.Modules {
		if m == "" || strings.Trim(m, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return c.fail(fmt.Sprintf("modules.%d", i), "module %q: want a module name", m)
		}
	}
	return c.packageFile("stub", &s.Stub, suites)
}

func (c checker) packageFile(at string, f *PackageFile, suites map[string]bool) error {
	if !suites[f.Suite] || !pkgForm.MatchString(f.Package) {
		return c.fail(at, "package %s/%s: want a package of one of the spec's suites", f.Suite, f.Package)
	}
	return c.path(at+".path", f.Path, false)
}

func (c checker) checkFirmware(suites map[string]bool) error {
	seen := map[string]bool{}
	if len(c.s.Firmware) == 0 {
		return c.fail("firmware", "firmware: want at least one")
	}
	for i, f := range c.s.Firmware {
		at := fmt.Sprintf("firmware.%d", i)
		if !nameForm.MatchString(f.Name) || seen[f.Name] {
			return c.fail(at+".name", "name %q: want a plain name, once", f.Name)
		}
		seen[f.Name] = true
		if f.Vars != "as-is" && f.Vars != "blank" {
			return c.fail(at+".vars", "vars %q: want as-is or blank", f.Vars)
		}
		if (f.Package == nil) == (f.File == nil) {
			return c.fail(at, "firmware: want exactly one of package and file")
		}
		var err error
		if f.Package != nil {
			err = c.packageFile(at+".package", f.Package, suites)
		} else {
			err = c.file(at+".file", f.File)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
