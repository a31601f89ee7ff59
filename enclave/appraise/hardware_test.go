package appraise

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

// bare is session evidence without endorsements, as enclaves send it: the key evidence's count. change edits the rest.
func bare(t testing.TB, in Input, change func(*evidence.SessionDocument)) Input {
	t.Helper()
	d, err := evidence.ParseSession(in.Session.Document)
	if err != nil {
		t.Fatal(err)
	}
	d.Endorsements = nil
	if change != nil {
		change(d)
	}
	s := *in.Session
	if s.Document, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	in.Session = &s
	return in
}

// TestBareSession: a session's report is held to everything with the key's certificates as well.
func TestBareSession(t *testing.T) {
	m, p, rv := machine(t)
	q, tp, trv := platform(t)
	z, zp, zrv := azureVM(t)
	p.SNP.Chips = []string{Any}
	p.Freshness, tp.Freshness, zp.Freshness = FreshSession, FreshSession, FreshSession
	for _, c := range []struct {
		a  attester
		p  Policy
		rv *measure.ReferenceValues
	}{{m, p, rv}, {q, tp, trv}, {z, zp, zrv}} {
		if _, err := Appraise(bare(t, withSession(t, about(t, c.a, c.rv), c.a, 3), nil), c.p); err != nil {
			t.Errorf("%s: %v", c.a.Platform(), err)
		}
	}
	key := about(t, m, rv)
	for name, c := range map[string]struct {
		machine func(*attesttest.AMD)
		change  func(*evidence.SessionDocument)
		reason  Reason
	}{
		"another guest in order": {func(m *attesttest.AMD) { m.Fields.ReportID[0]++ }, nil, ""},
		"another measurement":    {func(m *attesttest.AMD) { m.Fields.Measurement[0]++ }, nil, BadMeasurement},
		"debugging":              {func(m *attesttest.AMD) { m.Fields.Policy |= policyDebug }, nil, BadGuestPolicy},
		"VMPL":                   {func(m *attesttest.AMD) { m.Fields.VMPL = 1 }, nil, BadVMPL},
		"another TCB":            {func(m *attesttest.AMD) { m.Fields.ReportedTCB-- }, nil, BadTCB},
		"another chip":           {func(m *attesttest.AMD) { m.Fields.ChipID[0]++ }, nil, BadSignature},
		"the signature":          {nil, func(d *evidence.SessionDocument) { d.Report[0x2a0] ^= 1 }, BadSignature},
		"cut":                    {nil, func(d *evidence.SessionDocument) { d.Report = d.Report[:1183] }, BadSignature},
		"another leaf":           {nil, func(d *evidence.SessionDocument) { d.Path[0][0] ^= 1 }, BadReportData},
	} {
		other, _, _ := machine(t)
		if c.machine != nil {
			c.machine(other.AMD)
		}
		in := bare(t, withSession(t, key, other, 3), c.change)
		if r, err := Appraise(in, p); (err == nil) != (c.reason == "") || r.Reason != c.reason {
			t.Errorf("%s: %q, %v; want %q", name, r.Reason, err, c.reason)
		}
	}
}
