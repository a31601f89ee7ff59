package snp

import (
	"fmt"
	"slices"
	"sort"
)

// Signature returns CPUID leaf 1 EAX for a family, model and stepping (AMD64 APM volume 3, CPUID
// Fn0000_0001_EAX).
func Signature(family, model, stepping uint) (uint32, error) {
	if family > 0xf+0xff || model > 0xff || stepping > 0xf {
		return 0, fmt.Errorf("cpu signature: family %d, model %d, stepping %d: want at most %d, %d and %d", family, model, stepping, 0xf+0xff, 0xff, 0xf)
	}
	low, high := family, uint(0)
	if family > 0xf {
		low, high = 0xf, family-0xf
	}
	return uint32(high<<20 | model>>4<<16 | low<<8 | model&0xf<<4 | stepping), nil
}

// A model is one of QEMU's CPU models (target/i386/cpu.c, QEMU 10.1). All its versions, v1 to
// versions, have the same family, model and stepping.
type model struct {
	name                    string
	versions                int
	family, model, stepping uint
}

var models = []model{
	{"EPYC", 5, 23, 1, 2},
	{"EPYC-IBPB", 0, 23, 1, 2},
	{"EPYC-Rome", 5, 23, 49, 0},
	{"EPYC-Milan", 3, 25, 1, 1},
	{"EPYC-Genoa", 2, 25, 17, 0},
	{"EPYC-Turin", 1, 26, 0, 0},
}

// names are the model's name and those of its versions.
func (m model) names() []string {
	all := []string{m.name}
	for v := 1; v <= m.versions; v++ {
		all = append(all, fmt.Sprintf("%s-v%d", m.name, v))
	}
	return all
}

// VCPUTypes lists the names VCPUSignature knows, sorted.
func VCPUTypes() []string {
	var all []string
	for _, m := range models {
		all = append(all, m.names()...)
	}
	sort.Strings(all)
	return all
}

// VCPUSignature returns the signature of a QEMU CPU model by its name. An unknown name is an error: a
// guessed signature would be a silently wrong digest.
func VCPUSignature(name string) (uint32, error) {
	for _, m := range models {
		if slices.Contains(m.names(), name) {
			return Signature(m.family, m.model, m.stepping)
		}
	}
	return 0, fmt.Errorf("vcpu type %.40q is unknown: want one of %v, or give the signature", name, VCPUTypes())
}
