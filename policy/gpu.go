package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/appraise/gpu"
	"tally/release"
)

// GPU is what a policy says about the GPUs of an enclave, under the key gpu:
//
//	gpu:
//	  accept:                        # which families, and the oldest software of each
//	    - {family: hopper, driver: "550.90.07", vbios: "96.00.5E.00.01"}
//	    - {family: ls10, vbios: "96.10.55.00.01"}      # switches have no driver of their own
//	  modes: [unstated, mpt]         # of confidential computing: spt, mpt, ppcie; unstated: drivers that state none
//	  rims: [release]                # manifests that the release names, or their SHA-256, or any that the vendor signed
//	  ocsp-max-age: 24h              # of each certificate's stapled response, or none: revoked devices then pass
//	  gpus: 8                        # at least so many
//	  switches: 4                    # optional
//	  roots: fake.pem                # for tests: device root and RIM root in place of NVIDIA's
//
// Confidential computing off, developer tools on, switches that are not locked and devices left out are refused whatever a policy says:
// by the enclave, and again by its client, to whom the enclave binds the driver's word (appraise/gpu.DriverState).
type GPU struct {
	policy      gpu.Policy
	fromRelease bool
	roots       *gpu.Roots
}

// Appraisal returns what an appraisal is held to: the section evidence, and the section gpu with the manifests of a verified
// release. Without a section gpu, evidence that binds GPUs is refused.
func (p *Policy) Appraisal(named []release.RIM) appraise.Policy {
	a := p.Evidence.Policy
	if p.GPU != nil {
		a.GPU = &appraise.GPUs{Policy: p.GPU.Policy(named), Roots: p.GPU.roots}
	}
	return a
}

// Roots returns the roots that the policy names, or NVIDIA's.
func (g *GPU) Roots() (gpu.Roots, error) {
	if g != nil && g.roots != nil {
		return *g.roots, nil
	}
	return gpu.NVIDIA()
}

// Policy returns what package gpu is to check, with the manifests of a verified release where the policy says
// rims: [release]. Without a gpu section it is the zero Policy, which accepts nothing.
func (g *GPU) Policy(named []release.RIM) gpu.Policy {
	if g == nil {
		return gpu.Policy{}
	}
	p := g.policy
	p.RIMs = slices.Clone(p.RIMs)
	if g.fromRelease {
		for _, r := range named {
			p.RIMs = append(p.RIMs, [32]byte(r.SHA256))
		}
	}
	return p
}

// FromRelease reports whether the policy takes manifests from the release.
func (g *GPU) FromRelease() bool { return g != nil && g.fromRelease }

type gpuYAML struct {
	Accept   []gpuFloorYAML `yaml:"accept,required"`
	Modes    []string       `yaml:"modes,required"`
	RIMs     []string       `yaml:"rims,required"`
	OCSP     string         `yaml:"ocsp-max-age,required"`
	GPUs     int            `yaml:"gpus,required"`
	Switches int            `yaml:"switches"`
	Roots    string         `yaml:"roots"`
}

type gpuFloorYAML struct {
	Family string `yaml:"family,required"`
	Driver string `yaml:"driver"`
	VBIOS  string `yaml:"vbios,required"`
}

var gpuFamilies = map[string]gpu.Arch{"hopper": gpu.Hopper, "blackwell": gpu.Blackwell, "ls10": gpu.LS10}

func (r *reader) gpu(y *gpuYAML, path string) *GPU {
	g := &GPU{policy: gpu.Policy{Floors: map[gpu.Arch]gpu.Floor{}, MinGPUs: y.GPUs, MinSwitches: y.Switches}}
	if y.GPUs < 1 || y.GPUs > gpu.MaxDevices || y.Switches < 0 || y.Switches > gpu.MaxDevices {
		r.fail(path, "gpus %d, switches %d: want 1 and 0 to %d", y.GPUs, y.Switches, gpu.MaxDevices)
	}
	if len(y.Accept) == 0 || len(y.Modes) == 0 || len(y.RIMs) == 0 {
		r.fail(path, "accept, modes and rims: want at least one each")
	}
	for i, f := range y.Accept {
		r.gpuFloor(f, fmt.Sprintf("%s.accept.%d", path, i), g.policy.Floors)
	}
	for i, m := range y.Modes {
		mode := gpu.Mode(m)
		if !slices.Contains([]gpu.Mode{gpu.ModeUnstated, gpu.ModeSPT, gpu.ModeMPT, gpu.ModePPCIE}, mode) || slices.Contains(g.policy.Modes, mode) {
			r.fail(fmt.Sprintf("%s.modes.%d", path, i), "mode %.40q: want unstated, spt, mpt or ppcie, each once", m)
		}
		g.policy.Modes = append(g.policy.Modes, mode)
	}
	for i, s := range y.RIMs {
		r.gpuRIM(s, fmt.Sprintf("%s.rims.%d", path, i), g)
	}
	if g.policy.UnpinnedRIM && len(y.RIMs) > 1 {
		r.fail(path+".rims", "any beside others: want any alone, so that it is seen")
	}
	r.gpuOCSP(y.OCSP, path+".ocsp-max-age", g)
	if y.Roots != "" {
		if c := r.certificates(y.Roots, path+".roots", 2, 2); c != nil {
			g.roots = &gpu.Roots{Device: c[0], RIM: c[1]}
		}
	}
	return g
}

func (r *reader) gpuFloor(y gpuFloorYAML, path string, floors map[gpu.Arch]gpu.Floor) {
	arch, ok := gpuFamilies[y.Family]
	_, twice := floors[arch]
	switch {
	case !ok || twice:
		r.fail(path+".family", "family %.40q: want hopper, blackwell or ls10, each once", y.Family)
	case (y.Driver == "") != arch.Switch():
		r.fail(path, "driver %.40q: want one for GPUs and none for switches", y.Driver)
	case y.Driver != "" && gpu.CheckDriverVersion(y.Driver) != nil:
		r.fail(path+".driver", "driver: %v", gpu.CheckDriverVersion(y.Driver))
	case gpu.CheckVBIOSVersion(y.VBIOS) != nil:
		r.fail(path+".vbios", "vbios: %v", gpu.CheckVBIOSVersion(y.VBIOS))
	}
	floors[arch] = gpu.Floor{Driver: y.Driver, VBIOS: y.VBIOS}
}

func (r *reader) gpuRIM(s, path string, g *GPU) {
	switch s {
	case "any":
		g.policy.UnpinnedRIM = true
	case "release":
		g.fromRelease = true
	default:
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 32 {
			r.fail(path, "rim %.80q: want release, any or a SHA-256 of 64 hexadecimal digits", s)
			return
		}
		g.policy.RIMs = append(g.policy.RIMs, [32]byte(b))
	}
}

func (r *reader) gpuOCSP(s, path string, g *GPU) {
	if s == "none" {
		g.policy.NoOCSP = true
		return
	}
	var err error
	if g.policy.OCSPMaxAge, err = time.ParseDuration(s); err != nil || g.policy.OCSPMaxAge <= 0 {
		r.fail(path, "age %.40q: want a time such as \"24h\", or none", s)
	}
}
