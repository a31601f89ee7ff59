package appraise

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/intel"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

var now = time.Unix(1767225600, 0).UTC()

var claims = evidence.Claims{Authority: "default", Static: [32]byte{1, 2}, Epoch: 3, NotBefore: 1767225600, NotAfter: 1767312000}

// An attester is fake hardware.
type attester interface {
	Platform() string
	Attest(t testing.TB, rd [64]byte) (report, endorsements []byte)
}

type amdMachine struct{ *attesttest.AMD }

func (m amdMachine) Attest(t testing.TB, rd [64]byte) (r, e []byte) {
	t.Helper()
	r, e, err := m.AMD.Attest(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return r, e
}

type intelMachine struct{ *attesttest.Intel }

func (m intelMachine) Attest(t testing.TB, rd [64]byte) (r, e []byte) {
	t.Helper()
	r, e, err := m.Intel.Attest(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return r, e
}

// about is the input of key evidence by a.
func about(t testing.TB, a attester, rv *measure.ReferenceValues) Input {
	t.Helper()
	d := &evidence.Document{Platform: a.Platform(), Claims: claims}
	d.Report, d.Endorsements = a.Attest(t, claims.ReportData())
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Input{Document: b, Static: claims.Static, Authority: "default", Reference: rv, Now: now.Add(time.Hour)}
}

// withSession adds evidence about one of n sessions.
func withSession(t testing.TB, in Input, a attester, n int) Input {
	t.Helper()
	s := &Session{HandshakeHash: [32]byte{7}, Nonce: [32]byte{8}}
	leaves := make([][32]byte, n)
	leaves[n/2] = evidence.SessionLeaf(s.HandshakeHash, s.Nonce, in.Static)
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	d, err := tree.Prove(n / 2)
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = a.Platform()
	d.Report, d.Endorsements = a.Attest(t, evidence.SessionReportData(tree.Root()))
	if s.Document, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	in.Session = s
	return in
}

func values(tee string, digests map[string][]byte, covers ...measure.Part) *measure.ReferenceValues {
	rv := &measure.ReferenceValues{Schema: measure.Schema, Name: "minimal", Version: "1"}
	for _, name := range required[tee] {
		rv.Values = append(rv.Values, measure.Value{Platform: measure.Platform{Name: "q", TEE: tee}, Register: name, Digest: digests[name], Covers: covers})
	}
	return rv
}

// oneAMD is made once: its RSA keys are slow.
var oneAMD = sync.OnceValues(func() (*attesttest.AMD, error) {
	m, err := attesttest.NewAMD(now)
	if err == nil {
		err = m.Revoke(now, false)
	}
	return m, err
})

func machine(t testing.TB) (amdMachine, Policy, *measure.ReferenceValues) {
	t.Helper()
	base, err := oneAMD()
	if err != nil {
		t.Fatal(err)
	}
	m := new(attesttest.AMD)
	*m = *base
	m.Fields.Measurement = [48]byte{0xaa, 0xbb}
	p := Policy{Platforms: []string{"snp"}, Freshness: FreshNone, SNP: &SNP{
		TCB: map[string]SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true,
		Chips: []string{fmt.Sprintf("%x", m.Fields.ChipID)}, Roots: m.Roots()}}
	return amdMachine{m}, p, values("snp", map[string][]byte{"launch_digest": slices.Clone(m.Fields.Measurement[:])}, parts...)
}

func platform(t testing.TB) (intelMachine, Policy, *measure.ReferenceValues) {
	t.Helper()
	m, err := attesttest.NewIntel(now)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string][]byte{}
	f := &m.Fields
	f.MRTD[0], f.RTMR[0][0], f.RTMR[1][0], f.RTMR[2][0] = 1, 2, 3, 4
	for i, d := range [][48]byte{f.MRTD, f.RTMR[0], f.RTMR[1], f.RTMR[2], f.RTMR[3]} {
		digests[required["tdx"][i]] = slices.Clone(d[:])
	}
	p := Policy{Platforms: []string{"tdx"}, Freshness: FreshNone, TDX: &TDX{EvaluationNumber: 18, TeeTCBSVN: []byte{7, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		PCESVN: 11, MRSEAM: []string{fmt.Sprintf("%x", f.MRSEAM)}, Attributes: []string{"0000001000000000"}, XFAM: []string{"e702060000000000"}, PPIDs: []string{m.PPID()}, Root: m.Root()}}
	return intelMachine{m}, p, values("tdx", digests, parts...)
}

func TestHardwareAccepted(t *testing.T) {
	snp, snpPolicy, snpValues := machine(t)
	tdx, tdxPolicy, tdxValues := platform(t)
	for _, c := range []struct {
		a  attester
		p  Policy
		rv *measure.ReferenceValues
	}{{snp, snpPolicy, snpValues}, {tdx, tdxPolicy, tdxValues}} {
		for _, fresh := range []Freshness{FreshNone, FreshSession} {
			c.p.Freshness = fresh
			in := about(t, c.a, c.rv)
			if fresh == FreshSession {
				in = withSession(t, in, c.a, 5)
			}
			r, err := Appraise(in, c.p)
			if err != nil || !r.Accepted || r.Insecure {
				t.Fatalf("%s, freshness %s: %v", c.a.Platform(), fresh, err)
			}
			seen := map[string]Status{}
			for _, k := range r.Checks {
				seen[k.Name] = k.Status
				if k.Note != "" || k.Got == "" || k.Status == OK && (k.Want == "" || k.From == "") {
					t.Errorf("check %+v", k)
				}
			}
			for _, name := range []string{"platform", "key", "authority", "signature", "report-data", "revocation", "tcb", "guest-policy", "machine", "configuration", "measurement"} {
				if seen[name] != OK || fresh == FreshSession && !slices.Contains([]string{"platform", "key", "authority"}, name) && seen["session "+name] != OK {
					t.Errorf("%s, freshness %s: check %q is %q, of the session %q", c.a.Platform(), fresh, name, seen[name], seen["session "+name])
				}
			}
			if want := map[Freshness]Status{FreshNone: NotChecked, FreshSession: OK}[fresh]; seen["freshness"] != want {
				t.Errorf("freshness %q, want %q", seen["freshness"], want)
			}
		}
	}
}

func refused(t *testing.T, name string, in Input, p Policy, reason Reason, words string) {
	t.Helper()
	r, err := Appraise(in, p)
	var e *Error
	if !errors.As(err, &e) || r.Accepted || r.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: reason %q, %v; want %q with %q", name, r.Reason, err, reason, words)
		return
	}
	if last := r.Checks[len(r.Checks)-1]; last.Status != Failed || last.Name != string(reason) {
		t.Errorf("%s: last check %+v", name, last)
	}
}

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
		"CXL":                   {machine: func(m *attesttest.AMD) { m.Fields.Policy |= 1 << 21 }, reason: BadGuestPolicy, words: "go-sev-guest"},
		"hyper-threads":         {policy: func(p *SNP) { p.AllowSMT = false }, reason: BadGuestPolicy, words: "hyper-threads off"},
		"trusted I/O":           {machine: func(m *attesttest.AMD) { m.Fields.PlatformInfo |= 1 << 7 }, reason: BadGuestPolicy, words: "go-sev-guest"},
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
		"another chip":          {machine: func(m *attesttest.AMD) { m.Fields.ChipID[0]++ }, reason: BadMachine},
		"a hidden chip":         {machine: func(m *attesttest.AMD) { m.Fields.ChipID = [64]byte{} }, reason: BadMachine},
		"another chip's report": {machine: func(m *attesttest.AMD) { m.Fields.ChipID[0]++ }, policy: func(p *SNP) { p.Chips = []string{Any} }, reason: BadGuestPolicy, words: "CHIP_ID"},
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

func TestTDXRefused(t *testing.T) {
	for name, c := range map[string]struct {
		machine func(*attesttest.Intel)
		policy  func(*TDX)
		values  func(*measure.ReferenceValues)
		input   func(*Input)
		reason  Reason
		words   string
	}{
		"Intel's root":            {policy: func(p *TDX) { p.Root = nil }, reason: BadSignature},
		"platform out of date":    {machine: func(m *attesttest.Intel) { m.Says.Platform = "OutOfDate" }, reason: BadSignature, words: "OutOfDate"},
		"module out of date":      {machine: func(m *attesttest.Intel) { m.Says.Module = "OutOfDate" }, reason: BadSignature},
		"revoked":                 {machine: func(m *attesttest.Intel) { m.RevokePCK() }, reason: BadSignature, words: "revoked"},
		"old statements":          {policy: func(p *TDX) { p.EvaluationNumber = 19 }, reason: BadTCB, words: "tcbEvaluationDataNumber"},
		"TEE_TCB_SVN":             {policy: func(p *TDX) { p.TeeTCBSVN[2] = 7 }, reason: BadTCB, words: "TEE_TCB_SVN"},
		"PCESVN":                  {policy: func(p *TDX) { p.PCESVN = 12 }, reason: BadTCB, words: "PCESVN"},
		"quoting enclave":         {machine: func(m *attesttest.Intel) { m.Fields.QEVendor[0]++ }, reason: BadTCB, words: "QE_VENDOR_ID"},
		"a module of another's":   {machine: func(m *attesttest.Intel) { m.Fields.MRSignerSEAM[0] = 1 }, reason: BadSignature, words: "MRSIGNERSEAM"},
		"another module":          {machine: func(m *attesttest.Intel) { m.Fields.MRSEAM[0] = 1 }, reason: BadTCB, words: "MRSEAM"},
		"debugging":               {machine: func(m *attesttest.Intel) { m.Fields.TDAttributes[0] = 1 }, reason: BadGuestPolicy, words: "want debugging off"},
		"SEPT_VE_DISABLE":         {machine: func(m *attesttest.Intel) { m.Fields.TDAttributes[3] = 0 }, reason: BadGuestPolicy, words: "want SEPT_VE_DISABLE"},
		"other attributes":        {machine: func(m *attesttest.Intel) { m.Fields.TDAttributes[7] = 0x80 }, reason: BadGuestPolicy, words: "TD_ATTRIBUTES"},
		"XFAM":                    {machine: func(m *attesttest.Intel) { m.Fields.XFAM[1] = 0 }, reason: BadGuestPolicy, words: "XFAM"},
		"XFAM of no machine":      {machine: func(m *attesttest.Intel) { m.Fields.XFAM[0] = 0 }, policy: func(p *TDX) { p.XFAM = []string{"0002060000000000"} }, reason: BadGuestPolicy, words: "go-tdx-guest"},
		"another platform":        {policy: func(p *TDX) { p.PPIDs = []string{strings.Repeat("ab", 16)} }, reason: BadMachine},
		"MRCONFIGID":              {machine: func(m *attesttest.Intel) { m.Fields.MRConfigID[47] = 1 }, reason: BadConfiguration, words: "MRCONFIGID"},
		"MROWNER":                 {machine: func(m *attesttest.Intel) { m.Fields.MROwner[47] = 1 }, reason: BadConfiguration, words: "MROWNER "},
		"MROWNERCONFIG":           {machine: func(m *attesttest.Intel) { m.Fields.MROwnerConfig[47] = 1 }, reason: BadConfiguration, words: "MROWNERCONFIG"},
		"MRSERVICETD":             {machine: func(m *attesttest.Intel) { m.Fields.TDX15, m.Fields.MRServiceTD[47] = true, 1 }, reason: BadConfiguration, words: "MRSERVICETD"},
		"MRTD":                    {machine: func(m *attesttest.Intel) { m.Fields.MRTD[47] = 1 }, reason: BadMeasurement, words: "want mrtd 01"},
		"RTMR0":                   {machine: func(m *attesttest.Intel) { m.Fields.RTMR[0][47] = 1 }, reason: BadMeasurement, words: "want rtmr0 02"},
		"RTMR1":                   {machine: func(m *attesttest.Intel) { m.Fields.RTMR[1][47] = 1 }, reason: BadMeasurement, words: "want rtmr1 03"},
		"RTMR2":                   {machine: func(m *attesttest.Intel) { m.Fields.RTMR[2][47] = 1 }, reason: BadMeasurement, words: "want rtmr2 04"},
		"RTMR3":                   {machine: func(m *attesttest.Intel) { m.Fields.RTMR[3][47] = 1 }, reason: BadMeasurement, words: "want rtmr3 00"},
		"no value of RTMR3":       {values: func(rv *measure.ReferenceValues) { rv.Values = rv.Values[:4] }, reason: BadMeasurement, words: "want rtmr3 a value"},
		"registers of two shapes": {values: func(rv *measure.ReferenceValues) { rv.Values[2].Platform.Name = "other" }, reason: BadMeasurement},
		"cover no root": {values: func(rv *measure.ReferenceValues) {
			for i := range rv.Values {
				rv.Values[i].Covers = parts[:4]
			}
		}, reason: BadMeasurement, words: "covers no root"},
		"no collateral": {input: func(in *Input) {
			d, err := evidence.Parse(in.Document)
			if err != nil {
				t.Fatal(err)
			}
			d.Endorsements = nil
			if in.Document, err = d.Marshal(); err != nil {
				t.Fatal(err)
			}
		}, reason: BadTCB, words: "none, want Intel's collateral"},
		"collateral of the client goes first": {input: func(in *Input) { in.Collateral = []byte("{}") }, reason: BadSignature, words: "TDX collateral: schema"},
	} {
		m, p, rv := platform(t)
		if c.machine != nil {
			c.machine(m.Intel)
		}
		if c.policy != nil {
			c.policy(p.TDX)
		}
		if c.values != nil {
			c.values(rv)
		}
		in := about(t, m, rv)
		if c.input != nil {
			c.input(&in)
		}
		refused(t, name, in, p, c.reason, c.words)
	}
}

// TestSessionRefused: session evidence is held to this session, this key, this machine.
func TestSessionRefused(t *testing.T) {
	m, p, rv := machine(t)
	p.Freshness, p.SNP.Chips = FreshSession, []string{Any}
	good := func() Input { return withSession(t, about(t, m, rv), m, 6) }
	other, _, _ := machine(t)
	other.Fields.ReportID[0]++
	for name, c := range map[string]struct {
		in     func() Input
		reason Reason
		words  string
	}{
		"none":              {func() Input { in := good(); in.Session = nil; return in }, BadFreshness, "none"},
		"another handshake": {func() Input { in := good(); in.Session.HandshakeHash[0]++; return in }, BadReportData, "handshake"},
		"another nonce":     {func() Input { in := good(); in.Session.Nonce[0]++; return in }, BadReportData, "handshake"},
		"the key's report": {func() Input {
			in := good()
			s, err := evidence.ParseSession(in.Session.Document)
			if err != nil {
				t.Fatal(err)
			}
			d, err := evidence.Parse(in.Document)
			if err != nil {
				t.Fatal(err)
			}
			s.Report = d.Report
			if in.Session.Document, err = s.Marshal(); err != nil {
				t.Fatal(err)
			}
			return in
		}, BadReportData, "handshake"},
		"another platform": {func() Input {
			in := good()
			i, _, _ := platform(t)
			return withSession(t, in, i, 3)
		}, BadPlatform, "session evidence of tdx"},
	} {
		r, err := Appraise(c.in(), p)
		if err == nil || r.Reason != c.reason || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %q, %v; want %q with %q", name, r.Reason, err, c.reason, c.words)
		}
	}
	// Another measurement that the release has as well is another machine all the same.
	in := about(t, m, rv)
	second := rv.Values[0]
	second.Platform.Name, second.Digest = "second", make([]byte, 48)
	rv.Values = append(rv.Values, second)
	m.Fields.Measurement = [48]byte{}
	if r, err := Appraise(withSession(t, in, m, 2), p); err == nil || r.Reason != BadMeasurement {
		t.Errorf("another measurement: %v", err)
	}
}

