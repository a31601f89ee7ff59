package appraise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/enclave/evidence"
)

// A gpuWorld is a machine with two GPUs and a switch, and a client that knows what they should be.
type gpuWorld struct {
	vendor   *gputest.Vendor
	devices  []*gputest.Device
	shipment gpu.Shipment
	policy   GPUs
}

const driver, vbios, switchVBIOS = "550.90.07", "96.00.5E.00.01", "96.10.55.00.01"

func newGPUWorld(t testing.TB) *gpuWorld {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	v, err := gputest.New(now)
	must(err)
	roots := v.Roots()
	w := &gpuWorld{vendor: v, policy: GPUs{Roots: &roots, Policy: gpu.Policy{
		Floors: map[gpu.Arch]gpu.Floor{gpu.Hopper: {Driver: driver, VBIOS: vbios}, gpu.LS10: {VBIOS: switchVBIOS}},
		Modes:  []gpu.Mode{gpu.ModeUnstated}, OCSPMaxAge: 24 * time.Hour, MinGPUs: 2, MinSwitches: 1,
	}}}
	for _, arch := range []gpu.Arch{gpu.Hopper, gpu.Hopper, gpu.LS10} {
		d, err := v.Device(arch, driver, vbios)
		if arch.Switch() {
			d, err = v.Device(arch, "", switchVBIOS)
		}
		must(err)
		w.devices = append(w.devices, d)
		ocsp, err := v.OCSP(d, gputest.Good, now)
		must(err)
		w.shipment.OCSP = append(w.shipment.OCSP, ocsp...)
	}
	gputest.Connect(w.devices...)
	for i, r := range []struct {
		arch    gpu.Arch
		version string
	}{{gpu.Hopper, driver}, {gpu.Hopper, vbios}, {gpu.LS10, switchVBIOS}} {
		text, err := v.RIM(r.arch, r.version, i, i+10)
		must(err)
		w.shipment.RIMs = append(w.shipment.RIMs, text)
		all, err := gpu.ParseRIMs(text)
		must(err)
		w.policy.RIMs = append(w.policy.RIMs, all[0].SHA256)
	}
	return w
}

