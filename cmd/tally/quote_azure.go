package main

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/hcl"
	"tally/enclave/appraise/tpm"
)

// describeAzure lists the paravisor's report, the processor's in it, and the TPM's quote. A session's evidence has only
// the last.
func describeAzure(a *quoteAnswer, q *quoteFile) error {
	if len(q.endorsements) != 0 {
		r, _, err := hcl.ParseEndorsements(q.endorsements)
		if err != nil {
			return err
		}
		if err := describeSNP(a, r.SNP); err != nil {
			return err
		}
		a.add("runtime data", string(r.Data))
	}
	return describeTPM(a, q.report)
}

// verifyAzure follows the quote to the TPM's key, the key to the paravisor's report, and that to AMD.
func (q *quoteFile) verifyAzure(a *quoteAnswer, roots *amd.Roots, now time.Time) error {
	if len(q.endorsements) == 0 {
		return errors.New("no report of the paravisor: it stands in the key's evidence, not in a session's")
	}
	r, certificates, err := hcl.ParseEndorsements(q.endorsements)
	if err != nil {
		return err
	}
	if q.collateral != nil {
		certificates = q.collateral
	}
	report, err := amd.Verify(r.SNP, certificates, roots, now)
	if err != nil {
		return err
	}
	if [64]byte(report.GetReportData()) != r.ReportData {
		return fmt.Errorf("HCL report: REPORT_DATA is %x, want %x: the runtime data is not what the processor signed", report.GetReportData(), r.ReportData)
	}
	e, err := tpm.Verify(q.report)
	if err != nil {
		return err
	}
	if key, ok := e.Key.(*rsa.PublicKey); !ok || !key.Equal(r.Key) {
		return fmt.Errorf("TPM quote: signed by key %s, which is not the HCLAkPub of the paravisor's report", e.KeyName)
	}
	describeSigner(a, report)
	return nil
}

func describeSigner(a *quoteAnswer, r *amd.Report) {
	a.add("signed by", fmt.Sprintf("%s of a %s, for TCB %#x", r.Signer, r.Product, uint64(r.Certificate)))
	a.add("root", r.Root)
	a.add("revocation", firstOf(r.Revocation, "not checked: no list at hand"))
}

// amdRoots are those of a file, ARK, ASK and perhaps ASVK, or nil.
func amdRoots(roots []*x509.Certificate) (*amd.Roots, error) {
	if roots == nil {
		return nil, nil
	}
	if len(roots) != 2 && len(roots) != 3 {
		return nil, fmt.Errorf("SNP roots: %d certificates, want ARK, ASK and perhaps ASVK", len(roots))
	}
	own := &amd.Roots{ARK: roots[0], ASK: roots[1]}
	if len(roots) == 3 {
		own.ASVK = roots[2]
	}
	return own, nil
}
