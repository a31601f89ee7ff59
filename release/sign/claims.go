package sign

import (
	"crypto/sha256"
	"slices"
	"strings"

	"tally/internal/strictyaml"
	"tally/release"
)

// Claims is what the maintainer says about where the image may run (tally.claims/v1):
//
//	schema: tally.claims/v1
//	floors:                        # the oldest security versions; each part is optional
//	  snp: {bootloader: 4, tee: 0, snp: 23, microcode: 213}    # and fmc, from Turin on
//	  tdx: {tee-tcb-svn: "0d010800000000000000000000000000"}
//	gpu-rims:                      # the vendor's RIM files, by name and either file or sha256
//	  - {name: NV_GPU_DRIVER_GH100_550.90.07, file: driver.swidtag}
type Claims struct {
	Floors  *release.Floors
	GPURIMs []release.RIM
}

// ClaimsSchema is the value of the file's first key.
const ClaimsSchema = "tally.claims/v1"

type claimsYAML struct {
	Schema string      `yaml:"schema,required"`
	Floors *floorsYAML `yaml:"floors"`
	RIMs   []rimYAML   `yaml:"gpu-rims"`
}

type floorsYAML struct {
	SNP *struct {
		FMC        int `yaml:"fmc"`
		Bootloader int `yaml:"bootloader,required"`
		TEE        int `yaml:"tee,required"`
		SNP        int `yaml:"snp,required"`
		Microcode  int `yaml:"microcode,required"`
	} `yaml:"snp"`
	TDX *struct {
		SVN string `yaml:"tee-tcb-svn,required"`
	} `yaml:"tdx"`
}

type rimYAML struct {
	Name   string `yaml:"name,required"`
	File   string `yaml:"file"`
	SHA256 string `yaml:"sha256"`
}

// ParseClaims reads claims; name stands in error messages, read opens the RIM files that they name.
func ParseClaims(data []byte, name string, read func(name string) ([]byte, error)) (Claims, error) {
	var f claimsYAML
	if err := strictyaml.Unmarshal(data, name, &f); err != nil {
		return Claims{}, err
	}
	at, err := strictyaml.Locate(data, name)
	if err != nil {
		return Claims{}, err
	}
	fail := func(path, format string, args ...any) error { return at.Error(name, path, format, args...) }
	if f.Schema != ClaimsSchema {
		return Claims{}, fail("schema", "schema %.64q, want %q", f.Schema, ClaimsSchema)
	}
	c := Claims{}
	if f.Floors != nil {
		if c.Floors, err = f.Floors.floors(fail); err != nil {
			return Claims{}, err
		}
	}
	for _, y := range f.RIMs {
		r, err := y.rim(read, fail)
		if err != nil {
			return Claims{}, err
		}
		c.GPURIMs = append(c.GPURIMs, r)
	}
	slices.SortFunc(c.GPURIMs, func(a, b release.RIM) int { return strings.Compare(a.Name, b.Name) })
	return c, nil
}

// A failure makes the error about a place of the file.
type failure func(path, format string, args ...any) error

func (y *floorsYAML) floors(fail failure) (*release.Floors, error) {
	out := new(release.Floors)
	if s := y.SNP; s != nil {
		for _, n := range []int{s.FMC, s.Bootloader, s.TEE, s.SNP, s.Microcode} {
			if n < 0 || n > 255 {
				return nil, fail("floors.snp", "security version %d: want 0 to 255", n)
			}
		}
		out.SNP = &release.SNPFloor{FMC: uint8(s.FMC), Bootloader: uint8(s.Bootloader), TEE: uint8(s.TEE), SNP: uint8(s.SNP), Microcode: uint8(s.Microcode)}
	}
	if y.TDX != nil {
		out.TDX = &release.TDXFloor{TEETCBSVN: y.TDX.SVN}
	}
	return out, nil
}

// rim takes the digest that is given, or that of the file that is named.
func (y rimYAML) rim(read func(name string) ([]byte, error), fail failure) (release.RIM, error) {
	r := release.RIM{Name: y.Name}
	if (y.File == "") == (y.SHA256 == "") {
		return r, fail("gpu-rims", "%.64q: want either \"file\" or \"sha256\"", y.Name)
	}
	var err error
	if y.SHA256 != "" {
		r.SHA256, err = release.ParseDigest(y.SHA256)
	} else {
		var b []byte
		b, err = read(y.File)
		r.SHA256 = sha256.Sum256(b)
	}
	if err != nil {
		return r, fail("gpu-rims", "%.64q: %v", y.Name, err)
	}
	return r, nil
}

// models are the manifest's model volumes.
func (m *manifest) models() []release.Model {
	var out []release.Model
	for _, v := range m.Models {
		out = append(out, release.Model{Name: v.Name, File: v.File, Mount: v.Mount, Verity: v.Verity.statement()})
	}
	slices.SortFunc(out, func(a, b release.Model) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// environment is what the manifest says of how the image was built.
func (m *manifest) environment() *release.BuildEnvironment {
	e := &release.BuildEnvironment{Layout: m.Layout, SourceDateEpoch: m.Epoch, Toolchains: []release.Toolchain{}}
	for _, in := range m.Inputs {
		if in.Kind == "toolchain" {
			e.Toolchains = append(e.Toolchains, release.Toolchain{Name: in.Name, Version: in.Version, SHA256: in.SHA256})
		}
	}
	slices.SortFunc(e.Toolchains, func(a, b release.Toolchain) int {
		return strings.Compare(a.Name+"\x00"+a.Version, b.Name+"\x00"+b.Version)
	})
	return e
}

func (v *verityParams) statement() release.Verity {
	return release.Verity{
		Algorithm: v.Algorithm, RootHash: v.RootHash, Salt: v.Salt, DataBlockSize: v.DataBlockSize,
		HashBlockSize: v.HashBlockSize, DataBlocks: v.DataBlocks, HashStart: v.HashStart,
	}
}
