package main

import (
	"errors"
	"fmt"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/svsm"
	"tally/enclave/appraise/tpm"
)

// describeSVSM lists the processor's report, the manifest of the SVSM's TPM, and its quote. A session's evidence has only the
// last.
func describeSVSM(a *quoteAnswer, q *quoteFile) error {
	if len(q.endorsements) != 0 {
		r, _, err := svsm.ParseEndorsements(q.endorsements)
		if err != nil {
			return err
		}
		if err := describeSNP(a, r.SNP); err != nil {
			return err
		}
		a.add("manifest", r.Manifest)
	}
	return describeTPM(a, q.report)
}

// verifySVSM follows the TPM's endorsement key to AMD. It never succeeds: that the quote's key is the same TPM's, no file
// shows.
func (q *quoteFile) verifySVSM(a *quoteAnswer, roots *amd.Roots, now time.Time) error {
	if len(q.endorsements) == 0 {
		return errors.New("no report of the SVSM: it stands in the key's evidence, not in a session's")
	}
	r, certificates, err := svsm.ParseEndorsements(q.endorsements)
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
	e, err := tpm.Verify(q.report)
	if err != nil {
		return err
	}
	nonce, err := svsm.Nonce(e.KeyName)
	if err != nil {
		return err
	}
	if want := r.ReportData(nonce); [64]byte(report.GetReportData()) != want {
		return fmt.Errorf("SVSM: REPORT_DATA is %x, want %x: the manifest, or the quote's key, is not what the report was made for", report.GetReportData(), want)
	}
	describeSigner(a, report)
	return fmt.Errorf("the report is AMD's and about this TPM's endorsement key; that key %s is of the same TPM, a file cannot show: the TPM proves it to a client in a session ('tally connect')", e.KeyName)
}
