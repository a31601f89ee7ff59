package spec

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/strictyaml"
)

// Schema is the JSON Schema (draft 2020-12) of image.yaml. It cannot say everything that Parse checks.
//
//go:embed schema.json
var Schema []byte

// FileName is the usual name of a spec, and its name in an output directory and a source archive.
const FileName = "image.yaml"

// A Spec is a read image.yaml. It can only be had from Parse and Load, which check it.
type Spec struct {
	Name      string          `yaml:"name,required"`
	Version   string          `yaml:"version,required"`
	Epoch     int64           `yaml:"epoch,required"`
	Suites    []Suite         `yaml:"suites"`
	Root      []Source        `yaml:"root,required"`
	Steps     []Step          `yaml:"steps"`
	Config    *Config         `yaml:"config"`
	Devices   []Device        `yaml:"devices"`
	Init      Init            `yaml:"init,required"`
	Kernel    Kernel          `yaml:"kernel,required"`
	Modules   []string        `yaml:"modules,required"`
	Stub      Blob            `yaml:"stub,required"`
	Firmware  []Firmware      `yaml:"firmware,required"`
	Cmdline   string          `yaml:"cmdline"`
	Platforms json.RawMessage `yaml:"platforms"` // as JSON; nil when absent
	Outputs   []string        `yaml:"outputs"`   // further files: disk.qcow2, disk.tar.gz
	Variants  []Variant       `yaml:"variants"`  // of the document; nil in what Parse returns
	Variant   string          `yaml:"-"`         // which one this is; "" when the document has none
	Places    []int           `yaml:"-"`         // of a variant: where the sources of Root stand in the document's list; nil: as here
}

// A Source adds to the root file system, or beside it. Exactly one field is set, beside Only.
type Source struct {
	Debian *Debian `yaml:"debian"`
	OCI    *OCI    `yaml:"oci"`
	Dir    *Dir    `yaml:"dir"`
	File   *File   `yaml:"file"`
	Tar    *Tar    `yaml:"tar"`
	Go     *Go     `yaml:"go"`
	Model  *Model  `yaml:"model"`

	Only []string `yaml:"only"` // of the document: the variants that it is for; nil: all, and in what Parse returns
}

// A Suite says what a name in a list of suites stands for.
type Suite struct {
	Name       string `yaml:"name,required"`
	Archive    string `yaml:"archive"`     // default: debian, or debian-security for a name that ends so
	Suite      string `yaml:"suite"`       // directory below dists; default: the name
	Keyring    string `yaml:"keyring"`     // path of the keys that sign it; required unless the archive is Debian's, and only then
	Priority   int64  `yaml:"priority"`    // 1 to MaxPriority; 0: as its InRelease file has it
	ValidUntil string `yaml:"valid-until"` // enforce (or "") or ignore
}

// The policies of Suite.ValidUntil.
const (
	Enforce = "enforce"
	Ignore  = "ignore"
)

// Debian is a set of packages with all they depend on.
type Debian struct {
	Suites     []string `yaml:"suites,required"`
	Components []string `yaml:"components"` // default: main
	Packages   []string `yaml:"packages,required"`
	Base       bool     `yaml:"base"`    // also every Essential and required package
	Scripts    string   `yaml:"scripts"` // "known" (or ""): what they would do is done where it is known, else refused; "ignore": none, but listed
	Pins       []Pin    `yaml:"pins"`
	Omit       []string `yaml:"omit"` // paths of the packages that the image does without, with what is below them; in the form of path.Match
}

// A Pin takes packages from one of the source's suites, whatever the priorities.
type Pin struct {
	Suite    string   `yaml:"suite,required"`
	Packages []string `yaml:"packages,required"`
}

// A Dir is a directory of the maintainer's disk.
type Dir struct {
	Path   string `yaml:"path,required"`
	Target string `yaml:"target"` // default: the root

	UID      uint32     `yaml:"uid"` // of everything in it
	GID      uint32     `yaml:"gid"`
	Override []Override `yaml:"override"`
	Replace  bool       `yaml:"replace"` // may take the place of files of earlier sources
}

// A File is one file of the maintainer's disk.
type File struct {
	Path       string `yaml:"path,required"`
	Decompress string `yaml:"decompress"` // "" or "xz"
	Target     string `yaml:"target"`     // only below root, and required there
	Executable bool   `yaml:"executable"` // mode 0755 instead of 0644; only below root

	Mode    *uint32 `yaml:"mode"` // only below root, like owner and group
	UID     uint32  `yaml:"uid"`
	GID     uint32  `yaml:"gid"`
	Replace bool    `yaml:"replace"` // may take the place of a file of an earlier source
}

