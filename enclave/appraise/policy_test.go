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
	// These are floors that zero is a value of, or belong to ID blocks and platforms, which are checked by hand.
	notHere := []string{"PlatformInfo", "MinimumGuestSvn", "MinimumBuild", "RequireAuthorKey", "RequireIDBlock", "TrustedAuthorKeys", "TrustedAuthorKeyHashes", "TrustedIDKeys",
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

// TestPolicyCheck: each rule of Policy.Check by itself, one change away from a policy that is in order.
func TestPolicyCheck(t *testing.T) {
	_, snp, _ := machine(t)
	_, tdx, _ := platform(t)
	_, azure, _ := azureVM(t)
	hex64, hex96 := strings.Repeat("0a", 32), strings.Repeat("0b", 48)
	vtpm := Policy{Platforms: []string{vtpmPlatform}, Freshness: FreshNone, VTPM: &VTPM{PCR0: []string{hex64}, PCR2: []string{hex64}}}
	for name, c := range map[string]struct {
		policy Policy
		change func(*Policy)
		want   string // "": in order
	}{
		"snp":                    {snp, func(*Policy) {}, ""},
		"tdx":                    {tdx, func(*Policy) {}, ""},
		"azure":                  {azure, func(*Policy) {}, ""},
		"vtpm":                   {vtpm, func(*Policy) {}, ""},
		"a day":                  {snp, func(p *Policy) { p.Reappraise = MaxReappraise }, ""},
		"more than a day":        {snp, func(p *Policy) { p.Reappraise = MaxReappraise + 1 }, "reappraise"},
		"less than no time":      {snp, func(p *Policy) { p.Reappraise = -time.Second }, "reappraise"},
		"freshness":              {snp, func(p *Policy) { p.Freshness = "sessions" }, "freshness"},
		"no product":             {snp, func(p *Policy) { p.SNP.TCB = nil }, "want the lowest TCB"},
		"unknown product":        {snp, func(p *Policy) { p.SNP.TCB = map[string]SNPTCB{"Milan": {}, "Venice": {}} }, `product "Venice"`},
		"a Turin":                {snp, func(p *Policy) { p.SNP.TCB = map[string]SNPTCB{"Milan": {}, "Turin": {FMC: 1}} }, ""},
		"FMC of a Milan":         {snp, func(p *Policy) { p.SNP.TCB = map[string]SNPTCB{"Milan": {FMC: 1}} }, "tcb: Milan: has no FMC"},
		"no signer":              {snp, func(p *Policy) { p.SNP.Signers = nil }, "signers: want"},
		"both signers":           {snp, func(p *Policy) { p.SNP.Signers = []string{"vcek", "vlek"} }, ""},
		"unknown signer":         {snp, func(p *Policy) { p.SNP.Signers = []string{"vcek", "ark"} }, `signers: "ark"`},
		"no firmware":            {snp, func(p *Policy) { p.SNP.Firmware = [2]uint8{} }, "firmware"},
		"VMPL 3":                 {snp, func(p *Policy) { p.SNP.VMPL = 3 }, ""},
		"VMPL 4":                 {snp, func(p *Policy) { p.SNP.VMPL = 4 }, "vmpl 4"},
		"no chip":                {snp, func(p *Policy) { p.SNP.Chips = nil }, "snp: chips: want at least one"},
		"any chip":               {snp, func(p *Policy) { p.SNP.Chips = []string{Any} }, ""},
		"any chip among others":  {snp, func(p *Policy) { p.SNP.Chips = append([]string{Any}, p.SNP.Chips...) }, "snp: chips: 0"},
		"others and any chip":    {snp, func(p *Policy) { p.SNP.Chips = append(p.SNP.Chips[:1:1], Any) }, "snp: chips: 1"},
		"a chip twice":           {snp, func(p *Policy) { p.SNP.Chips = append(p.SNP.Chips[:1:1], p.SNP.Chips[0]) }, "snp: chips: 1: twice"},
		"half a chip":            {snp, func(p *Policy) { p.SNP.Chips = []string{p.SNP.Chips[0][:64]} }, "snp: chips: 0"},
		"a chip in capitals":     {snp, func(p *Policy) { p.SNP.Chips = []string{strings.Repeat("AB", 64)} }, "snp: chips: 0"},
		"no hex":                 {snp, func(p *Policy) { p.SNP.Chips = []string{strings.Repeat("0x", 64)} }, "snp: chips: 0"},
		"an ID key":              {snp, func(p *Policy) { p.SNP.IDKeys = []string{hex64} }, "snp: id-keys: 0"},
		"no number":              {tdx, func(p *Policy) { p.TDX.EvaluationNumber = 0 }, "tcb-evaluation-number"},
		"short SVN":              {tdx, func(p *Policy) { p.TDX.TeeTCBSVN = p.TDX.TeeTCBSVN[:15] }, "tee-tcb-svn"},
		"any module":             {tdx, func(p *Policy) { p.TDX.MRSEAM = []string{Any} }, ""},
		"no module":              {tdx, func(p *Policy) { p.TDX.MRSEAM = nil }, "tdx: mrseam"},
		"any attributes":         {tdx, func(p *Policy) { p.TDX.Attributes = []string{Any} }, "tdx: attributes: want values"},
		"no attributes":          {tdx, func(p *Policy) { p.TDX.Attributes = nil }, "tdx: attributes: want at least one"},
		"any XFAM":               {tdx, func(p *Policy) { p.TDX.XFAM = []string{Any} }, "tdx: xfam: want values"},
		"no XFAM":                {tdx, func(p *Policy) { p.TDX.XFAM = nil }, "tdx: xfam: want at least one"},
		"no platform":            {tdx, func(p *Policy) { p.TDX.PPIDs = nil }, "tdx: ppids"},
		"no VTPM":                {vtpm, func(p *Policy) { p.VTPM = nil }, "vtpm: the policy does not say"},
		"any PCR 0":              {vtpm, func(p *Policy) { p.VTPM.PCR0 = []string{Any} }, "want values"},
		"any PCR 2":              {vtpm, func(p *Policy) { p.VTPM.PCR2 = []string{Any} }, "want values"},
		"no PCR 0":               {vtpm, func(p *Policy) { p.VTPM.PCR0 = nil }, "vtpm: pcr0"},
		"PCR 2 of SHA-384":       {vtpm, func(p *Policy) { p.VTPM.PCR2 = []string{hex96} }, "vtpm: pcr2"},
		"no Azure":               {azure, func(p *Policy) { p.Azure = nil }, "vtpm-azure: the policy does not say"},
		"any paravisor":          {azure, func(p *Policy) { p.Azure.Paravisors = []string{Any} }, "want launch digests"},
		"no paravisor":           {azure, func(p *Policy) { p.Azure.Paravisors = nil }, "vtpm-azure: paravisors"},
		"any PCR 0 on Azure":     {azure, func(p *Policy) { p.Azure.PCR0 = []string{Any} }, "vtpm-azure: pcr0, pcr2: want values"},
		"the guest's own report": {azure, func(p *Policy) { p.Azure.SNP.VMPL = 1 }, "vmpl 1: want 0"},
		"no chip on Azure":       {azure, func(p *Policy) { p.Azure.SNP.Chips = nil }, "vtpm-azure: snp: chips"},
	} {
		p := apart(c.policy)
		c.change(&p)
		err := p.Check(p.Platforms[0])
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// apart is p with sections of its own, for a change.
func apart(p Policy) Policy {
	if p.SNP != nil {
		p.SNP = new(*p.SNP)
	}
	if p.TDX != nil {
		p.TDX = new(*p.TDX)
	}
	if p.VTPM != nil {
		p.VTPM = new(*p.VTPM)
	}
	if p.Azure != nil {
		p.Azure = new(*p.Azure)
	}
	return p
}