// TestEmptyPoliciesRefuse: whatever is left out of a policy, nothing is accepted.
func TestEmptyPoliciesRefuse(t *testing.T) {
	m, p, rv := machine(t)
	q, tp, trv := platform(t)
	snpIn, tdxIn := about(t, m, rv), about(t, q, trv)
	for name, c := range map[string]struct {
		in Input
		p  Policy
	}{
		"nothing":       {snpIn, Policy{}},
		"no section":    {snpIn, Policy{Platforms: []string{"snp"}, Freshness: FreshNone}},
		"empty section": {snpIn, Policy{Platforms: []string{"snp"}, Freshness: FreshNone, SNP: &SNP{}}},
		"only roots":    {snpIn, Policy{Platforms: []string{"snp"}, Freshness: FreshNone, SNP: &SNP{Roots: m.Roots()}}},
		"tdx nothing":   {tdxIn, Policy{Platforms: []string{"tdx"}, Freshness: FreshNone}},
		"tdx empty":     {tdxIn, Policy{Platforms: []string{"tdx"}, Freshness: FreshNone, TDX: &TDX{}}},
		"tdx only root": {tdxIn, Policy{Platforms: []string{"tdx"}, Freshness: FreshNone, TDX: &TDX{Root: q.Root()}}},
	} {
		refused(t, name, c.in, c.p, PolicyEmpty, "")
	}
	// Each field of a good section that has no stated meaning at zero refuses when it is left out.
	lenient := []string{"VMPL", "GuestSVN", "AllowSMT", "IgnoreAliasCheck", "IgnoreCRL", "HostData", "IDKeys", "PCESVN", "MRConfigID", "MROwner", "MROwnerConfig", "MRServiceTD"}
	for i := range reflect.TypeFor[SNP]().NumField() {
		s := *p.SNP
		f := reflect.ValueOf(&s).Elem().Field(i)
		if name := reflect.TypeFor[SNP]().Field(i).Name; !slices.Contains(lenient, name) {
			f.SetZero()
			c := p
			c.SNP = &s
			if r, err := Appraise(snpIn, c); err == nil {
				t.Errorf("snp without %s: accepted %+v", name, r)
			}
		}
	}
	for i := range reflect.TypeFor[TDX]().NumField() {
		s := *tp.TDX
		f := reflect.ValueOf(&s).Elem().Field(i)
		if name := reflect.TypeFor[TDX]().Field(i).Name; !slices.Contains(lenient, name) {
			f.SetZero()
			c := tp
			c.TDX = &s
			if r, err := Appraise(tdxIn, c); err == nil {
				t.Errorf("tdx without %s: accepted %+v", name, r)
			}
		}
	}
}

