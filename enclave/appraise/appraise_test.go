package appraise

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"tally/enclave/evidence"
	"tally/measure"
)

// input is one that the policy {insecure} accepts; change edits the document before it is sealed again.
func input(t testing.TB, change func(*evidence.Document)) Input {
	t.Helper()
	d := &evidence.Document{Platform: "insecure", Claims: evidence.Claims{Authority: "default", Static: [32]byte{1, 2}, Epoch: 3, NotBefore: 1767225600, NotAfter: 1767312000}}
	rd := d.Claims.ReportData()
	d.Report = rd[:]
	if change != nil {
		change(d)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Input{Document: b, Static: [32]byte{1, 2}, Authority: "default", Now: time.Unix(1767225700, 0),
		Reference: &measure.ReferenceValues{Name: "minimal", Version: "1", Values: []measure.Value{{}}}}
}

var insecurePolicy = Policy{Platforms: []string{"insecure"}}

// resign makes the report about the changed claims, as a host can.
func resign(d *evidence.Document) {
	rd := d.Claims.ReportData()
	d.Report = rd[:]
}

func TestAccepts(t *testing.T) {
	r, err := Appraise(input(t, nil), insecurePolicy)
	if err != nil || !r.Accepted || r.Reason != "" || r.Platform != "insecure" || !r.Insecure {
		t.Fatalf("%+v, %v", r, err)
	}
	got := map[string]Status{}
	for _, c := range r.Checks {
		got[c.Name] = c.Status
		if c.Note != InsecureNote || c.Got == "" {
			t.Errorf("%+v", c)
		}
		if c.Status == OK && (c.Want == "" || c.From == "") {
			t.Errorf("a check without its expectation: %+v", c)
		}
	}
	// What insecure evidence cannot prove is said, never called ok.
	for name, want := range map[string]Status{"platform": OK, "key": OK, "authority": OK, "report-data": OK, "signature": NotChecked, "measurement": NotChecked, "freshness": NotChecked} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// TestExactWords: scripts and people look for these.
func TestExactWords(t *testing.T) {
	if InsecureNote != "insecure: the host can forge this" {
		t.Error(InsecureNote)
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*evidence.Document) // of a good document
		edit   func(*Input)
		policy Policy
		reason Reason
		want   string
	}{
		"zero policy":             {nil, nil, Policy{}, PolicyEmpty, "accepts no platform"},
		"other platform":          {nil, nil, Policy{Platforms: []string{"snp", "tdx"}}, BadPlatform, "insecure, want snp or tdx"},
		"snp, named and no more":  {func(d *evidence.Document) { d.Platform = "snp" }, nil, Policy{Platforms: []string{"snp"}, Freshness: FreshNone}, PolicyEmpty, "snp: the policy does not say"},
		"snp, and no freshness":   {func(d *evidence.Document) { d.Platform = "snp" }, nil, Policy{Platforms: []string{"snp"}}, PolicyEmpty, "freshness"},
		"unknown platform, named": {func(d *evidence.Document) { d.Platform = "x9" }, nil, Policy{Platforms: []string{"x9"}, Freshness: FreshNone}, Unsupported, `"x9" is not supported yet`},
		"an endorsed vTPM, named": {func(d *evidence.Document) { d.Platform = "vtpm" }, nil, Policy{Platforms: []string{"vtpm"}, Freshness: FreshNone}, Unsupported, `"vtpm" is not supported yet`},
		"key freshness":           {nil, nil, Policy{Platforms: []string{"insecure"}, Freshness: FreshKey}, PolicyEmpty, "whose checkpoints"},
		"session freshness":       {nil, nil, Policy{Platforms: []string{"insecure"}, Freshness: FreshSession}, BadFreshness, "want evidence about this session"},
		"session evidence is cut": {nil, func(in *Input) { in.Session = &Session{Document: []byte{1}} }, insecurePolicy, BadEvidence, "session evidence"},
		"insecure dressed as snp": {func(d *evidence.Document) { d.Platform = "snp" }, nil, insecurePolicy, BadPlatform, "snp, want insecure"},
		"no document":             {nil, func(in *Input) { in.Document = nil }, insecurePolicy, BadEvidence, "version"},
		"cut document":            {nil, func(in *Input) { in.Document = in.Document[:50] }, insecurePolicy, BadEvidence, "bytes left"},
		"another key":             {nil, func(in *Input) { in.Static[31] ^= 1 }, insecurePolicy, BadKey, "evidence for key"},
		"no key":                  {nil, func(in *Input) { in.Static = [32]byte{} }, insecurePolicy, BadKey, "evidence for key"},
		"another service":         {func(d *evidence.Document) { d.Claims.Authority = "other"; resign(d) }, nil, insecurePolicy, BadAuthority, `"other", want "default"`},
		"no service":              {nil, func(in *Input) { in.Authority = "" }, insecurePolicy, BadAuthority, `want ""`},
		"GPUs, and no policy":     {func(d *evidence.Document) { d.Claims.GPU = []byte("x"); resign(d) }, nil, insecurePolicy, BadGPU, "its section gpu is missing"},
		"ML-KEM key":              {func(d *evidence.Document) { d.Claims.EncapKey = bytes.Repeat([]byte{0xff}, 1184); resign(d) }, nil, insecurePolicy, BadEvidence, "ML-KEM"},
		"endorsed insecurity":     {func(d *evidence.Document) { d.Endorsements = []byte("x") }, nil, insecurePolicy, BadEvidence, "endorsements"},
		"report of other claims":  {func(d *evidence.Document) { d.Claims.Epoch++ }, nil, insecurePolicy, BadReportData, "(from the claims)"},
		"longer report":           {func(d *evidence.Document) { d.Report = append(d.Report, 0) }, nil, insecurePolicy, BadReportData, "want"},
		"no reference values":     {nil, func(in *Input) { in.Reference = nil }, insecurePolicy, BadMeasurement, "no reference values"},
		"empty reference values":  {nil, func(in *Input) { in.Reference = &measure.ReferenceValues{} }, insecurePolicy, BadMeasurement, "no reference values"},
	} {
		in := input(t, c.change)
		if c.edit != nil {
			c.edit(&in)
		}
		r, err := Appraise(in, c.policy)
		var refused *Error
		if !errors.As(err, &refused) || refused.Result != r || r.Accepted || r.Reason != c.reason || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want reason %q with %q", name, r, err, c.reason, c.want)
			continue
		}
		last := r.Checks[len(r.Checks)-1]
		if last.Status != Failed || last.Name != string(c.reason) {
			t.Errorf("%s: last check %+v", name, last)
		}
		for _, check := range r.Checks {
			if r.Insecure != (check.Note == InsecureNote) {
				t.Errorf("%s: note on %+v, insecure %v", name, check, r.Insecure)
			}
		}
		if r.Insecure != strings.Contains(err.Error(), InsecureNote) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostsClockDecidesNothing: the window in the evidence is the host's word.
func TestHostsClockDecidesNothing(t *testing.T) {
	in := input(t, nil)
	in.Now = time.Unix(4e9, 0)
	r, err := Appraise(in, insecurePolicy)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Name == "freshness" && c.Status != NotChecked {
			t.Errorf("%+v", c)
		}
	}
}

// FuzzAppraise: whatever the document, only the exact good one is accepted.
func FuzzAppraise(f *testing.F) {
	in := input(f, nil)
	f.Add(in.Document)
	f.Add(input(f, func(d *evidence.Document) { d.Platform = "snp" }).Document)
	f.Fuzz(func(t *testing.T, doc []byte) {
		try := in
		try.Document = doc
		r, err := Appraise(try, insecurePolicy)
		if (err == nil) != r.Accepted {
			t.Fatal("result and error differ")
		}
		if err == nil {
			d, perr := evidence.Parse(doc)
			if perr != nil || d.Claims.Static != in.Static || d.Claims.ReportData() != [64]byte(d.Report) {
				t.Fatalf("accepted %x", doc)
			}
		}
	})
}
