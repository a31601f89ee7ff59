package snp

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// A Variant is one supposition about what the VMM handed to the firmware.
type Variant struct {
	Name   string        // for the answer, e.g. "no initrd"
	Hashes *KernelHashes // nil: no kernel
}

// A Found is a set of inputs that gives the digest searched for.
type Found struct {
	VMM       VMM      `json:"vmm"`
	VCPUs     int      `json:"vcpus"`
	Signature uint32   `json:"vcpu_signature,omitempty"` // absent where it does not enter the digest
	CPUs      []string `json:"vcpu_types,omitempty"`     // QEMU's names for it
	Features  uint64   `json:"guest_features"`
	Inputs    string   `json:"inputs"` // name of the variant
}

// A candidate is one launch without its number of vCPUs.
type candidate struct {
	vmm       VMM
	prefix    Digest
	variant   string
	signature uint32
	features  uint64
}

// Match searches for the launches of f that give want: every monitor, 1 to MaxVCPUs vCPUs, every known CPU
// signature and those in extra (the machine's own, for `-cpu host`), the feature masks in use, and the
// variants. It returns what it found, in a fixed order, and how many digests it compared.
func Match(ctx context.Context, want Digest, f *Firmware, variants []Variant, extra ...uint32) ([]Found, int, error) {
	all, err := candidates(f, variants, extra)
	if err != nil {
		return nil, 0, err
	}
	hits := make([][]Found, len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				hits[i] = all[i].search(want, f.ResetEIP)
			}
		})
	}
	for i := range all {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return slices.Concat(hits...), len(all) * MaxVCPUs, ctx.Err()
}

func candidates(f *Firmware, variants []Variant, extra []uint32) ([]candidate, error) {
	if f == nil {
		return nil, errors.New("firmware: missing")
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	var all []candidate
	for i, v := range variants {
		if v.Hashes != nil {
			if err := f.checkKernelHashes(); err != nil {
				return nil, fmt.Errorf("%s: %w", v.Name, err)
			}
		}
		for _, vmm := range VMMs() {
			p := profiles[vmm]
			if v.Hashes != nil && !p.kernel {
				continue
			}
			c := chain{ld: f.Digest}
			c.addSections(Input{Firmware: f, Hashes: v.Hashes}, p)
			for _, sig := range signatures(p, extra) {
				for _, features := range masks(i == 0) {
					all = append(all, candidate{vmm, c.ld, v.Name, sig, features})
				}
			}
		}
	}
	return all, nil
}

// search compares the digests of 1 to MaxVCPUs vCPUs with want.
func (k candidate) search(want Digest, eip uint32) []Found {
	p := profiles[k.vmm]
	c := chain{ld: k.prefix}
	c.add(pageVMSA, p.vmsaGPA, sha512.Sum384(p.vmsa(true, eip, k.signature, k.features)))
	other := sha512.Sum384(p.vmsa(false, eip, k.signature, k.features))
	for n := 1; n <= MaxVCPUs; n++ {
		if c.ld == want {
			return []Found{{k.vmm, n, k.signature, cpuNames(k.signature), k.features, k.variant}}
		}
		c.add(pageVMSA, p.vmsaGPA, other)
	}
	return nil
}

// signatures lists those worth trying on a monitor, each once.
func signatures(p profile, extra []uint32) []uint32 {
	if !p.needsVCPU {
		return []uint32{0}
	}
	var all []uint32
	for _, m := range models {
		sig, err := Signature(m.family, m.model, m.stepping)
		if err == nil && !slices.Contains(all, sig) {
			all = append(all, sig)
		}
	}
	for _, sig := range extra {
		if sig != 0 && !slices.Contains(all, sig) {
			all = append(all, sig)
		}
	}
	return all
}

// masks lists the values of SEV_FEATURES worth trying: those of stock hosts, or with wide every
// combination of the features that a VMM can offer a guest today.
func masks(wide bool) []uint64 {
	all := []uint64{0x1, 0x21, 0x201, 0x221} // SNPActive; with DebugSwap, SecureTSC, both
	if !wide {
		return all
	}
	bits := []uint64{1 << 1, 1 << 3, 1 << 4, 1 << 5, 1 << 9} // vTOM, restricted and alternate injection
	for set := range 1 << len(bits) {
		mask := uint64(1)
		for i, b := range bits {
			if set>>i&1 == 1 {
				mask |= b
			}
		}
		if !slices.Contains(all, mask) {
			all = append(all, mask)
		}
	}
	return all
}

// cpuNames are QEMU's names for a signature.
func cpuNames(sig uint32) []string {
	var all []string
	for _, m := range models {
		if s, err := Signature(m.family, m.model, m.stepping); err == nil && s == sig {
			all = append(all, m.names()...)
		}
	}
	return all
}
