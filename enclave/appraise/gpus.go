package appraise

import (
	"cmp"
	"fmt"
	"slices"

	"tally/enclave/appraise/gpu"
)

// gpus appraises the set of GPUs that the claims bind. It comes after the platform's report: only then are the
// claims more than words.
func (a *appraisal) gpus() *refusal {
	p := a.policy.GPU
	if p == nil {
		return nil // and no GPUs: extras
	}
	switch g := a.in.GPU; {
	case g == nil:
		return &refusal{BadGPU, "evidence of its GPUs", "none", "policy"}
	case g.Missing != "":
		return &refusal{BadGPU, "evidence of its GPUs", g.Missing, "policy"}
	}
	s, err := gpu.ParseShipment(a.in.GPU.Document)
	if err != nil {
		return &refusal{reason: BadGPU, got: err.Error()}
	}
	in := gpu.Input{OCSP: slices.Concat(a.in.GPUOCSP, s.OCSP), Now: a.in.Now, Policy: p.Policy}
	if in.RIMs, err = gpu.ParseRIMs(slices.Concat(a.in.GPURIMs, s.RIMs)...); err != nil {
		return &refusal{reason: BadGPU, got: err.Error()}
	}
	if in.Roots, err = a.gpuRoots(); err != nil {
		return &refusal{reason: BadGPU, got: err.Error()}
	}
	res, err := gpu.VerifySet(a.doc.Claims, s.Document, in)
	a.addDevices(res)
	if err != nil {
		return &refusal{reason: BadGPU, got: fmt.Sprintf("%s: %v", res.Reason, err)}
	}
	a.ok("gpu", "the set that the evidence binds", fmt.Sprintf("%d devices", len(res.Devices)), "policy")
	return nil
}

func (a *appraisal) gpuRoots() (gpu.Roots, error) {
	vendor, err := gpu.NVIDIA()
	if err != nil || a.policy.GPU.Roots == nil {
		return vendor, err
	}
	r := *a.policy.GPU.Roots
	a.unchecked("gpu roots", vendorOf(r.Device.Subject.CommonName, "NVIDIA"))
	return r, nil
}

// addDevices takes over what was checked of each device. Which check failed is said again by the refusal, the last
// of a Result's checks and its only failed one.
func (a *appraisal) addDevices(res *gpu.Result) {
	a.addChecks("gpu", res.Checks)
	for i, d := range res.Devices {
		a.addChecks(fmt.Sprintf("gpu %d", i), d.Checks)
	}
}

func (a *appraisal) addChecks(of string, all []gpu.Check) {
	for _, c := range all {
		name := of + " " + c.Name
		switch c.Status {
		case gpu.OK:
			a.ok(name, cmp.Or(c.Want, c.Got), c.Got, cmp.Or(c.From, "report"))
		case gpu.NotChecked:
			a.unchecked(name, c.Got)
		}
	}
}
