package attesttest

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"tally/enclave/appraise/hcl"
	"tally/enclave/appraise/tpm"
)

// An Azure is a confidential VM on Azure as its clients see it: a paravisor on a fake AMD machine that keeps a TPM. The
// paravisor's launch digest is AMD.Fields.Measurement.
type Azure struct {
	AMD *AMD
	PCR map[uint][32]byte

	Data func(string) string        // changes the runtime data before it is signed; nil: nothing
	Key  func(public []byte) []byte // changes the TPMT_PUBLIC; nil: nothing

	key *rsa.PrivateKey
}

// NewAzure makes one over m with a key of its own; its PCRs are zero.
func NewAzure(m *AMD) (*Azure, error) {
	key, err := rsa.GenerateKey(random, 2048)
	if err != nil {
		return nil, fmt.Errorf("attesttest: %w", err)
	}
	z := &Azure{AMD: m, PCR: map[uint][32]byte{}, key: key}
	for _, i := range tpm.PCRs() {
		z.PCR[i] = [32]byte{}
	}
	return z, nil
}

// Platform returns "vtpm-azure".
func (*Azure) Platform() string { return "vtpm-azure" }

// Report is the paravisor's report as it lies in the TPM, and the certificates of AMD's key.
func (z *Azure) Report() (report, certificates []byte, err error) {
	data := fmt.Sprintf(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}],"vm-configuration":{"secure-boot":true}}`, base64.RawURLEncoding.EncodeToString(z.key.N.Bytes()))
	if z.Data != nil {
		data = z.Data(data)
	}
	sum := sha256.Sum256([]byte(data))
	snp, err := z.AMD.Report([64]byte(append(sum[:], make([]byte, 32)...)))
	if err != nil {
		return nil, nil, err
	}
	n, le := uint32(len(data)), binary.LittleEndian
	b := append([]byte("HCLA"), 1, 0, 0, 0)
	b = le.AppendUint32(b, 1216+20+n)
	b = append(b, 2, 0, 0, 0)
	b = append(append(b, make([]byte, 16)...), snp...)
	for _, v := range []uint32{20 + n, 1, 2, 1, n} {
		b = le.AppendUint32(b, v)
	}
	certificates, err = z.AMD.Endorsements()
	return append(b, data...), certificates, err
}

// Public is the TPMT_PUBLIC of the attestation key (TPM 2.0 Library, Part 2, 12.2.4).
func (z *Azure) Public() []byte {
	b := []byte{0, 1, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 1, 0}
	b = append(b, z.key.N.Bytes()...)
	if z.Key != nil {
		b = z.Key(b)
	}
	return b
}

// Attest quotes the PCRs: an Azure is an enclave.Attester.
func (z *Azure) Attest(_ context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	raw, certificates, err := z.Report()
	if err != nil {
		return nil, nil, err
	}
	r, err := hcl.Parse(raw)
	if err != nil {
		return nil, nil, err
	}
	if endorsements, err = hcl.Endorsements(r, certificates); err != nil {
		return nil, nil, err
	}
	report, err = z.Quote(reportData)
	return report, endorsements, err
}

// Quote is a quote of the PCRs in the form of package tpm.
func (z *Azure) Quote(reportData [64]byte) ([]byte, error) {
	attest := quoteOf(z.PCR, reportData)
	sum := sha256.Sum256(attest)
	sig, err := rsa.SignPKCS1v15(nil, z.key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	return tpm.Marshal(attest, append([]byte{0, 0x14, 0, 0x0b, 1, 0}, sig...), z.Public(), z.PCR)
}

// quoteOf is a TPMS_ATTEST of a quote of pcrs (Part 2, 10.12.8).
func quoteOf(pcrs map[uint][32]byte, reportData [64]byte) []byte {
	attest := append([]byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 34, 0, 0x0b}, make([]byte, 32)...)
	attest = append(append(attest, 0, 32), tpm.Qualifying(reportData)...)
	attest = append(attest, make([]byte, 17+8)...)
	selection, h := [3]byte{}, sha256.New()
	for _, i := range tpm.PCRs() {
		selection[i/8] |= 1 << (i % 8)
		v := pcrs[i]
		h.Write(v[:])
	}
	attest = append(append(attest, 0, 0, 0, 1, 0, 0x0b, 3), selection[:]...)
	return append(append(attest, 0, 32), h.Sum(nil)...)
}