// A Tar is a tar archive of the maintainer's disk, whose modes, owners and times are kept.
type Tar struct {
	Path       string `yaml:"path,required"`
	Decompress string `yaml:"decompress"` // "" or "xz"
	Target     string `yaml:"target"`     // default: the root

	Override []Override `yaml:"override"`
	Replace  bool       `yaml:"replace"` // may take the place of files of earlier sources
}

// Go is a program built from source.
type Go struct {
	Module  string `yaml:"module,required"`  // directory of go.mod
	Package string `yaml:"package,required"` // path below it, e.g. ./cmd/init
	Target  string `yaml:"target"`           // only below root, and required there

	Experiments []string `yaml:"experiments"` // of the toolchain (GOEXPERIMENT), of those that Experiments returns

	Mode    *uint32 `yaml:"mode"` // default 0755; only below root, like owner and group
	UID     uint32  `yaml:"uid"`
	GID     uint32  `yaml:"gid"`
	Replace bool    `yaml:"replace"` // may take the place of a file of an earlier source
}

// A Config is the configuration of the enclave, in the verified root and so measured.
type Config struct {
	Path string `yaml:"path,required"`
}

// A Device is a device node.
type Device struct {
	Path  string `yaml:"path,required"`
	Type  string `yaml:"type,required"` // char or block
	Major uint32 `yaml:"major,required"`
	Minor uint32 `yaml:"minor,required"`
	Mode  uint32 `yaml:"mode,required"`
}

// An Init is the initrd's /init; exactly one field is set.
type Init struct {
	Go   *Go   `yaml:"go"`
	File *File `yaml:"file"`
}

// A Kernel is a package with boot/vmlinuz-*, or one that depends on a linux-image-* (a metapackage), or on what
// a linux-image-* of Debian 14 is split into: linux-base-*, linux-binary-* and linux-modules-*.
type Kernel struct {
	Debian Package `yaml:"debian,required"`
}

// A Package is one package without what it depends on.
type Package struct {
	Suites     []string `yaml:"suites,required"`
	Components []string `yaml:"components"` // default: main
	Package    string   `yaml:"package,required"`
	Path       string   `yaml:"path"` // of one file in it; not for a kernel, else required
}

// A Blob is one file; exactly one field is set.
type Blob struct {
	Debian *Package `yaml:"debian"`
	File   *File    `yaml:"file"`
}

// A Firmware is one firmware file; exactly one of Debian and File is set.
type Firmware struct {
	Name   string   `yaml:"name,required"`
	Debian *Package `yaml:"debian"`
	File   *File    `yaml:"file"`
	Vars   string   `yaml:"vars,required"` // "as-is", or "blank": a blank variable store is put over its own
}

// Load reads and checks the spec at file, and returns the variant asked for as [Parse] does. It also returns the bytes
// read, which are the same for all.
func Load(file, variant string) (*Spec, []byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := readCapped(f)
	if err != nil {
		return nil, nil, err
	}
	s, err := Parse(data, filepath.ToSlash(file), variant)
	return s, data, err
}

// Parse reads and checks a spec, all its variants included, and returns the one asked for: "" is the first, and the
// only way to ask a spec that has none. name stands in error messages.
func Parse(data []byte, name, variant string) (*Spec, error) {
	s := new(Spec)
	if err := strictyaml.Unmarshal(data, name, s); err != nil {
		return nil, err
	}
	at, err := strictyaml.Locate(data, name)
	if err != nil {
		return nil, err
	}
	return s.choose(variant, name, at)
}

// SuiteNamed returns what a name in a list of suites stands for, with every default but the priority's
// filled in.
func (s *Spec) SuiteNamed(name string) Suite {
	u := Suite{Name: name}
	for _, o := range s.Suites {
		if o.Name == name {
			u = o
		}
	}
	u.Suite = cmp.Or(u.Suite, name)
	u.ValidUntil = cmp.Or(u.ValidUntil, Enforce)
	if u.Archive == "" {
		u.Archive = debian
		if strings.HasSuffix(u.Suite, "-security") {
			u.Archive = security
		}
	}
	return u
}

// Debian's archives: the only ones whose keys tally knows.
const debian, security = "debian", "debian-security"

// Debian says whether the archive is one of Debian's.
func (u Suite) Debian() bool { return u.Archive == debian || u.Archive == security }
