package gpu_test

import (
	"testing"
	"time"

	. "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
)

// BenchmarkH100 is one real report with its chain of five and its two manifests, from bytes to verdict.
func BenchmarkH100(b *testing.B) {
	report, chain := vector(b, "go-nvtrust/attestationReport.txt"), vector(b, "go-nvtrust/gpuAkCertChain.txt")
	texts := [][]byte{vector(b, "nvtrust/Driver_RIM_test_no_gpu.swidtag"), vector(b, "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag")}
	for b.Loop() {
		devices, err := ParseEvidence(report, chain)
		fatal(b, err)
		in := Input{Devices: devices, Now: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), Policy: Policy{
			Floors: map[Arch]Floor{Hopper: {"545.00", "96.00.5E.00.01"}}, Modes: []Mode{ModeUnstated}, NoOCSP: true, MinGPUs: 1,
		}}
		in.Roots, err = NVIDIA()
		fatal(b, err)
		in.RIMs, err = ParseRIMs(texts...)
		fatal(b, err)
		for _, r := range in.RIMs {
			in.Policy.RIMs = append(in.Policy.RIMs, r.SHA256)
		}
		if _, err := Verify(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMachine is a machine of eight GPUs and four switches, from bytes to verdict: fakes, with chains as long as real ones. With
// responses, every certificate has one, with its responder's certificate, as real ones have.
func BenchmarkMachine(b *testing.B) {
	f := newFixture(b)
	machine := []*gputest.Device{f.gpu, f.sw}
	for i := range 10 {
		arch, driver, vbios := Hopper, f.gpu.Driver, f.gpu.VBIOS
		if i >= 7 {
			arch, driver, vbios = LS10, "", f.sw.VBIOS
		}
		d, err := f.vendor.Device(arch, driver, vbios)
		fatal(b, err)
		machine = append(machine, d)
		all, err := f.vendor.OCSP(d, gputest.Good, f.in.Now.Add(-time.Hour))
		fatal(b, err)
		f.in.OCSP = append(f.in.OCSP, all[0])
	}
	gputest.Connect(machine...)
	f.in.Devices = nil
	for _, d := range machine {
		e, err := d.Evidence(f.nonce)
		fatal(b, err)
		f.in.Devices = append(f.in.Devices, e)
	}
	f.in.Policy.MinGPUs, f.in.Policy.MinSwitches = 8, 4
	for _, ocsp := range []bool{false, true} {
		name := "plain"
		if ocsp {
			name = "ocsp"
		}
		b.Run(name, func(b *testing.B) {
			f.in.Policy.NoOCSP = !ocsp
			for b.Loop() {
				var err error
				f.in.RIMs, err = ParseRIMs(f.rims...)
				fatal(b, err)
				if res, err := Verify(f.in); err != nil {
					b.Fatalf("%v: %+v", err, res)
				}
			}
		})
	}
}
