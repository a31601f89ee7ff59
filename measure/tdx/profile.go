package tdx

import (
	"fmt"
	"slices"
	"strings"
)

// A Build is a platform of edk2's OvmfPkg.
type Build string

// The builds that start a trust domain.
const (
	BuildOVMF     Build = "OvmfPkgX64"
	BuildIntelTdx Build = "IntelTdxX64"
)

// A Backing says what stands behind a rule set.
type Backing string

// The kinds, best first.
const (
	ByHardware Backing = "hardware report" // a TDX quote with inputs agrees
	ByBoot     Backing = "real boot"       // the same firmware's log of a boot without TDX agrees
	ByPeer     Backing = "peer tool"       // another program agrees
	BySource   Backing = "source reading"
)

// A Firmware is the rule set of an edk2 release and build.
type Firmware struct {
	Name       string  `json:"name"`
	Release    int     `json:"release"` // of edk2-stable, as YYYYMM
	Build      Build   `json:"build"`
	SecureBoot *bool   `json:"secure_boot,omitempty"` // built with Secure Boot; nil: the name does not say
	Backing    Backing `json:"backing"`
	Source     string  `json:"source"`
}

// A Host is the rule set of a VMM.
type Host struct {
	Name    string  `json:"name"`
	Passes  []Pass  `json:"passes"`
	Patches patches `json:"kernel"`
	Backing Backing `json:"backing"`
	Source  string  `json:"source"`
}

// patches says whether QEMU's changes to the kernel's setup header reach the firmware.
type patches string

const (
	patchAlways  patches = "patched"
	patchUnnamed patches = "patched before edk2 202502" // which reads QEMU's named blob etc/boot/kernel
	patchEither  patches = "patched or as it is before edk2 202502"
	patchNever   patches = "as it is"
)

// releases of edk2 whose rules are known, ascending.
var releases = []int{202405, 202408, 202411, 202502, 202505, 202508, 202511, 202602, 202605, 202608}

const (
	sourceEDK2 = "tianocore/edk2: OvmfPkg/Tcg/TdTcg2Dxe, OvmfPkg/Library/QemuFwCfgLib, GenericQemuLoadImageLib, at the release's tag"
	sourceTDX  = "QEMU target/i386/kvm/tdx.c, hw/i386/x86-common.c; Linux arch/x86/kvm/vmx/tdx.c"
)

// Firmwares lists the known firmware rule sets.
func Firmwares() []Firmware {
	yes, no := true, false
	var all []Firmware
	for _, build := range []Build{BuildOVMF, BuildIntelTdx} {
		for _, r := range releases {
			f := Firmware{Name: fmt.Sprintf("edk2-%d", r), Release: r, Build: build, Backing: BySource, Source: sourceEDK2}
			if build == BuildIntelTdx {
				f.Name += "-inteltdx"
			} else if r == 202411 || r == 202502 {
				f.Backing = ByHardware
				f.Source += "; quote of Dstack-TEE/dstack@312dc605 verifier/fixtures/tdx-lite-getquote.json"
			} else if r == 202608 {
				f.Backing = ByBoot
			}
			all = append(all, f)
		}
	}
	return append(all,
		Firmware{"debian-ovmf-2025.02", 202502, BuildOVMF, &no, ByPeer, "Debian ovmf 2025.02-8+deb13u1; fortanix/tdx-measure@b48752b tests/fixtures"},
		Firmware{"debian-inteltdx-2026.08", 202608, BuildIntelTdx, &yes, ByBoot, "Debian ovmf-inteltdx 2026.08+ds-2, boot variables of a boot without TDX"})
}

// Hosts lists the known VMMs.
func Hosts() []Host {
	return []Host{
		{"qemu-8.2", []Pass{TwoPass}, patchAlways, ByHardware, "Intel's and Ubuntu's TDX trees; quote of Dstack-TEE/dstack@312dc605"},
		{"qemu-9", []Pass{SinglePass}, patchAlways, BySource, sourceTDX},
		{"qemu-10.0", []Pass{SinglePass}, patchUnnamed, ByBoot, sourceTDX + "; the kernel's hash: boots of QEMU 10.0.2 without TDX"},
		{"qemu-10.1", []Pass{SinglePass}, patchEither, BySource, sourceTDX},
		{"qemu-10.2", []Pass{SinglePass}, patchNever, BySource, sourceTDX + " (commit a7542a38f399), to 11.1"},
	}
}

