package amd

import (
	"bytes"
	"fmt"

	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
)

// Where a report has what its guest chose, and the signature (SEV-SNP Firmware ABI, table 23).
const (
	reportDataAt, reportDataEnd = 0x50, 0x90
	signatureAt                 = 0x2a0
)

// Next verifies another report of the same guest and the same hardware as r, whose certificates were verified
// with r: only the signature is left. ok is false where the reports differ in anything but REPORT_DATA and the
// signature; Verify has to look at the certificates then.
func (r *Report) Next(raw []byte) (next *Report, ok bool, err error) {
	if len(raw) != ReportSize || !bytes.Equal(raw[:reportDataAt], r.Raw[:reportDataAt]) || !bytes.Equal(raw[reportDataEnd:signatureAt], r.Raw[reportDataEnd:signatureAt]) {
		return nil, false, nil
	}
	p, err := Parse(raw)
	if err != nil {
		return nil, true, err
	}
	if err := verify.SnpReportSignature(raw, r.signer); err != nil {
		return nil, true, fmt.Errorf("SNP report: %w", err)
	}
	out := *r
	out.Report, out.Raw = p, raw
	out.Attestation = &sevsnp.Attestation{Report: p, CertificateChain: r.Attestation.CertificateChain, Product: r.Attestation.Product}
	return &out, true, nil
}
