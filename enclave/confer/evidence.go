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
	Attestation    string   // SEV-SNP: a report in base64; TDX: Intel Trust Authority's JWT; TDX from our listener: a quote in base64
	Manifest       string   // JSON: the expected measurements
	ManifestBundle string   // JSON: a Sigstore bundle over the manifest
	Static         [32]byte // the X25519 key that the enclave has just proved to hold
}

// Marshal writes the four texts in confer-proxy's order. Static is not among them.
func (e *Evidence) Marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // confer-proxy does not
	if err := enc.Encode(struct {
		Platform       string `json:"platform"`
		Attestation    string `json:"attestation"`
		Manifest       string `json:"manifest"`
		ManifestBundle string `json:"manifestBundle"`
	}{e.Platform, e.Attestation, e.Manifest, e.ManifestBundle}); err != nil {
		return nil, fmt.Errorf("confer: evidence: %w", err)
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(out) > MaxPayload {
		return nil, fmt.Errorf("confer: evidence: %d bytes, want at most %d", len(out), MaxPayload)
	}
	return out, nil
}

// ReportData is what a report about a key carries: the key, and 32 zeros. Nothing in it says what it is for. It is no
// REPORTDATA of package evidence all the same: those are SHA-512 of a tagged text, and one that ends in 32 zeros would
// be a preimage of half of it.
func ReportData(static [32]byte) (data [64]byte) {
	copy(data[:], static[:])
	return data
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

// Sizes of an SNP report (AMD 56860, table 23) and of a TDX quote of version 4 (Intel, TDX DCAP Quoting Library API,
// A.3: a header of 48 bytes, then the TD report's body of 584), in bytes.
const (
	snpReport     = 1184
	snpReportData = 0x50
	tdxQuote      = 48 + 584
	tdxReportData = 48 + 520
	maxQuote      = 16 << 10
)

// Report returns the raw SNP report (1184 bytes) of evidence for SEV-SNP, after it has shown that the report's
// REPORT_DATA is the key of this session and zeros. Signature, certificates, measurement, TCB and policy are the
// caller's to judge (tally/enclave/appraise/amd), and nothing shows when the report was made.
func (e *Evidence) Report() ([]byte, error) {
	if e.Platform != PlatformSNP {
		return nil, fmt.Errorf("confer: evidence: platform: %.40q has no report, want %s", e.Platform, PlatformSNP)
	}
	return e.about("report", snpReport, snpReport, snpReportData)
}

// Quote returns the TDX quote (632 bytes to 16 KiB) of evidence for TDX by a listener of ours, after it has shown that
// the quote's REPORTDATA is the key of this session and zeros. All else is the caller's to judge. confer-proxy has the
// word of Intel Trust Authority in its place, which is refused here.
func (e *Evidence) Quote() ([]byte, error) {
	if e.Platform != PlatformTDX {
		return nil, fmt.Errorf("confer: evidence: platform: %.40q has no quote, want %s", e.Platform, PlatformTDX)
	}
	return e.about("quote", tdxQuote, maxQuote, tdxReportData)
}

// about returns what the hardware signed, of that many bytes, with this session's key at an offset.
func (e *Evidence) about(what string, least, most, offset int) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(e.Attestation)
	if err != nil || len(raw) < least || len(raw) > most {
		return nil, fmt.Errorf("confer: evidence: attestation: want a %s of %d to %d bytes in base64", what, least, most)
	}
	if want := ReportData(e.Static); !bytes.Equal(raw[offset:offset+64], want[:]) {
		return nil, fmt.Errorf("confer: evidence: attestation: the %s is not about this session's key", what)
	}
	return raw, nil
}
