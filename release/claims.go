package release

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Floors are the oldest security versions on which the maintainer wants the image to run. They only narrow:
// a client's own policy may demand more.
type Floors struct {
	SNP *SNPFloor `json:"snp,omitempty"`
	TDX *TDXFloor `json:"tdx,omitempty"`
}

// An SNPFloor is the least REPORTED_TCB, part by part (AMD SEV-SNP ABI specification, TCB_VERSION).
type SNPFloor struct {
	FMC        uint8 `json:"fmc,omitempty"` // from family 1Ah (Turin) on
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// A TDXFloor is the least TEE_TCB_SVN, compared byte by byte (Intel TDX module specification, TEE_TCB_INFO).
type TDXFloor struct {
	TEETCBSVN string `json:"teeTcbSvn"` // 16 bytes, lower-case hex
}

func (f *Floors) check() error {
	if f == nil {
		return nil
	}
	if f.SNP == nil && f.TDX == nil {
		return errors.New("floors: names no platform")
	}
	if f.TDX != nil {
		if b, err := hex.DecodeString(f.TDX.TEETCBSVN); err != nil || len(b) != 16 || strings.ToLower(f.TDX.TEETCBSVN) != f.TDX.TEETCBSVN {
			return fmt.Errorf("floors.tdx.teeTcbSvn %.64q: want 32 lower-case hex digits", f.TDX.TEETCBSVN)
		}
	}
	return nil
}

// A Model is a volume beside the disk. Its root hash stands in the root file system, which names it by mount
// point; here it is for whoever wants to know which weights a release runs.
type Model struct {
	Name   string `json:"name"`
	File   string `json:"file"`  // an artefact of role model
	Mount  string `json:"mount"` // directory of the root
	Verity Verity `json:"verity"`
}

// A RIM is a reference integrity manifest of a GPU's driver or VBIOS, by the digest of the vendor's file.
type RIM struct {
	Name   string `json:"name"` // the vendor's identifier
	SHA256 Digest `json:"sha256"`
}

// A BuildEnvironment is what the image was built with, as the manifest says it: no clock, no machine.
type BuildEnvironment struct {
	Layout          int         `json:"layout"`          // version of the byte layout
	SourceDateEpoch int64       `json:"sourceDateEpoch"` // seconds since 1970
	Toolchains      []Toolchain `json:"toolchains"`      // by name and version
}

// A Toolchain is a compiler that the lock pins.
type Toolchain struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  Digest `json:"sha256"`
}

// checkClaims checks the optional parts of a predicate.
func (p *Predicate) checkClaims() error {
	if err := p.Floors.check(); err != nil {
		return err
	}
	roles := map[string]string{}
	for _, a := range p.Artifacts {
		roles[a.Name] = a.Role
	}
	for i, m := range p.Models {
		switch {
		case i > 0 && p.Models[i-1].Name >= m.Name || !printable(m.Name, 256) || m.Name == "":
			return fmt.Errorf("model %.64q: want sorted names, each once", m.Name)
		case roles[m.File] != "model":
			return fmt.Errorf("model %q: file %.128q is no artifact of role model", m.Name, m.File)
		case !printable(m.Mount, 4096):
			return fmt.Errorf("model %q: mount %.64q: want at most 4096 printable bytes", m.Name, m.Mount)
		}
	}
	for i, r := range p.GPURIMs {
		if i > 0 && p.GPURIMs[i-1].Name >= r.Name || !printable(r.Name, 256) || r.Name == "" {
			return fmt.Errorf("gpuRims: name %.64q: want sorted names, each once", r.Name)
		}
	}
	for i, w := range p.Wires {
		if i > 0 && p.Wires[i-1] >= w || !wireName(w) {
			return fmt.Errorf("wires: %.64q: want sorted words of lower-case letters, digits and hyphens, each once", w)
		}
	}
	for i, d := range p.Supersedes {
		if i > 0 && !less(p.Supersedes[i-1], d) {
			return fmt.Errorf("supersedes %s: want sorted digests, each once", d)
		}
	}
	return p.BuildEnvironment.check()
}

func (b *BuildEnvironment) check() error {
	if b == nil {
		return nil
	}
	if b.Layout < 1 || b.SourceDateEpoch < 0 || b.Toolchains == nil {
		return errors.New("buildEnvironment: want a layout from 1, an epoch from 0 and a list of toolchains")
	}
	for i, t := range b.Toolchains {
		if i > 0 && b.Toolchains[i-1].key() >= t.key() || !printable(t.Name, 256) || t.Name == "" || !printable(t.Version, 256) {
			return fmt.Errorf("buildEnvironment: toolchain %.64q: want sorted toolchains, each once", t.Name)
		}
	}
	return nil
}

func (t Toolchain) key() string { return t.Name + "\x00" + t.Version }
