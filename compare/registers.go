package compare

import (
	"sort"
	"strings"
)

// A move is what happens to registers when a part of an image changes.
type move struct {
	boot  string
	names []string
}

const (
	bootDirect = "direct"
	bootUKI    = "uki"
	bootAny    = "any"
)

// moves is the table of what is measured where. Direct boot: kernel, initrd and command line are handed to the
// VMM, which on SNP puts their digests into the measured kernel-hashes page; with TDX the firmware measures them
// (DESIGN, section 4). UKI boot: the firmware measures the partition table and the UKI, the stub its sections; TDX
// firmware extends RTMRs in place of PCRs, 2-6 to RTMR1 and 8-15 to RTMR2 (UEFI 2.10, table 38.4).
var moves = map[string][]move{
	"firmware":           {{bootAny, []string{"SNP launch digest", "TDX MRTD", "TDX RTMR0", "PCR 0"}}},
	"firmware code":      {{bootAny, []string{"SNP launch digest", "TDX MRTD", "PCR 0"}}},
	"firmware variables": {{bootAny, []string{"SNP launch digest", "TDX RTMR0"}}}, // TDVF: the CFV section is not extended into MRTD
	"kernel":             {{bootDirect, []string{"SNP launch digest", "TDX RTMR1"}}},
	"initrd":             {{bootDirect, []string{"SNP launch digest", "TDX RTMR2"}}},
	"cmdline":            {{bootDirect, []string{"SNP launch digest", "TDX RTMR2"}}},
	"gpt":                {{bootUKI, []string{"PCR 5", "TDX RTMR1"}}},
	"uki":                {{bootUKI, []string{"PCR 4", "TDX RTMR1"}}},
	"uki unread":         {{bootUKI, []string{"PCR 4", "PCR 9", "PCR 11", "TDX RTMR1", "TDX RTMR2"}}},
	// Programs of the ESP: the firmware measures those that it starts, and what stands where the UKI was decides what
	// the stub measures. The stub takes addons (started as programs, their sections into PCR 12) and the files beside
	// them (PCR 12 and 13); both move what the kernel gets, which it measures itself (PCR 9).
	"esp":       {{bootUKI, []string{"PCR 4", "PCR 9", "PCR 11", "PCR 12", "PCR 13", "TDX RTMR1", "TDX RTMR2"}}},
	"esp addon": {{bootUKI, []string{"PCR 4", "PCR 9", "PCR 12", "TDX RTMR1", "TDX RTMR2"}}},
	"esp extra": {{bootUKI, []string{"PCR 9", "PCR 12", "PCR 13", "TDX RTMR2"}}},

	"uki .linux":   {{bootUKI, []string{"PCR 4", "PCR 11", "TDX RTMR1", "TDX RTMR2"}}},
	"uki .initrd":  {{bootUKI, []string{"PCR 9", "PCR 11", "TDX RTMR2"}}},
	"uki .cmdline": {{bootUKI, []string{"PCR 9", "PCR 11", "TDX RTMR2"}}},
	"uki .osrel":   {{bootUKI, []string{"PCR 9", "PCR 11", "TDX RTMR2"}}},
	"uki .uname":   {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .sbat":    {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .pcrpkey": {{bootUKI, []string{"PCR 9", "PCR 11", "TDX RTMR2"}}}, // the stub hands it to the initrd, and
	"uki .pcrsig":  {{bootUKI, []string{"PCR 9", "TDX RTMR2"}}},           // this, which it measures nowhere else
	"uki .dtb":     {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .ucode":   {{bootUKI, []string{"PCR 9", "PCR 11", "TDX RTMR2"}}},
	"uki .splash":  {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .profile": {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .hwids":   {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .dtbauto": {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
	"uki .efifw":   {{bootUKI, []string{"PCR 11", "TDX RTMR2"}}},
}

// part says that a measured part differs.
func (c *comparer) part(name, because string) {
	if _, ok := c.parts[name]; !ok && !c.volume {
		c.parts[name] = because
	}
}

// standalone adds the parts that a lone file is of an image.
func (c *comparer) standalone(a, b source) {
	if c.unread && (kindOf(a) == kindDisk || kindOf(b) == kindDisk) {
		c.diskUnread("this disk, which was not read")
	}
	switch c.r.Kind {
	case kindCPIO:
		c.part("initrd", "this initrd")
		c.part("uki", "the UKI that holds this initrd")
		c.part("uki .initrd", "the UKI that holds this initrd")
	case kindUKI:
		if !c.isUKI {
			c.part("kernel", "this kernel")
			c.part("uki", "the UKI that holds this kernel")
			c.part("uki .linux", "the UKI that holds this kernel")
		}
	case kindErofs:
		const because = "the root hash of this file system, on the command line"
		c.part("cmdline", because)
		c.part("uki", because)
		c.part("uki .cmdline", because)
		c.part("gpt", "partition GUIDs made of the root hash")
	}
}

// registers lists what moves, sorted by boot and name.
func (c *comparer) registers() []Register {
	type key struct{ boot, name string }
	because := map[key]map[string]bool{}
	for part, why := range c.parts {
		for _, m := range moves[part] {
			for _, name := range m.names {
				k := key{m.boot, name}
				if because[k] == nil {
					because[k] = map[string]bool{}
				}
				because[k][why] = true
			}
		}
	}
	out := []Register{}
	for k, whys := range because {
		r := Register{Name: k.name, Boot: k.boot}
		for why := range whys {
			r.Because = append(r.Because, why)
		}
		sort.Strings(r.Because)
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Boot != out[j].Boot {
			return out[i].Boot < out[j].Boot
		}
		return padNumber(out[i].Name) < padNumber(out[j].Name)
	})
	return out
}

// padNumber makes "PCR 9" sort before "PCR 11".
func padNumber(s string) string {
	if i := strings.LastIndexByte(s, ' '); i >= 0 && len(s)-i == 2 {
		return s[:i+1] + "0" + s[i+1:]
	}
	return s
}
