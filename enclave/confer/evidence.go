package confer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Platforms that confer-proxy names.
const (
	PlatformSNP = "SEV-SNP"
	PlatformTDX = "TDX"
)

// Evidence is what an enclave says about itself in message 2. Nothing in it has been checked.
type Evidence struct {
	Platform       string
	Attestation    string   // SEV-SNP: a report in base64; TDX: Intel Trust Authority's JWT
	Manifest       string   // JSON: the expected measurements
	ManifestBundle string   // JSON: a Sigstore bundle over the manifest
	Static         [32]byte // the X25519 key that the enclave has just proved to hold
}

// parseEvidence reads a JSON object of exactly the four texts.
func parseEvidence(data []byte) (*Evidence, error) {
	e := new(Evidence)
	left := map[string]*string{"platform": &e.Platform, "attestation": &e.Attestation, "manifest": &e.Manifest, "manifestBundle": &e.ManifestBundle}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("confer: evidence: want a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		name, _ := key.(string)
		to := left[name]
		if err != nil || to == nil {
			return nil, fmt.Errorf("confer: evidence: field %.40q: not known, or twice", name)
		}
		delete(left, name)
		v, err := d.Token()
		text, ok := v.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("confer: evidence: %s: want a string", name)
		}
		*to = text
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("confer: evidence: %w", err)
	}
	if _, err := d.Token(); err != io.EOF || len(left) > 0 {
		return nil, errors.New("confer: evidence: a field is missing, or bytes follow the object")
	}
	return e, nil
}

// Sizes of an SNP report (AMD 56860, table 23), in bytes.
const (
	snpReport  = 1184
	reportData = 0x50
)

// Report returns the raw SNP report (1184 bytes) of evidence for SEV-SNP, after it has shown that the report's
// REPORT_DATA is the key of this session and zeros. Signature, certificates, measurement, TCB and policy are the
// caller's to judge (tally/enclave/appraise/amd), and nothing shows when the report was made.
func (e *Evidence) Report() ([]byte, error) {
	if e.Platform != PlatformSNP {
		return nil, fmt.Errorf("confer: evidence: platform: %.40q has no report, want %s", e.Platform, PlatformSNP)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(e.Attestation)
	if err != nil || len(raw) != snpReport {
		return nil, fmt.Errorf("confer: evidence: attestation: want %d bytes in base64", snpReport)
	}
	want := append(e.Static[:], make([]byte, 32)...)
	if !bytes.Equal(raw[reportData:reportData+64], want) {
		return nil, errors.New("confer: evidence: attestation: the report is not about this session's key")
	}
	return raw, nil
}
