package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/enclave/appraise"
	"tally/enclave/attesttest"
	"tally/policy"
)

var (
	chip = strings.Repeat("c7", 64)
	seam = strings.Repeat("5e", 48)
	pcr  = strings.Repeat("3d", 32)
)

const evidenceHead = "schema: tally.policy/v1\nevidence:\n"

func snpText() string {
	return "  snp:\n    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}, {product: Genoa, boot-loader: 9, tee: 0, snp: 23, microcode: 72}]\n" +
		"    firmware: \"1.55\"\n    signers: [vcek]\n    vmpl: 0\n    smt: allow\n    alias-check: require\n    revocation-list: ignore\n    chips: [" + chip + "]\n    host-data: " + pcr + "\n    roots: amd.pem\n"
}

func tdxText() string {
	return "  tdx:\n    tcb-evaluation-number: 18\n    tee-tcb-svn: \"07010600000000000000000000000000\"\n    pce-svn: 11\n    mrseam: [" + seam + "]\n" +
		"    attributes: [\"0000001000000000\"]\n    xfam: [e702060000000000]\n    ppids: [any]\n    mrowner: " + seam + "\n" +
		"    mrconfigid: " + strings.Repeat("c1", 48) + "\n    mrownerconfig: " + strings.Repeat("0c", 48) + "\n    mrservicetd: " + strings.Repeat("5d", 48) + "\n    root: intel.pem\n"
}

func TestEvidence(t *testing.T) {
	amd, err := attesttest.NewAMD(time.Unix(1767225600, 0))
	if err != nil {
		t.Fatal(err)
	}
	intel, err := attesttest.NewIntel(time.Unix(1767225600, 0))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) ([]byte, error) {
		switch name {
		case "amd.pem":
			return amd.RootsPEM(), nil
		case "intel.pem":
			return intel.RootPEM(), nil
		}
		return nil, errors.New("no such file")
	}
	text := evidenceHead + "  platforms: [snp, tdx, vtpm-unendorsed, vtpm-azure, vtpm-svsm]\n  freshness: session\n" + snpText() + tdxText() + "  vtpm: {pcr0: [" + pcr + "], pcr2: [" + pcr + "]}\n" + azureText() + svsmText()
	p, err := policy.Parse([]byte(text), "p", read)
	if err != nil {
		t.Fatal(err)
	}
	e := p.Evidence
	if e.SNP.Roots == nil || !e.SNP.Roots.ASVK.Equal(amd.Roots().ASVK) || !e.TDX.Root.Equal(intel.Root()) {
		t.Error("roots are not those of the files")
	}
	if e.Azure.SNP.Roots == nil {
		t.Error("vtpm-azure: roots are not those of the file")
	}
	if e.SVSM.SNP.Roots == nil {
		t.Error("vtpm-svsm: roots are not those of the file")
	}
	e.SNP.Roots, e.TDX.Root, e.Azure.SNP.Roots, e.SVSM.SNP.Roots = nil, nil, nil, nil
	want := appraise.Policy{Platforms: []string{"snp", "tdx", "vtpm-unendorsed", "vtpm-azure", "vtpm-svsm"}, Freshness: "session",
		SNP: &appraise.SNP{TCB: map[string]appraise.SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}, "Genoa": {BootLoader: 9, SNP: 23, Microcode: 72}},
			Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true, IgnoreCRL: true, Chips: []string{chip}},
		TDX: &appraise.TDX{EvaluationNumber: 18, TeeTCBSVN: []byte{7, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, PCESVN: 11, MRSEAM: []string{seam},
			Attributes: []string{"0000001000000000"}, XFAM: []string{"e702060000000000"}, PPIDs: []string{"any"}},
		VTPM: &appraise.VTPM{PCR0: []string{pcr}, PCR2: []string{pcr}}}
	copy(want.SNP.HostData[:], strings.Repeat("\x3d", 32))
	want.Azure = &appraise.Azure{VTPM: *want.VTPM, Paravisors: []string{seam}, SNP: *want.SNP}
	want.SVSM = &appraise.SVSM{VTPM: *want.VTPM, SVSMs: []string{seam}, SNP: *want.SNP}
	copy(want.TDX.MROwner[:], strings.Repeat("\x5e", 48))
	copy(want.TDX.MRConfigID[:], strings.Repeat("\xc1", 48))
	copy(want.TDX.MROwnerConfig[:], strings.Repeat("\x0c", 48))
	copy(want.TDX.MRServiceTD[:], strings.Repeat("\x5d", 48))
	if diff := cmp.Diff(want, e.Policy); diff != "" {
		t.Error(diff)
	}
}

