// Package amd verifies SEV-SNP attestation reports: AMD's signature over every byte, the certificate of the
// key that made it, and that certificate's chain to AMD's roots. It works offline and judges nothing that
// the report says: [tally/enclave/appraise] does.
//
// The report is table 23 of the SEV-SNP Firmware ABI Specification (56860); certificates are those of the Key
// Distribution Service (57230). Parsing is go-sev-guest's, and so are single signatures; its doors to the network stay shut here.
package amd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify/trust"
)

// Sizes in bytes: of a report, and of the largest endorsements read.
const (
	ReportSize      = abi.ReportSize
	MaxEndorsements = 64 << 10
)

// CRLGUID names AMD's revocation list (DER) in endorsements. The identifier is this project's.
const CRLGUID = "7a110b5e-5e75-4c12-9d5a-0d2f6b7c4e01"

// Roots are the certificates that a report's chain must end in, in place of AMD's: for tests, and for
// nothing else. Nil means AMD's.
type Roots struct {
	ARK, ASK, ASVK *x509.Certificate // root; signer of VCEKs; signer of VLEKs, or nil
}

// A Report is a report whose signature is AMD's.
type Report struct {
	*sevsnp.Report
	Raw         []byte
	Attestation *sevsnp.Attestation // with the certificate that verified it
	Signer      string              // vcek or vlek
	Product     string              // product line, such as "Milan"
	Certificate kds.TCBVersion      // TCB that the signer's certificate is for
	Root        string              // "AMD", or the SHA-256 of the root that stands in its place
	Revocation  string              // what was seen of revocation: empty when there was no list

	signer      *x509.Certificate
	from, until time.Time // when all that it rests on is valid; the end is not
}

// Parse reads a report of version 2 to 5 and verifies nothing.
func Parse(raw []byte) (*sevsnp.Report, error) {
	if len(raw) != ReportSize {
		return nil, fmt.Errorf("SNP report: %d bytes, want %d", len(raw), ReportSize)
	}
	r, err := abi.ReportToProto(raw)
	if err != nil {
		return nil, fmt.Errorf("SNP report: %w", err)
	}
	if r.GetVersion() < 2 || r.GetVersion() > 5 {
		return nil, fmt.Errorf("SNP report: version %d, want 2 to 5", r.GetVersion())
	}
	again, err := abi.ReportToAbiBytes(r)
	if err != nil || !bytes.Equal(again, raw) {
		return nil, errors.New("SNP report: reserved bytes are not zero")
	}
	return r, nil
}

// Verify checks that raw is a report that AMD hardware signed, with the certificates in endorsements (a
// certificate table as the GHCB specification has it, or one VCEK or VLEK as DER or PEM).
func Verify(raw, endorsements []byte, roots *Roots, now time.Time) (*Report, error) {
	p, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	info, err := abi.ParseSignerInfo(p.GetSignerInfo())
	if err != nil {
		return nil, fmt.Errorf("SNP report: %w", err)
	}
	r := &Report{Report: p, Raw: raw, Root: "AMD"}
	chain, err := certificates(endorsements, info.SigningKey)
	if err != nil {
		return nil, err
	}
	r.Attestation = &sevsnp.Attestation{Report: p, CertificateChain: chain}
	if err := r.identify(info.SigningKey); err != nil {
		return nil, err
	}
	trusted, err := r.roots(roots)
	if err != nil {
		return nil, err
	}
	crl, err := r.revocation(chain.Extras[CRLGUID], trusted, now)
	if err != nil {
		return nil, err
	}
	if err := r.signed(trusted, info.SigningKey, crl, now); err != nil {
		return nil, fmt.Errorf("SNP report: %w", err)
	}
	for _, c := range []*x509.Certificate{trusted.ProductCerts.Ark, trusted.ProductCerts.Ask, trusted.ProductCerts.Asvk} {
		if c != nil {
			r.valid(c.NotBefore, c.NotAfter)
		}
	}
	return r, nil
}

// shut is a door to the network that does not open.
type shut struct{}

func (shut) Get(string) ([]byte, error) { return nil, errors.New("no network here") }
func (shut) GetContext(context.Context, string) ([]byte, error) {
	return nil, errors.New("no network here")
}

// certificates reads endorsements. A lone certificate is the one of the key that signed.
func certificates(b []byte, key abi.ReportSigner) (*sevsnp.CertificateChain, error) {
	if len(b) == 0 || len(b) > MaxEndorsements {
		return nil, fmt.Errorf("SNP endorsements: %d bytes, want 1 to %d", len(b), MaxEndorsements)
	}
	chain := &sevsnp.CertificateChain{Extras: map[string][]byte{}}
	if der := derOf(b); isCertificate(der) {
		if key == abi.VlekReportSigner {
			chain.VlekCert = der
		} else {
			chain.VcekCert = der
		}
		return chain, nil
	}
	entries, err := parseTable(b)
	if err != nil {
		return nil, err
	}
	for guid, cert := range entries {
		switch guid {
		case abi.VcekGUID:
			chain.VcekCert = derOf(cert)
		case abi.VlekGUID:
			chain.VlekCert = derOf(cert)
		default:
			chain.Extras[guid] = cert
		}
	}
	return chain, nil
}

