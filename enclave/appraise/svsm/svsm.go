// Package svsm reads what a guest under an SVSM has of the hardware: the SVSM (Secure VM Service Module) runs in the memory
// that AMD's processor measured, at VMPL 0, and keeps the guest's TPM. It has the processor sign the TPM's endorsement key.
//
// # Report
//
// By AMD's "Secure VM Service Module for SEV-SNP Guests" (58019, 1.00), section 7, the guest names a service and 64 bytes, the
// nonce, and gets the service's manifest and a report of the processor for VMPL 0 with
//
//	REPORT_DATA = SHA-512( nonce || manifest )
//
// The service TPM is c476f1eb-0123-45a5-9641-b4e7dde5bfe3; its manifest, version 0, is the TPMT_PUBLIC of the endorsement key, of the
// TCG's template L-1, as COCONUT-SVSM has it. Linux hands the two over through configfs-tsm (service_provider "svsm").
//
// The nonce of a Tally enclave names the key that signs its quotes; it is the enclave's word, and nothing is concluded from it:
//
//	nonce = SHA-512( lp16("tally/1 svsm vtpm") lp16(TPM2B_NAME of the key, 34 bytes) )
//
// That the key is the TPM's is shown by the TPM alone: it opens a challenge that is encrypted to the endorsement key and
// names the quote's key (package tpm, Challenge), in the client's own session (tally/enclave/channel, PROTOCOL.md, 5).
//
// # Endorsements
//
// What stands beside a quote of such a TPM in an enclave's evidence (tally/enclave/evidence, SPEC.md; big-endian):
//
//	lp16 report        of the processor, 1184 bytes
//	lp16 manifest
//	     certificates  to the end: of AMD's key, in the form that platform snp has; may be empty where the client has them
package svsm

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"tally/enclave/appraise/tpm"
)

// What a guest asks the kernel for.
const (
	Provider        = "svsm"
	ServiceTPM      = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"
	ManifestVersion = "0"
)

const (
	// ReportSize is the size in bytes of an SNP report.
	ReportSize = 1184

	// MaxCertificates is the size in bytes of the most that may follow in endorsements.
	MaxCertificates = 64 << 10
)

// A Report is what the SVSM says, by its own word until SNP is verified.
type Report struct {
	SNP      []byte // the processor's report, 1184 bytes
	Manifest []byte // TPMT_PUBLIC of the TPM's endorsement key
}

// Nonce is what the report for the key of that name (hex, as in tpm.Evidence) is asked for with.
func Nonce(keyName string) ([64]byte, error) {
	const tag = "tally/1 svsm vtpm"
	name, err := hex.DecodeString(keyName)
	if err != nil || len(name) != 34 {
		return [64]byte{}, fmt.Errorf("SVSM: name of a key %.80q: want 34 bytes", keyName)
	}
	b := append(binary.BigEndian.AppendUint16(nil, uint16(len(tag))), tag...)
	return sha512.Sum512(append(binary.BigEndian.AppendUint16(b, uint16(len(name))), name...)), nil
}

// ReportData is what REPORT_DATA must be for the manifest to be signed.
func (r *Report) ReportData(nonce [64]byte) [64]byte {
	return sha512.Sum512(append(nonce[:len(nonce):len(nonce)], r.Manifest...))
}

// check holds the parts to their forms.
func (r *Report) check() error {
	if len(r.SNP) != ReportSize {
		return fmt.Errorf("SVSM: report of %d bytes, want %d", len(r.SNP), ReportSize)
	}
	if _, err := tpm.ReadEK(r.Manifest); err != nil {
		return fmt.Errorf("SVSM: manifest: %w", err)
	}
	return nil
}

// Endorsements writes a report and certificates.
func Endorsements(r *Report, certificates []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if len(certificates) > MaxCertificates {
		return nil, fmt.Errorf("SVSM endorsements: certificates of %d bytes, want at most %d", len(certificates), MaxCertificates)
	}
	b := append(binary.BigEndian.AppendUint16(nil, ReportSize), r.SNP...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Manifest))), r.Manifest...)
	return append(b, certificates...), nil
}

// ParseEndorsements reads what Endorsements writes, and nothing else.
func ParseEndorsements(b []byte) (r *Report, certificates []byte, err error) {
	var parts [2][]byte
	for i, what := range []string{"report", "manifest"} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, nil, fmt.Errorf("SVSM endorsements: %s: cut short", what)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		parts[i], b = b[2:n:n], b[n:]
	}
	r = &Report{SNP: parts[0], Manifest: parts[1]}
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	if len(b) > MaxCertificates {
		return nil, nil, fmt.Errorf("SVSM endorsements: certificates of %d bytes, want at most %d", len(b), MaxCertificates)
	}
	return r, b, nil
}