// collect asks the devices on behalf of c.
func (w *gpuWorld) collect(t testing.TB, c evidence.Claims) []byte {
	t.Helper()
	var all []gpu.Device
	for _, d := range w.devices {
		e, err := d.Evidence(gpu.Nonce(c))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	document, err := (&gpu.Set{Driver: gpu.DriverState{ConfidentialCompute: true, GPUs: 2, Switches: 1}, Devices: all}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// about is the input of key evidence by a that binds the devices.
func (w *gpuWorld) about(t testing.TB, a attester, c evidence.Claims) Input {
	t.Helper()
	w.shipment.Document = w.collect(t, c)
	digest := gpu.SetDigest(w.shipment.Document)
	c.GPU = digest[:]
	d := &evidence.Document{Platform: a.Platform(), Claims: c}
	d.Report, d.Endorsements = a.Attest(t, c.ReportData())
	in := Input{Static: c.Static, Authority: c.Authority, Now: now.Add(time.Hour)}
	var err error
	if in.Document, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	in.GPU = &GPU{Document: w.ship(t)}
	return in
}

func (w *gpuWorld) ship(t testing.TB) []byte {
	t.Helper()
	b, err := w.shipment.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGPUsAccepted(t *testing.T) {
	m, p, rv := machine(t)
	w := newGPUWorld(t)
	p.GPU = &w.policy
	in := w.about(t, m, claims)
	in.Reference = rv
	r, err := Appraise(in, p)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]Status{}
	for _, c := range r.Checks {
		seen[c.Name] = c.Status
		if c.Status == OK && (c.Want == "" || c.From == "") {
			t.Errorf("check %+v", c)
		}
	}
	for _, name := range []string{"gpu", "gpu driver-state", "gpu 0 chain", "gpu 1 signature", "gpu 1 nonce", "gpu 1 rim-driver", "gpu 1 ocsp", "gpu 2 rim-vbios", "gpu 2 measurement"} {
		if seen[name] != OK {
			t.Errorf("check %q is %q", name, seen[name])
		}
	}
	if seen["gpu roots"] != NotChecked {
		t.Error("roots that are not the vendor's are not mentioned")
	}
	// What the client has itself counts as what comes with the evidence.
	in.GPURIMs, in.GPUOCSP = w.shipment.RIMs, w.shipment.OCSP
	w.shipment.RIMs, w.shipment.OCSP = nil, nil
	in.GPU.Document = w.ship(t)
	if _, err := Appraise(in, p); err != nil {
		t.Errorf("the client's own collateral: %v", err)
	}
}

func TestGPUsRefused(t *testing.T) {
	m, base, rv := machine(t)
	for name, c := range map[string]struct {
		change func(w *gpuWorld, in *Input, p *Policy)
		reason Reason
		words  string
	}{
		"policy without GPUs":   {func(_ *gpuWorld, _ *Input, p *Policy) { p.GPU = nil }, BadGPU, "section gpu is missing"},
		"empty policy":          {func(_ *gpuWorld, _ *Input, p *Policy) { p.GPU = &GPUs{} }, PolicyEmpty, "gpu: no family"},
		"no set":                {func(_ *gpuWorld, in *Input, _ *Policy) { in.GPU = nil }, BadGPU, "none, want evidence of its GPUs"},
		"no set, and why":       {func(_ *gpuWorld, in *Input, _ *Policy) { in.GPU = &GPU{Missing: "it has none"} }, BadGPU, "it has none"},
		"no form of a set":      {func(_ *gpuWorld, in *Input, _ *Policy) { in.GPU.Document = []byte("{}") }, BadGPU, "schema"},
		"evidence without GPUs": {func(w *gpuWorld, in *Input, _ *Policy) { *in = about(t, m, rv) }, BadGPU, "without, want at least 2 GPUs"},
		"another key's set": {func(w *gpuWorld, in *Input, _ *Policy) {
			other := claims
			other.Static[0]++
			w.shipment.Document = w.collect(t, other)
			in.GPU.Document = w.ship(t)
		}, BadGPU, "binding: "},
		"another key's set, bound": {func(w *gpuWorld, in *Input, _ *Policy) {
			// The enclave that would do this is not the measured one; the nonce tells all the same.
			other := claims
			other.Static[0]++
			document := w.collect(t, other)
			digest := gpu.SetDigest(document)
			mine := claims
			mine.GPU = digest[:]
			d := &evidence.Document{Platform: m.Platform(), Claims: mine}
			d.Report, d.Endorsements = m.Attest(t, mine.ReportData())
			in.Document, _ = d.Marshal()
			w.shipment.Document = document
			in.GPU.Document = w.ship(t)
		}, BadGPU, "nonce: "},
		"one GPU removed": {func(w *gpuWorld, in *Input, _ *Policy) {
			w.devices = slices.Delete(w.devices, 1, 2)
			*in = w.about(t, m, claims)
			in.Reference = rv
		}, BadGPU, "no-devices: evidence of 1 GPUs and 1 switches"},
		"one GPU removed on the way": {func(w *gpuWorld, in *Input, _ *Policy) {
			w.devices = slices.Delete(w.devices, 1, 2)
			w.shipment.Document = w.collect(t, claims)
			in.GPU.Document = w.ship(t)
		}, BadGPU, "binding: "},
		"stale OCSP": {func(w *gpuWorld, in *Input, _ *Policy) { in.Now = now.Add(25 * time.Hour) }, BadGPU, "ocsp-stale: "},
		"no OCSP":    {func(w *gpuWorld, in *Input, _ *Policy) { w.shipment.OCSP = nil; in.GPU.Document = w.ship(t) }, BadGPU, "ocsp: "},
		"revoked": {func(w *gpuWorld, in *Input, _ *Policy) {
			all, err := w.vendor.OCSP(w.devices[0], gputest.Revoked, now)
			if err != nil {
				t.Fatal(err)
			}
			in.GPUOCSP = all
		}, BadGPU, "revoked: "},
		"another RIM": {func(w *gpuWorld, in *Input, _ *Policy) {
			text, err := w.vendor.RIM(gpu.Hopper, driver, 5) // signed, and of other contents than the release names
			if err != nil {
				t.Fatal(err)
			}
			w.shipment.RIMs[0] = text
			in.GPU.Document = w.ship(t)
		}, BadGPU, "rim-unpinned: "},
		"no RIM":      {func(w *gpuWorld, in *Input, _ *Policy) { w.shipment.RIMs = nil; in.GPU.Document = w.ship(t) }, BadGPU, "rim-missing: "},
		"RIM of junk": {func(w *gpuWorld, in *Input, _ *Policy) { in.GPURIMs = [][]byte{[]byte("<a/>")} }, BadGPU, "manifest 0"},
		"driver's floor": {func(w *gpuWorld, _ *Input, _ *Policy) {
			w.policy.Floors[gpu.Hopper] = gpu.Floor{Driver: "551", VBIOS: vbios}
		}, BadGPU, "rollback: "},
		"vendor's roots": {func(w *gpuWorld, _ *Input, p *Policy) { w.policy.Roots = nil }, BadGPU, "chain: "},
	} {
		w := newGPUWorld(t)
		p := base
		p.GPU = &w.policy
		in := w.about(t, m, claims)
		in.Reference = rv
		c.change(w, &in, &p)
		refused(t, name, in, p, c.reason, c.words)
		if r, _ := Appraise(in, p); strings.Count(failures(r), "|") != 1 {
			t.Errorf("%s: failed checks %s", name, failures(r))
		}
	}
}

func failures(r *Result) (s string) {
	for _, c := range r.Checks {
		if c.Status == Failed {
			s += c.Name + "|"
		}
	}
	return s
}