// derOf takes a certificate out of PEM of one block, and leaves everything else as it is. Hosts fill their tables with files that
// their tools fetched, in either form.
func derOf(b []byte) []byte {
	begin := []byte("-----BEGIN ")
	if !bytes.HasPrefix(bytes.TrimSpace(b), begin) || bytes.Count(b, begin) != 1 { // pem.Decode passes over what stands before a block
		return b
	}
	if block, rest := pem.Decode(b); block != nil && block.Type == "CERTIFICATE" && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return b
}

func isCertificate(der []byte) bool {
	_, err := x509.ParseCertificate(der)
	return err == nil
}

// identify reads what the signer's certificate says; signed verifies the certificate.
func (r *Report) identify(key abi.ReportSigner) error {
	der, name := r.Attestation.CertificateChain.VcekCert, "vcek"
	switch key {
	case abi.VcekReportSigner:
	case abi.VlekReportSigner:
		der, name = r.Attestation.CertificateChain.VlekCert, "vlek"
	default:
		return fmt.Errorf("SNP report: signed by key %d, want VCEK (0) or VLEK (1)", key)
	}
	if len(der) == 0 {
		return fmt.Errorf("SNP endorsements: no certificate of the %s that signed", name)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("SNP endorsements: %s: %w", name, err)
	}
	ext, err := extensions(cert, key)
	if err != nil {
		return fmt.Errorf("SNP endorsements: %s: %w", name, err)
	}
	if r.GetCpuid1EaxFms() == 0 { // else the report says of which product it is, and some certificates say it wrongly
		if _, err := kds.ParseProductName(ext.ProductName, key); err != nil {
			return fmt.Errorf("SNP endorsements: %s: %w", name, err)
		}
	}
	r.Signer, r.signer, r.Certificate = name, cert, ext.TCBVersion
	r.valid(cert.NotBefore, cert.NotAfter)
	r.Product = kds.ProductLineOfProductName(ext.ProductName)
	if fms := r.GetCpuid1EaxFms(); fms != 0 && productOf(fms) != r.Product {
		return fmt.Errorf("SNP report: of a %s, its %s is for a %s", productOf(fms), name, r.Product)
	}
	return r.sameChip(name, ext.HWID)
}

// sameChip holds CHIP_ID to a VCEK's certificate, of the length that this has, with zeros after it. A host may have it masked: zeros.
func (r *Report) sameChip(name string, hwid []byte) error {
	id := r.GetChipId()
	if name != "vcek" || bytes.Equal(id, make([]byte, len(id))) {
		return nil
	}
	if len(hwid) > len(id) || !bytes.Equal(id[:len(hwid)], hwid) || !bytes.Equal(id[len(hwid):], make([]byte, len(id)-len(hwid))) {
		return fmt.Errorf("SNP report: of chip %x, its vcek is for chip %x", id, hwid)
	}
	return nil
}

// roots are AMD's for the product, or those that stand in their place.
func (r *Report) roots(own *Roots) (*trust.AMDRootCerts, error) {
	if own == nil {
		t, err := trust.GetDefaultRootCerts(r.Product)
		if err == nil && r.Signer == "vlek" {
			t, err = withASVK(t)
		}
		if err != nil {
			return nil, fmt.Errorf("SNP report: %w", err)
		}
		return t, nil
	}
	if own.ARK == nil || own.ASK == nil {
		return nil, errors.New("SNP roots: want both ARK and ASK")
	}
	sum := sha256.Sum256(own.ARK.Raw)
	r.Root = hex.EncodeToString(sum[:])
	return &trust.AMDRootCerts{ProductLine: r.Product, ProductCerts: &trust.ProductCerts{Ark: own.ARK, Ask: own.ASK, Asvk: own.ASVK}}, nil
}

// revocation takes AMD's list, when there is one. It lists ASKs: a VCEK is superseded by its TCB instead.
func (r *Report) revocation(der []byte, t *trust.AMDRootCerts, now time.Time) (bool, error) {
	if len(der) == 0 {
		return false, nil
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return false, fmt.Errorf("SNP endorsements: revocation list: %w", err)
	}
	if now.Before(crl.ThisUpdate) || !now.Before(crl.NextUpdate) {
		return false, fmt.Errorf("SNP endorsements: revocation list: of %s to %s, now %s", stamp(crl.ThisUpdate), stamp(crl.NextUpdate), stamp(now))
	}
	r.valid(crl.ThisUpdate, crl.NextUpdate)
	t.CRL = crl
	if r.Signer == "vlek" && t.ProductCerts.Asvk != nil {
		for _, bad := range crl.RevokedCertificateEntries {
			if bad.SerialNumber.Cmp(t.ProductCerts.Asvk.SerialNumber) == 0 {
				return false, fmt.Errorf("SNP endorsements: ASVK was revoked at %s", stamp(bad.RevocationTime))
			}
		}
	}
	r.Revocation = "none by the list of " + stamp(crl.ThisUpdate)
	return true, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
