package appraise

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tally/enclave/appraise/svsm"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

type svsmMachine struct{ *attesttest.SVSM }

func (m svsmMachine) Attest(t testing.TB, rd [64]byte) (r, e []byte) {
	t.Helper()
	r, e, err := m.SVSM.Attest(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return r, e
}

// svsmVM is a guest under an SVSM in good order, a policy that accepts it, and the release that runs there.
func svsmVM(t testing.TB) (svsmMachine, Policy, *measure.ReferenceValues) {
	t.Helper()
	m, p, _ := machine(t)
	v, err := attesttest.NewSVSM(m.AMD)
	if err != nil {
		t.Fatal(err)
	}
	v.PCR[0], v.PCR[2], v.PCR[4], v.PCR[11] = [32]byte{1}, [32]byte{2}, [32]byte{4}, [32]byte{11}
	digests := map[string][]byte{}
	for i, pcr := range v.PCR {
		digests[fmt.Sprintf("pcr%d", i)] = pcr[:]
	}
	rv := values("vtpm", digests, measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot)
	hexOf := func(i uint) []string { pcr := v.PCR[i]; return []string{hex.EncodeToString(pcr[:])} }
	p = Policy{Platforms: []string{"vtpm-svsm"}, Freshness: FreshNone, SVSM: &SVSM{SNP: *p.SNP, VTPM: VTPM{PCR0: hexOf(0), PCR2: hexOf(2)},
		SVSMs: []string{hex.EncodeToString(m.Fields.Measurement[:])}}}
	return svsmMachine{v}, p, rv
}

// challenged adds what the TPM of m makes of a challenge about the evidence in in.
func challenged(t testing.TB, in Input, m svsmMachine) Input {
	t.Helper()
	c, err := NewChallenge(rand.Reader, in.Document)
	if err != nil {
		t.Fatal(err)
	}
	in.Credential = &Credential{Challenge: c}
	if in.Credential.Answer, err = m.Activate(t.Context(), c.Blob); err != nil {
		in.Credential = &Credential{Challenge: c, Missing: err.Error()}
	}
	return in
}

func TestSVSM(t *testing.T) {
	m, p, rv := svsmVM(t)
	in := about(t, m, rv)
	refused(t, "no challenge", in, p, BadSignature, "to the client that asks")
	in = challenged(t, in, m)
	r, err := Appraise(in, p)
	if err != nil || r.Insecure {
		t.Fatalf("%v; insecure: %v", err, r.Insecure)
	}
	var said, shown bool
	for _, c := range r.Checks {
		said = said || c.Name == "svsm" && c.Status == NotChecked && strings.Contains(c.Got, "could sign what it likes")
		shown = shown || c.Status == OK && strings.Contains(c.Want, "challenge")
	}
	if !said || !shown {
		t.Errorf("a line says that the SVSM is trusted: %v, that the TPM has both keys: %v", said, shown)
	}
	for _, has := range []measure.Platform{{Name: "s", TEE: "snp", SVSM: "svsm.bin"}, {Name: "i", TEE: "snp", IGVM: "svsm.igvm"}} {
		in := in
		with := *rv
		with.Values = append(slices.Clone(rv.Values), measure.Value{Platform: has, Register: "launch_digest", Digest: m.AMD.Fields.Measurement[:]})
		in.Reference = &with
		if _, err := Appraise(in, p); err != nil {
			t.Errorf("a release that measured it as %s: %v", has.Name, err)
		}
	}
	p.Freshness = FreshSession
	if _, err := Appraise(withSession(t, in, m, 6), p); err != nil {
		t.Error("session:", err)
	}
	another, _, _ := svsmVM(t)
	another.PCR = m.PCR
	if r, err := Appraise(withSession(t, in, another, 6), p); err == nil || r.Reason != BadMachine {
		t.Errorf("the TPM of another guest on the same machine: %v", err)
	}
	p.Freshness = FreshNone
	pending, err := Begin(in, p)
	if err != nil || pending.Wants != (Wants{Credential: true}) {
		t.Fatalf("%+v, %v", pending, err)
	}
	if r, err := pending.Finish(nil, nil, nil); err == nil || r.Accepted {
		t.Error("accepted without the answer that it wants")
	}
	p.SVSM.SNP.Roots = nil
	refused(t, "AMD's roots", in, p, BadSignature, "")
}

// TestSVSMForged: whoever runs a guest of his own under the SVSM has it vouch for its TPM, and names a key of his own that
// signs any PCRs.
func TestSVSMForged(t *testing.T) {
	m, p, rv := svsmVM(t)
	forger, _, _ := svsmVM(t)
	forger.PCR, forger.AMD = m.PCR, m.AMD
	forger.Manifest = func([]byte) []byte { return m.Endorsement() }
	in := about(t, forger, rv)
	honest := challenged(t, about(t, m, rv), m)
	for name, c := range map[string]*Credential{
		"the forger's answer":       challenged(t, in, forger).Credential,
		"the real TPM's answer":     challenged(t, in, m).Credential,
		"an answer about other key": honest.Credential,
		"no challenge":              {Answer: make([]byte, 32)},
		"nothing":                   nil,
	} {
		in := in
		in.Credential = c
		refused(t, name, in, p, BadSignature, "challenge")
	}
	moved := honest
	moved.Credential = otherEK(t, honest.Credential)
	refused(t, "another endorsement key", moved, p, BadSignature, "about other keys")
	for name, open := range map[string]func(c, made []byte) []byte{
		"zeros":    func(_, made []byte) []byte { return make([]byte, len(made)) },
		"nothing":  func(_, _ []byte) []byte { return nil },
		"cut":      func(_, made []byte) []byte { return made[:31] },
		"longer":   func(_, made []byte) []byte { return append(made, 0) },
		"one bit":  func(_, made []byte) []byte { made[31] ^= 1; return made },
		"an older": func(_, _ []byte) []byte { return honest.Credential.Answer },
	} {
		m.Open = open
		refused(t, name, challenged(t, about(t, m, rv), m), p, BadSignature, "challenge")
	}
}

// otherEK is an answer that is right, to a challenge for another TPM that holds the key as well.
func otherEK(t testing.TB, c *Credential) *Credential {
	t.Helper()
	other := *c.Challenge
	other.EK = slices.Clone(other.EK)
	other.EK[100] ^= 1
	return &Credential{Challenge: &other, Answer: c.Answer}
}

func TestSVSMRefused(t *testing.T) {
	other, _, _ := svsmVM(t)
	ek := func(i int, v byte) func(b []byte) []byte {
		return func(b []byte) []byte { b = slices.Clone(b); b[i] = v; return b }
	}
	manifest := func(change func([]byte) []byte) func(*evidence.Document) {
		return func(d *evidence.Document) {
			r, certs, err := svsm.ParseEndorsements(d.Endorsements)
			if err != nil {
				t.Fatal(err)
			}
			d.Endorsements = slices.Concat([]byte{4, 0xa0}, r.SNP, []byte{1, 0x3a}, change(r.Manifest), certs)
		}
	}
	for name, c := range map[string]struct {
		machine func(svsmMachine)
		policy  func(*SVSM)
		values  func(*measure.ReferenceValues)
		edit    func(*evidence.Document)
		reason  Reason
		words   string
	}{
		"an SVSM not listed":       {machine: func(m svsmMachine) { m.AMD.Fields.Measurement[0]++ }, reason: BadMeasurement, words: "svsm"},
		"above the SVSM":           {machine: func(m svsmMachine) { m.AMD.Fields.VMPL = 2 }, reason: BadVMPL},
		"debugging":                {machine: func(m svsmMachine) { m.AMD.Fields.Policy |= policyDebug }, reason: BadGuestPolicy},
		"TCB":                      {policy: func(p *SVSM) { p.SNP.TCB["Milan"] = SNPTCB{SNP: 25} }, reason: BadTCB},
		"chip":                     {policy: func(p *SVSM) { p.SNP.Chips = []string{strings.Repeat("00", 64)} }, reason: BadMachine},
		"another nonce":            {machine: func(m svsmMachine) { m.Nonce = func(n [64]byte) [64]byte { n[0]++; return n } }, reason: BadReportData, words: "manifest of the SVSM"},
		"a key that was not named": {edit: func(d *evidence.Document) { d.Report, _ = other.Attest(t, claims.ReportData()) }, reason: BadReportData, words: "manifest of the SVSM"},
		"another guest's report":   {edit: func(d *evidence.Document) { _, d.Endorsements = other.Attest(t, claims.ReportData()) }, reason: BadReportData, words: "manifest of the SVSM"},
		"a manifest not signed":    {edit: manifest(func([]byte) []byte { return other.Endorsement() }), reason: BadReportData, words: "manifest of the SVSM"},
		"a key for more":           {edit: manifest(ek(5, 7)), reason: BadEvidence, words: "template"},
		"an even modulus":          {edit: manifest(ek(313, 2)), reason: BadEvidence, words: "modulus"},
		"no endorsements":          {edit: func(d *evidence.Document) { d.Endorsements = nil }, reason: BadEvidence, words: "cut short"},
		"no certificates": {edit: func(d *evidence.Document) {
			d.Endorsements = d.Endorsements[:2+1184+2+314]
		}, reason: BadEvidence, words: "none is at hand"},
		"an RSA key": {edit: func(d *evidence.Document) {
			z, _, _ := azureVM(t)
			d.Report, _ = z.Attest(t, claims.ReportData())
		}, reason: BadEvidence, words: "not ECC"},
		"cut":             {edit: func(d *evidence.Document) { d.Report = d.Report[:len(d.Report)-1] }, reason: BadSignature, words: "PCRs"},
		"other claims":    {edit: func(d *evidence.Document) { d.Claims.Epoch++ }, reason: BadReportData, words: "qualifying data"},
		"firmware":        {policy: func(p *SVSM) { p.PCR0 = p.PCR2 }, reason: BadMeasurement, words: "pcr0"},
		"drivers":         {policy: func(p *SVSM) { p.PCR2 = p.PCR0 }, reason: BadMeasurement, words: "pcr2"},
		"another kernel":  {machine: func(m svsmMachine) { m.PCR[4] = [32]byte{5} }, reason: BadMeasurement, words: "pcr4"},
		"a credential":    {machine: func(m svsmMachine) { m.PCR[12] = [32]byte{5} }, reason: BadMeasurement, words: "pcr12"},
		"only SNP values": {values: func(rv *measure.ReferenceValues) { rv.Values[0].Platform.TEE = "snp" }, reason: BadMeasurement},
		"a guest without an SVSM": {values: func(rv *measure.ReferenceValues) {
			m, _, _ := machine(t)
			rv.Values = append(rv.Values, measure.Value{Platform: measure.Platform{Name: "plain", TEE: "snp"}, Register: "launch_digest", Digest: m.Fields.Measurement[:]})
		}, reason: BadMeasurement, words: "of platform plain, which has none"},
		"no root": {values: clearCovers, reason: BadMeasurement, words: "covers no kernel"},
	} {
		m, p, rv := svsmVM(t)
		if c.machine != nil {
			c.machine(m)
		}
		if c.policy != nil {
			c.policy(p.SVSM)
		}
		if c.values != nil {
			c.values(rv)
		}
		in := challenged(t, about(t, m, rv), m)
		if c.edit != nil {
			in.Document = edited(t, in, c.edit)
		}
		refused(t, name, in, p, c.reason, c.words)
	}
}

func TestSVSMPolicy(t *testing.T) {
	m, good, rv := svsmVM(t)
	in := challenged(t, about(t, m, rv), m)
	for name, change := range map[string]func(p *Policy){
		"nothing":      func(p *Policy) { p.SVSM = nil },
		"zero":         func(p *Policy) { p.SVSM = new(SVSM) },
		"no SVSM":      func(p *Policy) { p.SVSM.SVSMs = nil },
		"any SVSM":     func(p *Policy) { p.SVSM.SVSMs = []string{Any} },
		"no firmware":  func(p *Policy) { p.SVSM.PCR0 = nil },
		"any firmware": func(p *Policy) { p.SVSM.PCR2 = []string{Any} },
		"no SNP":       func(p *Policy) { p.SVSM.SNP = SNP{} },
		"VMPL":         func(p *Policy) { p.SVSM.SNP.VMPL = 2 },
		"freshness":    func(p *Policy) { p.Freshness = "" },
	} {
		p, v := good, *good.SVSM
		p.SVSM = &v
		change(&p)
		refused(t, name, in, p, PolicyEmpty, "")
	}
	p := good
	p.Platforms = []string{"vtpm-azure", "snp"}
	refused(t, "another platform", in, p, BadPlatform, "vtpm-svsm")
	for name, b := range map[string][]byte{"nothing": nil, "another platform": about(t, mustSNP(t), rv).Document, "cut": in.Document[:len(in.Document)-1]} {
		if c, err := NewChallenge(rand.Reader, b); err == nil {
			t.Errorf("%s: challenge of %d bytes", name, len(c.Blob))
		}
	}
	if _, err := NewChallenge(bytes.NewReader(make([]byte, 40)), in.Document); err == nil {
		t.Error("a challenge without randomness")
	}
}

func mustSNP(t testing.TB) amdMachine {
	t.Helper()
	m, _, _ := machine(t)
	return m
}
