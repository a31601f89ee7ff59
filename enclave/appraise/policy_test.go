package appraise

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/intel"
	"tally/enclave/evidence"
)

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

// TestPolicyChecked: a policy that a program builds is held to the rules of one that stands in a file.
func TestPolicyChecked(t *testing.T) {
	_, snp, _ := machine(t)
	_, tdx, _ := platform(t)
	digest := func(n int) string { return strings.Repeat("5a", n) }
	vtpm := Policy{Platforms: []string{"vtpm-unendorsed"}, Freshness: FreshNone, VTPM: &VTPM{PCR0: []string{digest(32)}, PCR2: []string{digest(32)}}}
	for _, p := range []Policy{snp, tdx, vtpm} {
		if err := p.Check(p.Platforms[0]); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		base   Policy
		change func(*Policy)
		words  string
	}{
		"age below zero":    {vtpm, func(p *Policy) { p.Reappraise = -1 }, "reappraise"},
		"age of two days":   {vtpm, func(p *Policy) { p.Reappraise = 48 * time.Hour }, "reappraise"},
		"no TCB":            {snp, func(p *Policy) { p.SNP.TCB = nil }, "tcb"},
		"product":           {snp, func(p *Policy) { p.SNP.TCB = map[string]SNPTCB{"Turin": {SNP: 1}} }, `product "Turin"`},
		"no signers":        {snp, func(p *Policy) { p.SNP.Signers = nil }, "signers: want"},
		"signer":            {snp, func(p *Policy) { p.SNP.Signers = []string{"vcek", "vcak"} }, `signers: "vcak"`},
		"VMPL":              {snp, func(p *Policy) { p.SNP.VMPL = 4 }, "vmpl 4"},
		"upper case":        {snp, func(p *Policy) { p.SNP.Chips = []string{strings.ToUpper(digest(64))} }, "chips: 0"},
		"short":             {snp, func(p *Policy) { p.SNP.Chips = []string{digest(63)} }, "chips: 0"},
		"no hex":            {snp, func(p *Policy) { p.SNP.Chips = []string{strings.Repeat("zz", 64)} }, "chips: 0"},
		"twice":             {snp, func(p *Policy) { p.SNP.Chips = []string{digest(64), digest(64)} }, "chips: 1: twice"},
		"any and one":       {snp, func(p *Policy) { p.SNP.Chips = []string{digest(64), Any} }, "chips: 1"},
		"any attributes":    {tdx, func(p *Policy) { p.TDX.Attributes = []string{Any} }, "attributes: want values"},
		"any features":      {tdx, func(p *Policy) { p.TDX.XFAM = []string{Any} }, "xfam: want values"},
		"no vTPM section":   {vtpm, func(p *Policy) { p.VTPM = nil }, "vtpm: the policy"},
		"any firmware":      {vtpm, func(p *Policy) { p.VTPM.PCR0 = []string{Any} }, "want values"},
		"any drivers":       {vtpm, func(p *Policy) { p.VTPM.PCR2 = []string{Any} }, "want values"},
		"unknown freshness": {vtpm, func(p *Policy) { p.Freshness = "always" }, `freshness "always"`},
		"no beacons":        {vtpm, func(p *Policy) { p.Freshness = FreshKey }, "freshness key"},
	} {
		p := c.base
		if p.SNP != nil {
			s := *p.SNP
			p.SNP = &s
		}
		if p.TDX != nil {
			s := *p.TDX
			p.TDX = &s
		}
		if p.VTPM != nil {
			s := *p.VTPM
			p.VTPM = &s
		}
		c.change(&p)
		if err := p.Check(p.Platforms[0]); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
}
