package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	snptest "github.com/google/go-sev-guest/verify/testdata"
	tdxtest "github.com/google/go-tdx-guest/testing/testdata"
	"github.com/rogpeppe/go-internal/testscript"

	"tally/enclave/attesttest"
	"tally/enclave/evidence"
)

// mkquotesCmd is `mkquotes DIR`: a real SNP report with its VCEK, real TDX quotes, and what fake hardware signs,
// with its roots and collateral. The fakes' certificates begin now.
func mkquotesCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkquotes DIR")
	}
	put := func(name string, data []byte) {
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), name), data, 0o600))
	}
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o700))
	put("real.snp", snptest.AttestationBytes)
	put("real.vcek", snptest.VcekBytes)
	put("real4.tdx", tdxtest.RawQuote[:4935]) // the module's authors put a line of text after it
	put("real5.tdx", tdxtest.RawQuoteV5)
	claims := evidence.Claims{Authority: "default", Static: [32]byte{1}, Epoch: 1, NotBefore: 1, NotAfter: 2}
	document := func(platform string, report, endorsements []byte) []byte {
		b, err := (&evidence.Document{Platform: platform, Claims: claims, Report: report, Endorsements: endorsements}).Marshal()
		ts.Check(err)
		return b
	}
	now := time.Now().Truncate(time.Second)
	amd, err := attesttest.NewAMD(now)
	ts.Check(err)
	report, certs, err := amd.Attest(context.Background(), claims.ReportData())
	ts.Check(err)
	put("fake.snp", report)
	put("fake.certs", certs)
	put("fake-amd.pem", amd.RootsPEM())
	put("evidence.snp", document("snp", report, certs))
	tree, err := evidence.NewTree([][32]byte{{1}, {2}, {3}})
	ts.Check(err)
	session, err := tree.Prove(2)
	ts.Check(err)
	session.Platform = "snp"
	session.Report, err = amd.Report(evidence.SessionReportData(tree.Root()))
	ts.Check(err)
	about, err := session.Marshal()
	ts.Check(err)
	put("session.snp", about)
	beacon := claims
	beacon.Beacon = []byte("log.example\n1\nAAAA\n")
	dated, err := (&evidence.Document{Platform: "snp", Claims: beacon, Report: report}).Marshal()
	ts.Check(err)
	put("beacon.snp", dated)
	azure, err := attesttest.NewAzure(amd)
	ts.Check(err)
	quoted, chain, err := azure.Attest(context.Background(), claims.ReportData())
	ts.Check(err)
	put("evidence.azure", document("vtpm-azure", quoted, chain))
	svsm, err := attesttest.NewSVSM(amd)
	ts.Check(err)
	quoted, chain, err = svsm.Attest(context.Background(), claims.ReportData())
	ts.Check(err)
	put("evidence.svsm", document("vtpm-svsm", quoted, chain))
	intel, err := attesttest.NewIntel(now)
	ts.Check(err)
	quote, collateral, err := intel.Attest(context.Background(), claims.ReportData())
	ts.Check(err)
	put("fake.tdx", quote)
	put("fake.collateral", collateral)
	put("fake-intel.pem", intel.RootPEM())
	intel.Says.Platform = "OutOfDate"
	collateral, err = intel.Collateral()
	ts.Check(err)
	put("outofdate.collateral", collateral)
	rd := claims.ReportData()
	put("evidence.insecure", document("insecure", rd[:], nil))
}
