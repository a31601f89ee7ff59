package appraise

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"tally/enclave/appraise/amd"
	"tally/enclave/evidence"
	"tally/internal/testtool"
)

// TestRealMachines appraises reports of real machines by policies that describe them; what binds a report to a key, and a
// measurement to a release, is left out. Each word of a policy that is stricter than the machine refuses it, for its reason.
func TestRealMachines(t *testing.T) {
	file := func(dir, name string) []byte { return testtool.Sample(t, filepath.Join("amd", "testdata", dir), name) }
	for name, m := range map[string]struct {
		report, endorsements []byte
		at                   time.Time
		policy               SNP
		want                 Reason // by that policy
		stricter             map[Reason]func(*SNP)
	}{
		"EC2": {file("trustee", "test-vlek-report.bin"), file("trustee", "test-vlek.der"), time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC),
			SNP{TCB: map[string]SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 217}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vlek"}, VMPL: 1, AllowSMT: true, IgnoreCRL: true, Chips: []string{Any}},
			"", map[Reason]func(*SNP){
				BadSignature:   func(p *SNP) { p.Signers = []string{"vcek"} },
				BadVMPL:        func(p *SNP) { p.VMPL = 0 },
				BadGuestPolicy: func(p *SNP) { p.AllowSMT = false },
				BadTCB:         func(p *SNP) { p.TCB["Milan"] = SNPTCB{BootLoader: 4, SNP: 24, Microcode: 218} },
				BadRevocation:  func(p *SNP) { p.IgnoreCRL = false },
				BadMachine:     func(p *SNP) { p.Chips = []string{"aa"} },
			}},
		"a Turin": {file("samples", "turin-report.bin"), file("samples", "turin-vcek.pem"), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
			SNP{TCB: map[string]SNPTCB{"Turin": {FMC: 1, BootLoader: 1, TEE: 1, SNP: 4, Microcode: 0x51}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, VMPL: 0, AllowSMT: true, IgnoreCRL: true, Chips: []string{Any},
				IDKeys:   []string{"4068e9ae4b315aa4b33938ce0ed01a3d5d8e80eb98eab479a0558cd7de9d4d40d6d80d328d90732688a42b13a0cd6405"},
				HostData: [32]byte{0xb3, 0x45, 0x2a, 0x0e, 0xd3, 0x0f, 0x10, 0x10, 0xbd, 0x32, 0x74, 0x0d, 0xd1, 0x61, 0x0b, 0xc6, 0x32, 0x96, 0xce, 0xb0, 0xf8, 0x82, 0xf2, 0xca, 0xc3, 0xa3, 0x15, 0x2d, 0x65, 0x1f, 0xe7, 0xe4}},
			"", map[Reason]func(*SNP){
				BadSignature:   func(p *SNP) { p.Signers = []string{"vlek"} },
				BadVMPL:        func(p *SNP) { p.VMPL = 1 },
				BadGuestPolicy: func(p *SNP) { p.AllowSMT = false },
				BadTCB:         func(p *SNP) { p.TCB["Turin"] = SNPTCB{FMC: 2, BootLoader: 1, TEE: 1, SNP: 4, Microcode: 0x51} },
				BadRevocation:  func(p *SNP) { p.IgnoreCRL = false },
				BadMachine:     func(p *SNP) { p.Chips = []string{"aa"} },

				BadConfiguration: func(p *SNP) { p.HostData[0]++ },
			}},
		"a Siena": {file("samples", "siena-report.bin"), file("samples", "siena-vcek.der"), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
			SNP{TCB: map[string]SNPTCB{"Genoa": {BootLoader: 10, SNP: 27, Microcode: 27}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, VMPL: 0, AllowSMT: true, IgnoreCRL: true, Chips: []string{Any}},
			"", map[Reason]func(*SNP){BadTCB: func(p *SNP) { p.TCB["Genoa"] = SNPTCB{BootLoader: 11} }}},
		"a debugged guest": {testdata.AttestationBytes, testdata.VcekBytes, time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
			SNP{TCB: map[string]SNPTCB{"Milan": {}}, Signers: []string{"vcek"}, AllowSMT: true, IgnoreCRL: true, IgnoreAliasCheck: true, Chips: []string{Any}}, BadGuestPolicy, nil},
	} {
		judge := func(p SNP) Reason {
			r, err := amd.Parse(m.report)
			if err != nil {
				t.Fatal(err)
			}
			a := &appraisal{in: Input{Now: m.at}, policy: Policy{SNP: &p}, doc: &evidence.Document{Platform: "snp", Endorsements: m.endorsements}, result: &Result{Platform: "snp"}}
			_, x := a.snp(quoted{report: m.report, reportData: [64]byte(r.GetReportData()), from: "the report itself"})
			if x == nil {
				return ""
			}
			t.Logf("%s: %s: got %s, want %s", name, x.reason, x.got, x.want)
			return x.reason
		}
		if got := judge(m.policy); got != m.want {
			t.Errorf("%s: %q, want %q", name, got, m.want)
		}
		for want, change := range m.stricter {
			p := m.policy
			p.Signers, p.TCB = slices.Clone(p.Signers), maps.Clone(p.TCB)
			change(&p)
			if got := judge(p); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}
