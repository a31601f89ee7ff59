package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"text/tabwriter"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/intel"
	"tally/enclave/appraise/tpm"
	"tally/enclave/evidence"
	"tally/internal/cli"
)

func quoteCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "quote", Usage: "attestation reports and quotes: what they say, and who signed them",
		Subcommands: []*cli.Command{quoteShowCommand(e), quoteVerifyCommand(e)},
	}
}

const quoteFiles = "FILE is an SNP attestation report (1184 bytes), a TDX quote (version 4 or 5), a TPM quote in the form of tally/enclave/appraise/tpm, or an\n" +
	"enclave's evidence or session evidence, as 'tally connect --evidence FILE --session FILE' saves them: then the report in it is meant.\n"

// The kinds of report.
const (
	kindSNP      = "snp"
	kindTDX      = "tdx"
	kindTPM      = "vtpm-unendorsed"
	kindAzure    = "vtpm-azure"
	kindSVSM     = "vtpm-svsm"
	kindInsecure = "insecure"
)

// A quoteFile is a report or quote, with what came with it.
type quoteFile struct {
	kind                 string
	report, endorsements []byte
	claims               *evidence.Claims          // of an evidence document
	session              *evidence.SessionDocument // of session evidence
	collateral           []byte                    // of the vendor, in place of what came with it; nil: that
}

// readQuote finds out what data, the content of FILE, is; withGPU has looked for NVIDIA's before.
func readQuote(path string, data []byte) (*quoteFile, error) {
	switch {
	case len(data) > intel.MaxQuote:
		return nil, fmt.Errorf("%s: more than %d bytes, and no NVIDIA evidence", path, intel.MaxQuote)
	case len(data) == amd.ReportSize && data[1] == 0:
		return &quoteFile{kind: kindSNP, report: data}, nil
	case isQuote(data):
		return &quoteFile{kind: kindTDX, report: data}, nil
	}
	if d, err := evidence.Parse(data); err == nil {
		return &quoteFile{kind: d.Platform, report: d.Report, endorsements: d.Endorsements, claims: &d.Claims}, knownPlatform(path, d.Platform)
	}
	if d, err := evidence.ParseSession(data); err == nil {
		return &quoteFile{kind: d.Platform, report: d.Report, endorsements: d.Endorsements, session: d}, knownPlatform(path, d.Platform)
	}
	if _, err := tpm.Verify(data); err == nil {
		return &quoteFile{kind: kindTPM, report: data}, nil
	}
	return nil, fmt.Errorf("%s: neither an SNP report nor a TDX quote, a TPM quote that its key signed, an enclave's evidence, or NVIDIA's (a JSON array of devices, or a report) or manifest", path)
}

// knownPlatform refuses evidence whose report nothing here can read.
func knownPlatform(path, platform string) error {
	switch platform {
	case kindSNP, kindTDX, kindTPM, kindAzure, kindSVSM, kindInsecure:
		return nil
	}
	return fmt.Errorf("%s: evidence of platform %q: want snp, tdx, vtpm-azure, vtpm-svsm, vtpm-unendorsed or insecure", path, platform)
}

// A quoteAnswer is tally.quote/v1.
type quoteAnswer struct {
	Schema   string       `json:"schema"`
	Kind     string       `json:"kind"`
	Verified *bool        `json:"verified,omitempty"` // of quote verify
	Reason   string       `json:"reason,omitempty"`
	Note     string       `json:"note,omitempty"`
	Fields   []quoteField `json:"fields"`
}

// A quoteField is one field, by its vendor's name; bytes are in hex, in the order of the report.
type quoteField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (a *quoteAnswer) add(name string, value any) {
	if b, ok := value.([]byte); ok {
		value = hex.EncodeToString(b)
	}
	a.Fields = append(a.Fields, quoteField{name, fmt.Sprint(value)})
}

func printQuote(e *env, a *quoteAnswer) error {
	if e.json {
		return e.printJSON(a)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if a.Note != "" {
			value += "  [" + a.Note + "]"
		}
		fmt.Fprintf(w, "%s\t%s\n", name, value)
	}
	row("kind", a.Kind)
	for _, f := range a.Fields {
		row(f.Name, f.Value)
	}
	switch {
	case a.Verified == nil:
		row("not verified", "this is what the file says; 'tally quote verify' checks who says so")
	case *a.Verified:
		row("VERIFIED", a.Kind)
	default:
		row("NOT VERIFIED", "reason: "+a.Reason)
	}
	return w.Flush()
}

