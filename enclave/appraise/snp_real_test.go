package appraise

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"tally/enclave/appraise/amd"
	"tally/enclave/evidence"
)

// TestRealMachines appraises reports of real machines by policies that describe them; what binds a report to a key, and a
// measurement to a release, is left out. Each word of a policy that is stricter than the machine refuses it, for its reason.
func TestRealMachines(t *testing.T) {
	ec2 := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("amd", "testdata", "trustee", name)) // TestRealVLEK holds them to their SOURCE
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, m := range map[string]struct {
		report, endorsements []byte
		at                   time.Time
		policy               SNP
		want                 Reason // by that policy
		stricter             map[Reason]func(*SNP)
	}{
		"EC2": {ec2("test-vlek-report.bin"), ec2("test-vlek.der"), time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC),
			SNP{TCB: map[string]SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 217}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vlek"}, VMPL: 1, AllowSMT: true, IgnoreCRL: true, Chips: []string{Any}},
			"", map[Reason]func(*SNP){
				BadSignature:   func(p *SNP) { p.Signers = []string{"vcek"} },
				BadVMPL:        func(p *SNP) { p.VMPL = 0 },
				BadGuestPolicy: func(p *SNP) { p.AllowSMT = false },
				BadTCB:         func(p *SNP) { p.TCB["Milan"] = SNPTCB{BootLoader: 4, SNP: 24, Microcode: 218} },
				BadRevocation:  func(p *SNP) { p.IgnoreCRL = false },
				BadMachine:     func(p *SNP) { p.Chips = []string{"aa"} },
			}},
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
			p.Signers, p.TCB = slices.Clone(p.Signers), map[string]SNPTCB{"Milan": p.TCB["Milan"]}
			change(&p)
			if got := judge(p); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}
