// Package hcl reads what Azure's confidential VMs have of the hardware: a report by the paravisor that runs between
// hypervisor and guest (the "host compatibility layer") and keeps the guest's TPM. The report names the TPM's attestation
// key, and AMD's processor has signed the name: the paravisor runs in the memory that the processor measured.
//
// # Report
//
// As it lies in NV index 0x01400001 of the TPM; integers are little-endian. Microsoft's "Confidential VM guest attestation design"
// describes it, and so does Azure's reader az-cvm-vtpm, of which the vectors here are.
//
//	0     u32 "HCLA", u32 version (1, 2), u32 size, u32 request (2), u32 status (0), 12 reserved bytes
//	32    the processor's report: 1184 bytes
//	1216  u32 size, u32 version (1), u32 type of the report (2 SNP, 4 TDX), u32 hash (1: SHA-256), u32 length
//	1236  runtime data: JSON of so many bytes, with a list "keys" of JSON Web Keys; HCLAkPub is the attestation key
//	      zeros to the end of the index
//
// The first half of the report's REPORT_DATA is the hash of the runtime data, the second is zero.
//
// # Endorsements
//
// What stands beside a quote of such a TPM in an enclave's evidence (tally/enclave/evidence, SPEC.md; big-endian):
//
//	lp16 report        as above, without the zeros
//	     certificates  to the end: of AMD's key, in the form that platform snp has; may be empty where the client has them
package hcl

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

const (
	// MaxReport is the size in bytes of the largest report read: four times what Azure's index holds.
	MaxReport = 10400

	// MaxCertificates is the size in bytes of the most that may follow a report in endorsements.
	MaxCertificates = 64 << 10

	headerSize = 32
	reportSize = 1184
	dataAt     = headerSize + reportSize
	dataSize   = 20

	typeSNP, typeTDX = 2, 4
	hashSHA256       = 1
)

// A Report is what the paravisor says, by its own word until SNP is verified.
type Report struct {
	Raw        []byte         // without the zeros behind it
	SNP        []byte         // the processor's report, 1184 bytes
	ReportData [64]byte       // which REPORT_DATA must be for the rest to be signed
	Data       []byte         // runtime data, JSON
	Key        *rsa.PublicKey // of the TPM's attestation key, 2048 bits
}

// Parse reads a report, and refuses bytes behind it that are not zero.
func Parse(b []byte) (*Report, error) {
	r, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("HCL report: %w", err)
	}
	return r, nil
}

func parse(b []byte) (*Report, error) {
	if len(b) < dataAt+dataSize || len(b) > MaxReport {
		return nil, fmt.Errorf("%d bytes, want %d to %d", len(b), dataAt+dataSize, MaxReport)
	}
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if string(b[:4]) != "HCLA" || field(4) != 1 && field(4) != 2 {
		return nil, fmt.Errorf("begins with %q, version %d: want \"HCLA\", version 1 or 2", b[:4], field(4))
	}
	if request, status := field(12), field(16); request != 2 || status != 0 {
		return nil, fmt.Errorf("request %d, status %d: want 2 and 0", request, status)
	}
	switch t := field(dataAt + 8); t {
	case typeSNP:
	case typeTDX:
		return nil, errors.New("of a TDX machine, whose quote the paravisor does not have: only SNP is supported")
	default:
		return nil, fmt.Errorf("report type %d: want 2 (SNP)", t)
	}
	if v, h := field(dataAt+4), field(dataAt+12); v != 1 || h != hashSHA256 {
		return nil, fmt.Errorf("runtime data of version %d, hash %d: want 1 and 1 (SHA-256)", v, h)
	}
	n := field(dataAt + 16)
	if size := field(dataAt); n == 0 || n > uint32(len(b)-dataAt-dataSize) || size != n+dataSize || field(8) != dataAt+size {
		return nil, fmt.Errorf("runtime data of %d bytes in %d, of %d left", n, size, len(b)-dataAt)
	}
	end := dataAt + dataSize + int(n)
	if len(bytes.Trim(b[end:], "\x00")) != 0 {
		return nil, errors.New("bytes behind the runtime data")
	}
	r := &Report{Raw: b[:end:end], SNP: b[headerSize:dataAt:dataAt], Data: b[dataAt+dataSize : end : end]}
	sum := sha256.Sum256(r.Data)
	copy(r.ReportData[:], sum[:])
	var err error
	r.Key, err = attestationKey(r.Data)
	return r, err
}

// attestationKey finds HCLAkPub. What else the runtime data says is Azure's to extend.
func attestationKey(data []byte) (key *rsa.PublicKey, err error) {
	var v struct {
		Keys []struct {
			KID string `json:"kid"`
			KTY string `json:"kty"`
			E   string `json:"e"`
			N   string `json:"n"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, errors.New("runtime data: not JSON with a list of keys")
	}
	for _, k := range v.Keys {
		if k.KID != "HCLAkPub" {
			continue
		}
		n, err := base64.RawURLEncoding.Strict().DecodeString(k.N)
		if err != nil || k.KTY != "RSA" || k.E != "AQAB" || len(n) != 256 || n[0] < 0x80 || n[255]&1 == 0 {
			return nil, errors.New("runtime data: HCLAkPub: want an RSA key of 2048 bits with exponent 65537")
		}
		if key != nil {
			return nil, errors.New("runtime data: HCLAkPub twice")
		}
		key = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
	}
	if key == nil {
		return nil, errors.New("runtime data: no key HCLAkPub")
	}
	return key, nil
}

// Endorsements writes a report and certificates.
func Endorsements(r *Report, certificates []byte) ([]byte, error) {
	if len(certificates) > MaxCertificates {
		return nil, fmt.Errorf("HCL endorsements: certificates of %d bytes, want at most %d", len(certificates), MaxCertificates)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(r.Raw)))
	return append(append(b, r.Raw...), certificates...), nil
}

// ParseEndorsements reads what Endorsements writes, and nothing else.
func ParseEndorsements(b []byte) (r *Report, certificates []byte, err error) {
	if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
		return nil, nil, fmt.Errorf("HCL endorsements: %d bytes: want a report's length, the report and certificates", len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	if r, err = Parse(b[2 : 2+n]); err != nil {
		return nil, nil, err
	}
	if certificates = b[2+n:]; len(r.Raw) != n || len(certificates) > MaxCertificates {
		return nil, nil, fmt.Errorf("HCL endorsements: %d bytes behind the runtime data, %d of certificates (at most %d)", n-len(r.Raw), len(certificates), MaxCertificates)
	}
	return r, certificates, nil
}
