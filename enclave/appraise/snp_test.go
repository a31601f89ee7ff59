package appraise

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

func TestSNPRefused(t *testing.T) {
	type mutation struct {
		machine func(*attesttest.AMD)
		policy  func(*SNP)
		values  func(*measure.ReferenceValues)
		input   func(*Input)
		reason  Reason
		words   string
	}
	for name, c := range map[string]mutation{
		"AMD's roots":           {policy: func(p *SNP) { p.Roots = nil }, reason: BadSignature},
		"VLEK":                  {machine: func(m *attesttest.AMD) { m.VLEK = true }, reason: BadSignature, words: "vlek of a Milan"},
		"other claims":          {input: func(in *Input) { in.Document[60] ^= 1 }, reason: BadReportData},
		"no revocation list":    {input: func(in *Input) { in.Collateral = vcekOnly(t, in.Document) }, reason: BadRevocation},
		"debugging":             {machine: func(m *attesttest.AMD) { m.Fields.Policy |= policyDebug }, reason: BadGuestPolicy, words: "want debugging off"},
		"migration":             {machine: func(m *attesttest.AMD) { m.Fields.Policy |= policyMigration }, reason: BadGuestPolicy, words: "want no migration agent"},
		"a migration agent":     {machine: func(m *attesttest.AMD) { m.Fields.ReportIDMA[0] = 1 }, reason: BadGuestPolicy, words: "REPORT_ID_MA"},
		"CXL":                   {machine: func(m *attesttest.AMD) { m.Fields.Policy |= 1 << 21 }, reason: BadGuestPolicy, words: "no memory over CXL"},
		"hyper-threads":         {policy: func(p *SNP) { p.AllowSMT = false }, reason: BadGuestPolicy, words: "hyper-threads off"},
		"trusted I/O":           {machine: func(m *attesttest.AMD) { m.Fields.PlatformInfo |= 1 << 7 }, reason: BadGuestPolicy, words: "want platform info of the bits 0x7f"},
		"VMPL":                  {machine: func(m *attesttest.AMD) { m.Fields.VMPL = 1 }, reason: BadVMPL, words: "VMPL 1, want VMPL 0"},
		"aliases":               {machine: func(m *attesttest.AMD) { m.Fields.PlatformInfo &^= platformAliasCheck }, reason: BadAliasCheck},
		"other product":         {policy: func(p *SNP) { p.TCB = map[string]SNPTCB{"Genoa": {}} }, reason: BadTCB, words: "product Milan"},
		"reported above cert":   {machine: func(m *attesttest.AMD) { m.Fields.ReportedTCB++ }, reason: BadTCB, words: "vcek's certificate"},
		"reported below cert":   {machine: func(m *attesttest.AMD) { m.Fields.ReportedTCB-- }, reason: BadTCB, words: "vcek's certificate"},
		"boot loader floor":     {policy: func(p *SNP) { p.TCB["Milan"] = SNPTCB{BootLoader: 5} }, reason: BadTCB, words: "reported TCB"},
		"TEE floor":             {policy: func(p *SNP) { p.TCB["Milan"] = SNPTCB{TEE: 1} }, reason: BadTCB, words: "reported TCB"},
		"SNP floor":             {policy: func(p *SNP) { p.TCB["Milan"] = SNPTCB{SNP: 25} }, reason: BadTCB, words: "reported TCB"},
		"microcode floor":       {policy: func(p *SNP) { p.TCB["Milan"] = SNPTCB{Microcode: 220} }, reason: BadTCB, words: "reported TCB"},
		"committed TCB":         {machine: func(m *attesttest.AMD) { m.Fields.CommittedTCB-- }, reason: BadTCB, words: "committed TCB"},
		"current TCB":           {machine: func(m *attesttest.AMD) { m.Fields.CurrentTCB-- }, reason: BadTCB, words: "current TCB"},
		"launch TCB":            {machine: func(m *attesttest.AMD) { m.Fields.LaunchTCB-- }, reason: BadTCB, words: "launch TCB"},
		"firmware":              {machine: func(m *attesttest.AMD) { m.Fields.CommittedFirmware[1] = 54 }, reason: BadTCB, words: "1.54"},
		"major firmware":        {policy: func(p *SNP) { p.Firmware = [2]uint8{2, 0} }, reason: BadTCB, words: "from 2.0"},
		"reported not running":  {machine: func(m *attesttest.AMD) { m.Fields.CurrentTCB-- }, policy: func(p *SNP) { p.TCB["Milan"] = SNPTCB{} }, reason: BadTCB, words: "a reported TCB up to the current one"},
		"committed not running": {machine: func(m *attesttest.AMD) { m.Fields.CommittedTCB += 1 << 56 }, reason: BadTCB, words: "a committed TCB up to the current one"},
		"version not running":   {machine: func(m *attesttest.AMD) { m.Fields.CommittedFirmware[1] = 56 }, reason: BadTCB, words: "committed firmware up to the current 1.55 build 29"},
		"build not running":     {machine: func(m *attesttest.AMD) { m.Fields.CommittedFirmware[0] = 30 }, reason: BadTCB, words: "committed firmware up to the current 1.55 build 29"},
		"another chip":          {policy: func(p *SNP) { p.Chips = []string{strings.Repeat("ab", 64)} }, reason: BadMachine},
		"a hidden chip":         {machine: func(m *attesttest.AMD) { m.Fields.ChipID = [64]byte{} }, reason: BadMachine},
		"another chip's report": {machine: func(m *attesttest.AMD) { m.Fields.ChipID[0]++ }, policy: func(p *SNP) { p.Chips = []string{Any} }, reason: BadSignature, words: "its vcek is for chip"},
		"HOST_DATA":             {machine: func(m *attesttest.AMD) { m.Fields.HostData[31] = 1 }, reason: BadConfiguration, words: "HOST_DATA"},
		"HOST_DATA wanted":      {policy: func(p *SNP) { p.HostData[0] = 1 }, reason: BadConfiguration, words: "HOST_DATA"},
		"guest SVN":             {policy: func(p *SNP) { p.GuestSVN = 1 }, reason: BadConfiguration, words: "GUEST_SVN"},
		"ID block":              {machine: func(m *attesttest.AMD) { m.Fields.IDKeyDigest[0] = 1 }, reason: BadConfiguration, words: "want no ID block"},
		"image ID":              {machine: func(m *attesttest.AMD) { m.Fields.ImageID[0] = 1 }, reason: BadConfiguration, words: "want no ID block"},
		"another ID key":        {policy: func(p *SNP) { p.IDKeys = []string{strings.Repeat("ab", 48)} }, reason: BadConfiguration, words: "ID block of key"},
		"another measurement":   {machine: func(m *attesttest.AMD) { m.Fields.Measurement[47] = 1 }, reason: BadMeasurement, words: "launch_digest"},
		"no value for SNP":      {values: func(rv *measure.ReferenceValues) { rv.Values[0].Platform.TEE = "tdx" }, reason: BadMeasurement, words: "has none for snp"},
		"firmware only":         {values: func(rv *measure.ReferenceValues) { rv.Values[0].Covers = parts[:1] }, reason: BadMeasurement, words: "covers no kernel, initrd, cmdline, root"},
		"all but the root":      {values: func(rv *measure.ReferenceValues) { rv.Values[0].Covers = parts[:4] }, reason: BadMeasurement, words: "covers no root"},
		"all but the firmware":  {values: func(rv *measure.ReferenceValues) { rv.Values[0].Covers = parts[1:] }, reason: BadMeasurement, words: "covers no firmware"},
	} {
		m, p, rv := machine(t)
		if c.machine != nil {
			c.machine(m.AMD)
		}
		if c.policy != nil {
			c.policy(p.SNP)
		}
		if c.values != nil {
			c.values(rv)
		}
		in := about(t, m, rv)
		if c.input != nil {
			c.input(&in)
			if c.reason == BadReportData { // a claim was changed, and not the report
				d, err := evidence.Parse(about(t, m, rv).Document)
				if err != nil {
					t.Fatal(err)
				}
				d.Claims.Epoch++
				if in.Document, err = d.Marshal(); err != nil {
					t.Fatal(err)
				}
			}
		}
		refused(t, name, in, p, c.reason, c.words)
	}
}