// describe lists what a report says. It verifies nothing.
func (q *quoteFile) describe(a *quoteAnswer) error {
	if c := q.claims; c != nil {
		a.add("authority", c.Authority)
		a.add("key", c.Static[:])
		a.add("key epoch", c.Epoch)
		rd := c.ReportData()
		a.add("claims give REPORTDATA", rd[:])
		if len(c.GPU) != 0 {
			a.add("GPU set", c.GPU)
		}
		if len(c.Beacon) != 0 {
			origin, _, _ := strings.Cut(string(c.Beacon), "\n")
			a.add("beacon", fmt.Sprintf("%d bytes of %.80q", len(c.Beacon), origin))
		}
	}
	if s := q.session; s != nil {
		a.add("session", fmt.Sprintf("leaf %d of %d", s.Index, s.Size))
	}
	switch q.kind {
	case kindSNP:
		return describeSNP(a, q.report)
	case kindTDX:
		return describeTDX(a, q.report)
	case kindTPM:
		return describeTPM(a, q.report)
	case kindAzure:
		return describeAzure(a, q)
	case kindSVSM:
		return describeSVSM(a, q)
	}
	a.add("REPORTDATA", q.report)
	return nil
}

func describeSNP(a *quoteAnswer, raw []byte) error {
	r, err := amd.Parse(raw)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value any
	}{
		{"version", r.GetVersion()}, {"GUEST_SVN", r.GetGuestSvn()}, {"POLICY", fmt.Sprintf("%#x", r.GetPolicy())}, {"FAMILY_ID", r.GetFamilyId()}, {"IMAGE_ID", r.GetImageId()},
		{"VMPL", r.GetVmpl()}, {"CURRENT_TCB", fmt.Sprintf("%#x", r.GetCurrentTcb())}, {"PLATFORM_INFO", fmt.Sprintf("%#x", r.GetPlatformInfo())},
		{"SIGNER_INFO", fmt.Sprintf("%#x", r.GetSignerInfo())}, {"REPORT_DATA", r.GetReportData()}, {"MEASUREMENT", r.GetMeasurement()}, {"HOST_DATA", r.GetHostData()},
		{"ID_KEY_DIGEST", r.GetIdKeyDigest()}, {"AUTHOR_KEY_DIGEST", r.GetAuthorKeyDigest()}, {"REPORT_ID", r.GetReportId()}, {"REPORT_ID_MA", r.GetReportIdMa()},
		{"REPORTED_TCB", fmt.Sprintf("%#x", r.GetReportedTcb())}, {"CPUID", fmt.Sprintf("%#x", r.GetCpuid1EaxFms())}, {"CHIP_ID", r.GetChipId()},
		{"COMMITTED_TCB", fmt.Sprintf("%#x", r.GetCommittedTcb())}, {"LAUNCH_TCB", fmt.Sprintf("%#x", r.GetLaunchTcb())},
		{"CURRENT firmware", fmt.Sprintf("%d.%d.%d", r.GetCurrentMajor(), r.GetCurrentMinor(), r.GetCurrentBuild())},
		{"COMMITTED firmware", fmt.Sprintf("%d.%d.%d", r.GetCommittedMajor(), r.GetCommittedMinor(), r.GetCommittedBuild())},
	} {
		a.add(f.name, f.value)
	}
	return nil
}

func describeTDX(a *quoteAnswer, raw []byte) error {
	b, _, err := intel.Parse(raw)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value any
	}{
		{"version", b.Version}, {"QE_VENDOR_ID", b.QEVendor}, {"TEE_TCB_SVN", b.TeeTCBSVN}, {"MRSEAM", b.MRSEAM}, {"MRSIGNERSEAM", b.MRSignerSEAM},
		{"SEAMATTRIBUTES", b.SEAMAttributes}, {"TDATTRIBUTES", b.TDAttributes}, {"XFAM", b.XFAM}, {"MRTD", b.MRTD}, {"MRCONFIGID", b.MRConfigID}, {"MROWNER", b.MROwner},
		{"MROWNERCONFIG", b.MROwnerConf}, {"RTMR0", b.RTMR[0]}, {"RTMR1", b.RTMR[1]}, {"RTMR2", b.RTMR[2]}, {"RTMR3", b.RTMR[3]}, {"REPORTDATA", b.ReportData},
	} {
		a.add(f.name, f.value)
	}
	if b.MRServiceTD != nil {
		a.add("TEE_TCB_SVN_2", b.TeeTCBSVN2)
		a.add("MRSERVICETD", b.MRServiceTD)
	}
	return nil
}

func describeTPM(a *quoteAnswer, raw []byte) error {
	t, err := tpm.Verify(raw)
	if err != nil {
		return err
	}
	a.add("key name", t.KeyName)
	a.add("qualifying data", t.Qualifying)
	a.add("firmware", fmt.Sprintf("%#x", t.Firmware))
	for i := range uint(24) {
		if v, ok := t.PCR[i]; ok {
			a.add(fmt.Sprintf("pcr%d", i), v[:])
		}
	}
	return nil
}