// A Profile is what a value depends on beside the artefacts: which hosts and firmwares come into question.
// More than one of either makes alternatives.
type Profile struct {
	Hosts     []Host     `json:"hosts"`
	Firmwares []Firmware `json:"firmwares"`
	GCE       *GCEShape  `json:"gce,omitempty"` // Google's hypervisor in one machine shape: no Hosts then
}

// ParseProfile reads HOST/FIRMWARE, HOST, FIRMWARE, gce/SHAPE, gce/SHAPE/SEEN, or "" for all hosts and firmwares
// of edk2's. A firmware whose name leaves open whether it is built with Secure Boot may be followed by
// ",secure-boot" or ",no-secure-boot".
func ParseProfile(s string) (Profile, error) {
	if rest, ok := strings.CutPrefix(s, "gce/"); ok {
		shape, seen, narrow := strings.Cut(rest, "/")
		g, err := gceShape(shape)
		if err == nil && narrow {
			g, err = g.narrow(seen)
		}
		return Profile{GCE: g}, err
	}
	hosts, firmwares := Hosts(), Firmwares()
	generic := slices.DeleteFunc(slices.Clone(firmwares), func(f Firmware) bool { return !strings.HasPrefix(f.Name, "edk2-") })
	p := Profile{Hosts: hosts, Firmwares: generic}
	if s == "" {
		return p, nil
	}
	s, built, err := cutSecureBoot(s)
	if err != nil {
		return Profile{}, err
	}
	parts := strings.Split(s, "/")
	host := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == parts[0] })
	firmware := slices.IndexFunc(firmwares, func(f Firmware) bool { return f.Name == parts[len(parts)-1] })
	switch {
	case len(parts) == 1 && host >= 0:
		p.Hosts = hosts[host : host+1]
	case len(parts) == 1 && firmware >= 0:
		p.Firmwares = firmwares[firmware : firmware+1]
	case len(parts) == 2 && host >= 0 && firmware >= 0:
		p.Hosts, p.Firmwares = hosts[host:host+1], firmwares[firmware:firmware+1]
	default:
		return Profile{}, fmt.Errorf("profile %.80q: want HOST/FIRMWARE, HOST, FIRMWARE or gce/SHAPE, with a host of %s; a firmware of %s; a shape of %s",
			s, names(hosts, func(h Host) string { return h.Name }), names(firmwares, func(f Firmware) string { return f.Name }), strings.Join(gceShapes(), ", "))
	}
	if built == nil {
		return p, nil
	}
	if len(p.Firmwares) != 1 || p.Firmwares[0].SecureBoot != nil {
		return Profile{}, fmt.Errorf("profile %.80q: says of Secure Boot what the firmware's name says, or names none", s)
	}
	p.Firmwares = slices.Clone(p.Firmwares)
	p.Firmwares[0].SecureBoot = built
	return p, nil
}

// cutSecureBoot takes what a profile says of Secure Boot off its end; nil when it says nothing.
func cutSecureBoot(s string) (rest string, built *bool, err error) {
	rest, word, found := strings.Cut(s, ",")
	if !found {
		return s, nil, nil
	}
	yes := word == "secure-boot"
	if !yes && word != "no-secure-boot" {
		return "", nil, fmt.Errorf("profile %.80q: %.20q: want secure-boot or no-secure-boot", s, word)
	}
	return rest, &yes, nil
}

func names[T any](all []T, name func(T) string) string {
	var s []string
	for _, x := range all {
		s = append(s, name(x))
	}
	return strings.Join(s, ", ")
}

// patched says in which forms a kernel can reach the firmware.
func (h Host) patched(f Firmware) []bool {
	early := f.Release < 202502
	switch {
	case h.Patches == patchAlways, h.Patches == patchUnnamed && early:
		return []bool{true}
	case h.Patches == patchEither && early:
		return []bool{true, false}
	}
	return []bool{false}
}

// WithPass narrows a profile to hosts that add pages in one order.
func (p Profile) WithPass(pass Pass) (Profile, error) {
	if p.GCE != nil {
		if pass != SinglePass {
			return p, fmt.Errorf("gce/%s: pass %.20q: want %s", p.GCE.Name, pass, SinglePass)
		}
		return p, nil
	}
	all := p.Hosts
	p.Hosts = nil
	for _, h := range all {
		if slices.Contains(h.Passes, pass) {
			h.Passes = []Pass{pass}
			p.Hosts = append(p.Hosts, h)
		}
	}
	if len(p.Hosts) == 0 {
		return p, fmt.Errorf("pass %.20q: no host of the profile adds pages so", pass)
	}
	return p, nil
}