// azureText has snpText's section within.
func azureText() string {
	return "  vtpm-azure:\n    pcr0: [" + pcr + "]\n    pcr2: [" + pcr + "]\n    paravisors: [" + seam + "]\n" +
		strings.ReplaceAll("\n"+strings.TrimSuffix(snpText(), "\n"), "\n", "\n  ")[1:] + "\n"
}

func svsmText() string {
	return strings.NewReplacer("vtpm-azure:", "vtpm-svsm:", "paravisors:", "svsms:").Replace(azureText())
}

func TestEvidenceErrors(t *testing.T) {
	read := func(string) ([]byte, error) { return []byte("hello"), nil }
	snp, tdx := "  platforms: [snp]\n  freshness: none\n"+snpText(), "  platforms: [tdx]\n  freshness: none\n"+tdxText()
	svsm := "  platforms: [vtpm-svsm]\n  freshness: none\n" + svsmText()
	azure := "  platforms: [vtpm-azure]\n  freshness: none\n" + azureText()
	for name, c := range map[string]struct{ text, from, to, want string }{
		"no freshness":         {snp, "  freshness: none\n", "", "freshness"},
		"other freshness":      {snp, "freshness: none", "freshness: never", `p:4:14: "never": want session or key or none`},
		"judged never again":   {snp, "freshness: none", "freshness: none\n  reappraise: 0s", `"0s": want a time up to 24h0m0s`},
		"judged before":        {snp, "freshness: none", "freshness: none\n  reappraise: -1s", `"-1s": want a time up to`},
		"judged too late":      {snp, "freshness: none", "freshness: none\n  reappraise: 24h1s", `"24h1s": want a time up to`},
		"judged some day":      {snp, "freshness: none", "freshness: none\n  reappraise: daily", `"daily": want a time up to`},
		"firmware below":       {snp, "\"1.55\"", "\"-1.55\"", `firmware "-1.55"`},
		"tcb of -1":            {snp, "microcode: 219", "microcode: -1", "-1: want 0 to 255"},
		"not a platform":       {snp, "[snp]", "[insecure]", `snp: stands here, but "snp" is not among the platforms`},
		"no chips":             {snp, "    chips: [" + chip + "]\n", "", `key "chips" is missing`},
		"no tcb":               {snp, "    vmpl: 0\n", "", `key "vmpl" is missing`},
		"unknown key":          {snp, "vmpl", "vmpls", `unknown key "vmpls"`},
		"unknown product":      {snp, "product: Genoa", "product: Venice", `product "Venice": want one of Genoa, Milan, Turin`},
		"Turin without FMC":    {snp, "product: Genoa", "product: Turin", `product "Turin": want fmc with Turin, and with no other`},
		"Genoa with FMC":       {snp, "product: Genoa", "product: Genoa, fmc: 0", `product "Genoa": want fmc with Turin, and with no other`},
		"FMC of 9 bits":        {snp, "product: Genoa", "product: Turin, fmc: 256", "256: want 0 to 255"},
		"product twice":        {snp, "product: Genoa", "product: Milan", `product "Milan" twice`},
		"microcode of 9 bits":  {snp, "microcode: 219", "microcode: 256", "256: want 0 to 255"},
		"firmware":             {snp, "\"1.55\"", "\"1\"", `firmware "1"`},
		"firmware of words":    {snp, "\"1.55\"", "\"x.55\"", `firmware "x.55"`},
		"firmware of 9 bits":   {snp, "\"1.55\"", "\"1.256\"", `firmware "1.256"`},
		"negative vmpl":        {snp, "vmpl: 0", "vmpl: -1", "-1: want 0 to 3"},
		"capital digits":       {snp, "host-data: " + pcr, "host-data: " + strings.ToUpper(pcr), "want 64 lower-case hex digits"},
		"not digits":           {snp, "host-data: " + pcr, "host-data: " + strings.Repeat("zz", 32), "want 64 lower-case hex digits"},
		"empty platform":       {snp, "[snp]", "[snp, \"\"]", `platform ""`},
		"signer":               {snp, "[vcek]", "[vcak]", `"vcak": want vcek or vlek`},
		"vmpl":                 {snp, "vmpl: 0", "vmpl: 4", "4: want 0 to 3"},
		"smt":                  {snp, "smt: allow", "smt: yes", `p:10:10: "yes": want allow or refuse`},
		"chip":                 {snp, chip, chip[2:], "chips: 0:"},
		"any and a chip":       {snp, chip, "any, " + chip, "any"},
		"host data":            {snp, "host-data: " + pcr, "host-data: \"00\"", "want 64 lower-case hex digits"},
		"roots":                {snp, "", "", "amd.pem: want PEM certificates"},
		"root":                 {tdx, "", "", "intel.pem: want PEM certificates"},
		"evaluation number":    {tdx, "number: 18", "number: 0", "tcb-evaluation-number from 1"},
		"svn":                  {tdx, "\"0701", "\"01", "want 32 lower-case hex digits"},
		"any attributes":       {tdx, "\"0000001000000000\"", "any", `attributes: want values, not "any"`},
		"paravisor":            {azure, "paravisors: [" + seam, "paravisors: [any", `paravisors: want launch digests, not "any"`},
		"no paravisor":         {azure, "    paravisors: [" + seam + "]\n", "", `key "paravisors" is missing`},
		"no SNP by Azure":      {azure, azure[strings.Index(azure, "    snp:\n"):], "", `key "snp" is missing`},
		"guest's report":       {azure, "vmpl: 0", "vmpl: 2", "vmpl 2: want 0"},
		"Azure not named":      {azure, "[vtpm-azure]", "[insecure]", `vtpm-azure: stands here, but "vtpm-azure" is not among the platforms`},
		"any SVSM":             {svsm, "svsms: [" + seam, "svsms: [any", `svsms: want launch digests, not "any"`},
		"no SVSM":              {svsm, "    svsms: [" + seam + "]\n", "", `key "svsms" is missing`},
		"no SNP by SVSM":       {svsm, svsm[strings.Index(svsm, "    snp:\n"):], "", `key "snp" is missing`},
		"above the SVSM":       {svsm, "vmpl: 0", "vmpl: 1", "vmpl 1: want 0, the svsm's"},
		"SVSM not named":       {svsm, "[vtpm-svsm]", "[insecure]", `vtpm-svsm: stands here, but "vtpm-svsm" is not among the platforms`},
		"any firmware by vTPM": {"  platforms: [vtpm-unendorsed]\n  freshness: none\n  vtpm: {pcr0: [any], pcr2: [any]}\n", "", "", "want values"},
	} {
		text := strings.Replace(c.text, c.from, c.to, 1)
		if c.from != "" && text == c.text {
			t.Errorf("%s: nothing changed", name)
		}
		if name != "roots" && name != "root" {
			text = strings.NewReplacer("    roots: amd.pem\n", "", "      roots: amd.pem\n", "", "    root: intel.pem\n", "").Replace(text)
		}
		_, err := policy.Parse([]byte(evidenceHead+text), "p", read)
		if err == nil || !strings.HasPrefix(err.Error(), "p:") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestNamedAndUndescribed: the policy is valid, and rejects what it names.
func TestNamedAndUndescribed(t *testing.T) {
	for _, name := range []string{"snp", "tdx", "vtpm-unendorsed", "vtpm-azure", "vtpm-svsm"} {
		p, err := policy.Parse([]byte(evidenceHead+"  platforms: ["+name+"]\n"), "p", nil)
		if err != nil || p.Evidence.Check(name) == nil {
			t.Errorf("%s: %v, or complete", name, err)
		}
	}
}

// TestReappraise: a day is the longest time, and what is not said is left to the appraisal.
func TestReappraise(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "  reappraise: 24h\n": 24 * time.Hour, "  reappraise: 10m\n": 10 * time.Minute} {
		p, err := policy.Parse([]byte(evidenceHead+"  platforms: [insecure]\n"+text), "p", nil)
		if err != nil || p.Evidence.Reappraise != want {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}

// TestRootFiles: a file of roots holds so many certificates, and nothing else.
func TestRootFiles(t *testing.T) {
	amd, err := attesttest.NewAMD(time.Unix(1767225600, 0))
	if err != nil {
		t.Fatal(err)
	}
	all := string(amd.RootsPEM())
	first := all[:strings.Index(all, "-----END")] + "-----END CERTIFICATE-----\n"
	text := evidenceHead + "  platforms: [snp]\n  freshness: none\n" + snpText()
	for name, c := range map[string]struct{ file, want string }{
		"two":        {first + first, ""},
		"one":        {first, "1 certificates, want 2 to 3"},
		"four":       {first + all, "4 certificates, want 2 to 3"},
		"a key":      {all + strings.ReplaceAll(first, "CERTIFICATE", "PRIVATE KEY"), "want PEM certificates and nothing else"},
		"words":      {all + "hello", "want PEM certificates and nothing else"},
		"an error":   {"", "no such file"},
		"not a cert": {all + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x509"},
	} {
		_, err := policy.Parse([]byte(text), "p", func(string) ([]byte, error) {
			if c.file == "" {
				return nil, errors.New("no such file")
			}
			return []byte(c.file), nil
		})
		if (err == nil) != (c.want == "") || err != nil && (!strings.HasPrefix(err.Error(), "p:") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