// TestEveryOptionIsFilled: both libraries take a nil option for "not checked".
func TestEveryOptionIsFilled(t *testing.T) {
	m, p, rv := machine(t)
	a := &appraisal{policy: p, in: about(t, m, rv), doc: new(evidence.Document)}
	report, end := m.Attest(t, [64]byte{})
	r, err := amd.Verify(report, end, p.SNP.Roots, now)
	if err != nil {
		t.Fatal(err)
	}
	// These are floors that zero is a value of, or belong to ID blocks, which are checked by hand.
	notHere := []string{"MinimumGuestSvn", "MinimumBuild", "RequireAuthorKey", "RequireIDBlock", "TrustedAuthorKeys", "TrustedAuthorKeyHashes", "TrustedIDKeys",
		"TrustedIDKeyHashes", "CertTableOptions", "MinimumLaunchMitigationVector", "MinimumCurrentMitigationVector"}
	filled(t, reflect.ValueOf(*a.snpOptions(quoted{}, r)), notHere)
	q, tp, trv := platform(t)
	b := &appraisal{policy: tp, in: about(t, q, trv)}
	raw, collateral := q.Attest(t, [64]byte{})
	v, err := intel.Verify(t.Context(), raw, collateral, tp.TDX.Root, now)
	if err != nil {
		t.Fatal(err)
	}
	o := b.tdxOptions(quoted{}, v)
	filled(t, reflect.ValueOf(o.TdQuoteBodyOptions), nil)
	filled(t, reflect.ValueOf(o.HeaderOptions), []string{"MinimumQeSvn", "MinimumPceSvn"}) // zero in quotes of TDX; the certificate's is checked
}

func filled(t *testing.T, v reflect.Value, except []string) {
	t.Helper()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; !slices.Contains(except, name) && v.Field(i).IsZero() {
			t.Errorf("%s: option %s is left out", v.Type(), name)
		}
	}
}
