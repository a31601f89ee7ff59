package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/intel"
	"tally/enclave/appraise/tpm"
)

// vendors is what the vendor says about the report: the caller's, or what came with it.
func (q *quoteFile) vendors() []byte {
	if q.collateral != nil {
		return q.collateral
	}
	return q.endorsements
}

// verify checks who signed the report, and adds what that shows.
func (q *quoteFile) verify(ctx context.Context, a *quoteAnswer, roots []*x509.Certificate, now time.Time) error {
	switch q.kind {
	case kindSNP, kindAzure, kindSVSM:
		own, err := amdRoots(roots)
		if err != nil {
			return err
		}
		return q.verifyAMD(a, own, now)
	case kindTDX:
		return q.verifyTDX(ctx, a, roots, now)
	case kindTPM:
		_, err := tpm.Verify(q.report)
		return err
	}
	return errors.New("insecure evidence: nothing signed it")
}

// verifyAMD follows a report to AMD's root, or a TPM's quote through one.
func (q *quoteFile) verifyAMD(a *quoteAnswer, roots *amd.Roots, now time.Time) error {
	switch q.kind {
	case kindAzure:
		return q.verifyAzure(a, roots, now)
	case kindSVSM:
		return q.verifySVSM(a, roots, now)
	}
	r, err := amd.Verify(q.report, q.vendors(), roots, now)
	if err != nil {
		return err
	}
	describeSigner(a, r)
	return nil
}

func (q *quoteFile) verifyTDX(ctx context.Context, a *quoteAnswer, roots []*x509.Certificate, now time.Time) error {
	var own *x509.Certificate
	if roots != nil {
		own = roots[0]
	}
	r, err := intel.Verify(ctx, q.report, q.vendors(), own, now)
	if err != nil {
		return err
	}
	a.add("signed by", fmt.Sprintf("platform of FMSPC %s, PPID %s, PCESVN %d", r.PCK.FMSPC, r.PCK.PPID, r.PCK.TCB.PCESvn))
	a.add("root", r.Root)
	if c := r.Collateral; c != nil {
		a.add("TCB status", fmt.Sprintf("%s by data number %d of %s, next update %s", c.Status, c.EvaluationNumber, c.Issued.UTC().Format(time.RFC3339), c.NextUpdate.UTC().Format(time.RFC3339)))
		return nil
	}
	a.add("TCB status", "not checked: no collateral at hand")
	return nil
}

// readRoots reads a PEM file.
func readRoots(path string) (all []*x509.Certificate, err error) {
	data, err := readAtMost(path, 1<<20)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: want certificates in PEM", path)
	}
	return all, nil
}
