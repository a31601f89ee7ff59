package appraise

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/enclave/appraise/hcl"
	"tally/enclave/appraise/tpm"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

type azureMachine struct{ *attesttest.Azure }

func (m azureMachine) Attest(t testing.TB, rd [64]byte) (r, e []byte) {
	t.Helper()
	r, e, err := m.Azure.Attest(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return r, e
}

// azureVM is a machine on Azure in good order, a policy that accepts it, and the release that runs there.
func azureVM(t testing.TB) (azureMachine, Policy, *measure.ReferenceValues) {
	t.Helper()
	m, p, _ := machine(t)
	z, err := attesttest.NewAzure(m.AMD)
	if err != nil {
		t.Fatal(err)
	}
	z.PCR[0], z.PCR[2], z.PCR[4], z.PCR[11] = [32]byte{1}, [32]byte{2}, [32]byte{4}, [32]byte{11}
	digests := map[string][]byte{}
	for i, v := range z.PCR {
		digests[fmt.Sprintf("pcr%d", i)] = v[:]
	}
	rv := values("vtpm", digests, measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot)
	hexOf := func(i uint) []string { v := z.PCR[i]; return []string{hex.EncodeToString(v[:])} }
	p = Policy{Platforms: []string{"vtpm-azure"}, Freshness: FreshNone, Azure: &Azure{SNP: *p.SNP, VTPM: VTPM{PCR0: hexOf(0), PCR2: hexOf(2)},
		Paravisors: []string{hex.EncodeToString(m.Fields.Measurement[:])}}}
	return azureMachine{z}, p, rv
}

func TestAzure(t *testing.T) {
	m, p, rv := azureVM(t)
	in := about(t, m, rv)
	r, err := Appraise(in, p)
	if err != nil || r.Insecure {
		t.Fatalf("%v; insecure: %v", err, r.Insecure)
	}
	var said bool
	for _, c := range r.Checks {
		said = said || c.Name == "paravisor" && c.Status == NotChecked && strings.Contains(c.Got, "could sign what it likes")
		if c.Note != "" {
			t.Errorf("check %s: note %q", c.Name, c.Note)
		}
	}
	if !said {
		t.Error("no line says that the paravisor is trusted")
	}
	p.Freshness = FreshSession
	if _, err := Appraise(withSession(t, in, m, 6), p); err != nil {
		t.Error("session:", err)
	}
	another, _, _ := azureVM(t)
	another.PCR = m.PCR
	if r, err := Appraise(withSession(t, in, another, 6), p); err == nil || r.Reason != BadMachine {
		t.Errorf("the TPM of another VM on the same machine: %v", err)
	}
	p.Freshness = FreshNone
	own := in
	own.Collateral = certificatesOf(t, in)
	own.Document = withoutCertificates(t, in)
	if _, err := Appraise(own, p); err != nil {
		t.Error("certificates that the client has:", err)
	}
	own.Collateral = nil
	refused(t, "no certificates", own, p, BadEvidence, "none is at hand")
	p.Azure.SNP.Roots = nil
	refused(t, "AMD's roots", in, p, BadSignature, "")
}

func certificatesOf(t testing.TB, in Input) []byte {
	t.Helper()
	d, err := evidence.Parse(in.Document)
	if err != nil {
		t.Fatal(err)
	}
	_, certs, err := hcl.ParseEndorsements(d.Endorsements)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func withoutCertificates(t testing.TB, in Input) []byte {
	return edited(t, in, func(d *evidence.Document) {
		r, _, err := hcl.ParseEndorsements(d.Endorsements)
		if err != nil {
			t.Fatal(err)
		}
		if d.Endorsements, err = hcl.Endorsements(r, nil); err != nil {
			t.Fatal(err)
		}
	})
}

func edited(t testing.TB, in Input, change func(*evidence.Document)) []byte {
	t.Helper()
	d, err := evidence.Parse(in.Document)
	if err != nil {
		t.Fatal(err)
	}
	change(d)
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAzureRefused(t *testing.T) {
	other, _, _ := azureVM(t)
	for name, c := range map[string]struct {
		machine func(azureMachine)
		policy  func(*Azure)
		values  func(*measure.ReferenceValues)
		edit    func(*evidence.Document)
		reason  Reason
		words   string
	}{
		"a paravisor not listed": {machine: func(m azureMachine) { m.AMD.Fields.Measurement[0]++ }, reason: BadMeasurement, words: "paravisor"},
		"below the paravisor":    {machine: func(m azureMachine) { m.AMD.Fields.VMPL = 2 }, reason: BadVMPL},
		"debugging":              {machine: func(m azureMachine) { m.AMD.Fields.Policy |= policyDebug }, reason: BadGuestPolicy},
		"TCB":                    {policy: func(p *Azure) { p.SNP.TCB["Milan"] = SNPTCB{SNP: 25} }, reason: BadTCB},
		"chip":                   {policy: func(p *Azure) { p.SNP.Chips = []string{strings.Repeat("00", 64)} }, reason: BadMachine},
		"no key": {edit: func(d *evidence.Document) {
			d.Endorsements = bytes.Replace(d.Endorsements, []byte("HCLAkPub"), []byte("HCLEkPub"), 1)
		}, reason: BadEvidence, words: "no key HCLAkPub"},
		"another TPM's quote": {edit: func(d *evidence.Document) { d.Report, _ = other.Attest(t, claims.ReportData()) }, reason: BadSignature, words: "modulus"},
		"another VM's report": {edit: func(d *evidence.Document) { _, d.Endorsements = other.Attest(t, claims.ReportData()) }, reason: BadSignature, words: "modulus"},
		"runtime data": {edit: func(d *evidence.Document) {
			d.Endorsements = bytes.Replace(d.Endorsements, []byte("true"), []byte("null"), 1)
		}, reason: BadReportData, words: "runtime data"},
		"no endorsements":    {edit: func(d *evidence.Document) { d.Endorsements = nil }, reason: BadEvidence, words: "HCL endorsements"},
		"a key of ours":      {edit: func(d *evidence.Document) { d.Report = d.Report[:len(d.Report)-1] }, reason: BadSignature, words: "PCRs"},
		"a key for anything": {machine: func(m azureMachine) { m.Key = func(b []byte) []byte { b[5] &^= 1; return b } }, reason: BadSignature, words: "restricted"},
		"other claims":       {edit: func(d *evidence.Document) { d.Claims.Epoch++ }, reason: BadReportData, words: "qualifying data"},
		"firmware":           {policy: func(p *Azure) { p.PCR0 = p.PCR2 }, reason: BadMeasurement, words: "pcr0"},
		"drivers":            {policy: func(p *Azure) { p.PCR2 = p.PCR0 }, reason: BadMeasurement, words: "pcr2"},
		"another kernel":     {machine: func(m azureMachine) { m.PCR[4] = [32]byte{5} }, reason: BadMeasurement, words: "pcr4"},
		"a credential":       {machine: func(m azureMachine) { m.PCR[12] = [32]byte{5} }, reason: BadMeasurement, words: "pcr12"},
		"a credential of the release": {machine: func(m azureMachine) { m.PCR[13] = [32]byte{5} }, values: func(rv *measure.ReferenceValues) {
			rv.Values[6].Digest = append([]byte{5}, make([]byte, 31)...)
		}, reason: BadMeasurement, words: "pcr13 0500"},
		"no values": {values: func(rv *measure.ReferenceValues) { rv.Values[0].Platform.TEE = "snp" }, reason: BadMeasurement},
		"no root":   {values: func(rv *measure.ReferenceValues) { clearCovers(rv) }, reason: BadMeasurement, words: "covers no kernel"},
	} {
		m, p, rv := azureVM(t)
		if c.machine != nil {
			c.machine(m)
		}
		if c.policy != nil {
			c.policy(p.Azure)
		}
		if c.values != nil {
			c.values(rv)
		}
		in := about(t, m, rv)
		if c.edit != nil {
			in.Document = edited(t, in, c.edit)
		}
		refused(t, name, in, p, c.reason, c.words)
	}
}

func clearCovers(rv *measure.ReferenceValues) {
	for i := range rv.Values {
		rv.Values[i].Covers = nil
	}
}

func TestAzurePolicy(t *testing.T) {
	m, good, rv := azureVM(t)
	in := about(t, m, rv)
	for name, change := range map[string]func(p *Policy){
		"nothing":       func(p *Policy) { p.Azure = nil },
		"zero":          func(p *Policy) { p.Azure = new(Azure) },
		"no paravisor":  func(p *Policy) { p.Azure.Paravisors = nil },
		"any paravisor": func(p *Policy) { p.Azure.Paravisors = []string{Any} },
		"no firmware":   func(p *Policy) { p.Azure.PCR0 = nil },
		"any firmware":  func(p *Policy) { p.Azure.PCR2 = []string{Any} },
		"no SNP":        func(p *Policy) { p.Azure.SNP = SNP{} },
		"VMPL":          func(p *Policy) { p.Azure.SNP.VMPL = 2 },
		"freshness":     func(p *Policy) { p.Freshness = "" },
	} {
		p, z := good, *good.Azure
		p.Azure = &z
		z.Paravisors = slices.Clone(z.Paravisors)
		change(&p)
		refused(t, name, in, p, PolicyEmpty, "")
	}
	p := good
	p.Platforms = []string{"vtpm-unendorsed", "snp"}
	refused(t, "another platform", in, p, BadPlatform, "vtpm-azure")
}

// TestAzureRecorded holds evidence recorded on Azure to AMD's own root: all of it passes but what the quote was asked to
// sign, which was not about a channel.
func TestAzureRecorded(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("hcl", "testdata", "vectors", "trustee", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, err := hcl.Parse(read("hcl-report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(read("vcek.pem"))
	endorsements, err := hcl.Endorsements(r, block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	q, take := read("quote.bin"), func(q []byte, size int) (field, rest []byte) {
		n := int(binary.LittleEndian.Uint64(q)) * size
		return q[8 : 8+n], q[8+n:]
	}
	sig, q := take(q, 1)
	attest, q := take(q, 1)
	list, _ := take(q, 32)
	pcrs := map[uint][32]byte{}
	for i := range uint(24) {
		pcrs[i] = [32]byte(list[32*i:])
	}
	public := append([]byte{0, 1, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 1, 0}, r.Key.N.Bytes()...)
	report, err := tpm.Marshal(attest, append([]byte{0, 0x14, 0, 0x0b, 1, 0}, sig...), public, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	_, p, rv := azureVM(t)
	in := about(t, azureMachine{mustAzure(t)}, rv)
	in.Document = edited(t, in, func(d *evidence.Document) { d.Report, d.Endorsements = report, endorsements })
	p.Azure.Paravisors = []string{"9ac48fcac8a2d88aeeff8d427ad4f2be0e3917c748a18bdf52cc317e7fe20308b459d5ef1a12e0c22944eb386d17c315"}
	p.Azure.SNP = SNP{TCB: map[string]SNPTCB{"Milan": {BootLoader: 3, SNP: 8, Microcode: 115}}, Firmware: [2]uint8{1, 52}, Signers: []string{"vcek"}, AllowSMT: true,
		IgnoreAliasCheck: true, IgnoreCRL: true, Chips: []string{Any}, IDKeys: []string{"0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3"}}
	refused(t, "recorded", in, p, BadReportData, "want qualifying data")
	p.Azure.SNP.IDKeys = nil
	refused(t, "Azure's ID block", in, p, BadConfiguration, "want no ID block")
}

func mustAzure(t testing.TB) *attesttest.Azure {
	t.Helper()
	m, _, _ := azureVM(t)
	return m.Azure
}
