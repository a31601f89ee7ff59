package snp

import (
	"encoding/binary"
	"fmt"
)

// ReportSize is the size in bytes of an attestation report (SEV-SNP Firmware ABI, table 23).
const ReportSize = 0x4a0

// A Report is what of an attestation report a launch explains. Nothing here is verified: the signature
// belongs to those who check evidence.
type Report struct {
	Version     uint32
	Measurement Digest // launch digest
	Signature   uint32 // CPUID 1 EAX of the physical CPU; 0 in reports before version 3, which do not say
}

// ParseReport reads the measurement of an attestation report of version 2 to 5.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fmt.Errorf("attestation report: %d bytes, want %d", len(b), ReportSize)
	}
	r := &Report{Version: binary.LittleEndian.Uint32(b)}
	if r.Version < 2 || r.Version > 5 {
		return nil, fmt.Errorf("attestation report: version %d, want 2 to 5", r.Version)
	}
	copy(r.Measurement[:], b[0x90:])
	if r.Version >= 3 {
		var err error
		// CPUID_FAM_ID, CPUID_MOD_ID and CPUID_STEP: combined family and model, stepping.
		if r.Signature, err = Signature(uint(b[0x188]), uint(b[0x189]), uint(b[0x18a])); err != nil {
			return nil, fmt.Errorf("attestation report: %w", err)
		}
	}
	return r, nil
}