// TestTCBOf: the bytes of a TCB_VERSION in each layout (SEV-SNP Firmware ABI, tables 4 and 5), and that each counts on its own.
func TestTCBOf(t *testing.T) {
	for product, want := range map[string]SNPTCB{
		"Milan": {BootLoader: 1, TEE: 2, SNP: 7, Microcode: 8}, "Genoa": {BootLoader: 1, TEE: 2, SNP: 7, Microcode: 8},
		"Turin": {FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 8},
	} {
		got := tcbOf(product, 0x0807060504030201)
		if got != want {
			t.Errorf("%s: %+v, want %+v", product, got, want)
		}
		for _, one := range []SNPTCB{{FMC: 1}, {BootLoader: 1}, {TEE: 1}, {SNP: 1}, {Microcode: 1}} {
			above := SNPTCB{got.FMC + one.FMC, got.BootLoader + one.BootLoader, got.TEE + one.TEE, got.SNP + one.SNP, got.Microcode + one.Microcode}
			if !got.atMost(above) || above.atMost(got) {
				t.Errorf("%s: %+v beside %+v", product, got, above)
			}
		}
	}
}

// vcekOnly is the certificate of a document's endorsements, without the list.
func vcekOnly(t *testing.T, doc []byte) []byte {
	t.Helper()
	d, err := evidence.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, p, _ := machine(t)
	r, err := amd.Verify(d.Report, d.Endorsements, p.SNP.Roots, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return r.Attestation.CertificateChain.VcekCert
}

// TestSNPAccepted: what a policy allows is accepted, so that the refusals above are about what they name.
func TestSNPAccepted(t *testing.T) {
	key := strings.Repeat("0c", 48)
	for name, c := range map[string]struct {
		machine func(*attesttest.AMD)
		policy  func(*SNP)
	}{
		"hyper-threads off":     {func(m *attesttest.AMD) { m.Fields.PlatformInfo &^= platformSMT }, func(p *SNP) { p.AllowSMT = false }},
		"aliases, ignored":      {func(m *attesttest.AMD) { m.Fields.PlatformInfo &^= platformAliasCheck }, func(p *SNP) { p.IgnoreAliasCheck = true }},
		"HOST_DATA as wanted":   {func(m *attesttest.AMD) { m.Fields.HostData[0] = 1 }, func(p *SNP) { p.HostData[0] = 1 }},
		"an ID key on the list": {func(m *attesttest.AMD) { m.Fields.IDKeyDigest = [48]byte(bytes.Repeat([]byte{0xc}, 48)) }, func(p *SNP) { p.IDKeys = []string{key} }},
		"VLEK":                  {func(m *attesttest.AMD) { m.VLEK = true }, func(p *SNP) { p.Signers = []string{"vcek", "vlek"} }},
		"newer major firmware":  {nil, func(p *SNP) { p.Firmware = [2]uint8{0, 99} }},
	} {
		m, p, rv := machine(t)
		if c.machine != nil {
			c.machine(m.AMD)
		}
		c.policy(p.SNP)
		if _, err := Appraise(about(t, m, rv), p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
