package gpu

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxEvidence is the size in bytes above which an evidence file is refused.
const MaxEvidence = 2 << 20

// entry is one device in the vendor's serialized evidence, as its SDK writes and reads it. The versions are hints that
// some of its tools add.
type entry struct {
	Arch        Arch   `json:"arch"`
	Certificate []byte `json:"certificate"` // PEM in base64
	Evidence    []byte `json:"evidence"`    // report in base64
	Nonce       string `json:"nonce"`       // hexadecimal
	Version     string `json:"version,omitempty"`
	Driver      string `json:"driver_version,omitempty"`
	VBIOS       string `json:"vbios_version,omitempty"`
}

// ParseEvidence reads a JSON array of devices in the vendor's form, or a report as hexadecimal text with the
// certificate chain given beside it. A nonce in the file must be the one that the report answers.
func ParseEvidence(data, chain []byte) ([]Device, error) {
	if len(data) > MaxEvidence {
		return nil, fmt.Errorf("evidence: %d bytes, want at most %d", len(data), MaxEvidence)
	}
	text := bytes.TrimSpace(data)
	if len(text) > 0 && text[0] == '[' {
		if chain != nil {
			return nil, errors.New("evidence: a JSON file holds its certificates: want none beside it")
		}
		return parseJSON(text)
	}
	report, err := parseHex(data)
	if err != nil {
		return nil, err
	}
	if chain == nil {
		return nil, errors.New("evidence: a bare report needs its certificate chain")
	}
	leaf, _, err := firstCert(bytes.TrimSpace(chain)) // whose name says what device it is; Verify reads all of them
	if err != nil {
		return nil, fmt.Errorf("evidence: certificate chain: certificate 1: %w", err)
	}
	arch, err := archOf(leaf.Subject.CommonName)
	return []Device{{arch, report, chain}}, err
}

// parseHex reads a report as binary, or as hexadecimal digits with white space between. A binary one is taken as it is: its signature
// may well end with a byte that is white space in text.
func parseHex(text []byte) ([]byte, error) {
	if IsReport(text) {
		return text, nil
	}
	digits := bytes.Join(bytes.Fields(text), nil)
	b := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(b, digits); err != nil || !IsReport(b) {
		return nil, errors.New("evidence: want a JSON array of devices or a report, binary or hexadecimal, that starts 11e0")
	}
	return b, nil
}

// IsReport reports whether b starts like a report.
func IsReport(b []byte) bool { return len(b) > requestSize && b[0] == spdmVersion && b[1] == 0xe0 }

// IsEvidence reports whether data looks like what [ParseEvidence] or [ParseShipment] reads, so that a reader of many formats knows
// whom to ask.
func IsEvidence(data []byte) bool {
	text := bytes.TrimSpace(data)
	if len(text) > 0 && text[0] == '[' || IsShipment(data) {
		return true
	}
	_, err := parseHex(data)
	return err == nil
}

func parseJSON(text []byte) (all []Device, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var entries []entry
	if err := d.Decode(&entries); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("evidence: more than one JSON value")
	}
	if len(entries) == 0 || len(entries) > MaxDevices {
		return nil, fmt.Errorf("evidence: %d devices, want 1 to %d", len(entries), MaxDevices)
	}
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("evidence: device %d: %w", i, err)
		}
		all = append(all, Device{e.Arch, e.Evidence, e.Certificate})
	}
	return all, nil
}

// check holds what the file says to what the report says.
func (e *entry) check() error {
	if _, ok := products[e.Arch]; !ok {
		return fmt.Errorf("arch %.40q, want %s, %s or %s", string(e.Arch), Hopper, Blackwell, LS10)
	}
	r, err := ParseReport(e.Evidence)
	if err != nil {
		return err
	}
	if nonce, err := hex.DecodeString(e.Nonce); err != nil || !bytes.Equal(nonce, r.RequestNonce[:]) {
		return refuse(BadNonce, "nonce %.80q, but the report answers %x", e.Nonce, r.RequestNonce)
	}
	for _, v := range []struct {
		name, said string
		get        func() (string, error)
	}{{"driver_version", e.Driver, r.Driver}, {"vbios_version", e.VBIOS, r.VBIOS}} {
		if v.said == "" {
			continue
		}
		if got, err := v.get(); err != nil || got != v.said {
			return fmt.Errorf("%s %.40q, but the report states %q", v.name, v.said, got)
		}
	}
	return nil
}

// archOf returns the family of a chip by the name in its leaf certificate.
func archOf(name string) (Arch, error) {
	chip := chipOf(name)
	for a, chips := range products {
		for _, c := range chips {
			if c == chip {
				return a, nil
			}
		}
	}
	return "", fmt.Errorf("evidence: certificate of %.40q, want one of a GH100, GB100 or LS_10", name)
}
