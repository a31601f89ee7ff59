package appraise

import (
	"strings"
	"testing"

	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

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

// TestTDX15Accepted: a quote of version 5 has fields that the second opinion does not know.
func TestTDX15Accepted(t *testing.T) {
	m, p, rv := platform(t)
	m.Fields.TDX15 = true
	if _, err := Appraise(about(t, m, rv), p); err != nil {
		t.Error(err)
	}
}
