package tdx

import (
	"slices"
	"sync"
)

// hashAll does what takes long: MRTD under each pass, in their order, and the digests of kernel or UKI, and of the
// initrd that is being hashed already.
//
// An initrd takes as long as all else together. Then all else is one task, in turn: with a third beside the two, two
// cores would take turns at them and the initrd end later. No task runs on the caller's stack. Where that is deep,
// the scratch space of SHA-512's assembler can come to lie across a page border, at half the speed.
func hashAll(in Input, firmware File, p Profile) (b *boot, mrtds []*MRTD, err error) {
	passes := p.passes()
	mrtds = make([]*MRTD, len(passes))
	errs := make([]error, len(passes)+1)
	tasks := []func(){func() { b, errs[0] = readBoot(in, p.forms()) }}
	for i, pass := range passes {
		if in.Measured != nil {
			mrtds[i] = &MRTD{Pass: pass, Digest: in.Measured.MRTD(pass), known: true}
			continue
		}
		tasks = append(tasks, func() { mrtds[i], errs[i+1] = Measure(firmware.R, firmware.Size, pass) })
	}
	if in.Initrd != nil {
		all := tasks
		tasks = []func(){func() {
			for _, t := range all {
				t()
			}
		}}
	}
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(t)
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, nil, err
		}
	}
	return b, mrtds, b.wait(in.Initrd)
}

// passes are the orders in which the profile's hosts build a trust domain.
func (p Profile) passes() []Pass {
	if p.GCE != nil {
		return []Pass{SinglePass}
	}
	return slices.DeleteFunc(Passes(), func(pass Pass) bool {
		return !slices.ContainsFunc(p.Hosts, func(h Host) bool { return slices.Contains(h.Passes, pass) })
	})
}
