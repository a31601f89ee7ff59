package attesttest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"tally/enclave/appraise/svsm"
	"tally/enclave/appraise/tpm"
)

// An SVSM is a guest under an SVSM as its clients see it: a fake AMD machine at whose VMPL 0 something keeps a TPM. The SVSM's
// launch digest is AMD.Fields.Measurement.
type SVSM struct {
	AMD *AMD
	PCR map[uint][32]byte

	Manifest func([]byte) []byte                 // changes the manifest before it is signed; nil: nothing
	Nonce    func([64]byte) [64]byte             // changes what the report is asked for with; nil: nothing
	Open     func(challenge, made []byte) []byte // changes what is made of a challenge; nil: nothing

	key *ecdsa.PrivateKey
	ek  *rsa.PrivateKey
}

// NewSVSM makes one over m with keys of its own; its PCRs are zero.
func NewSVSM(m *AMD) (*SVSM, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, fmt.Errorf("attesttest: %w", err)
	}
	ek, err := rsa.GenerateKey(random, 2048)
	if err != nil {
		return nil, fmt.Errorf("attesttest: %w", err)
	}
	v := &SVSM{AMD: m, PCR: map[uint][32]byte{}, key: key, ek: ek}
	for _, i := range tpm.PCRs() {
		v.PCR[i] = [32]byte{}
	}
	return v, nil
}

// Platform returns "vtpm-svsm".
func (*SVSM) Platform() string { return "vtpm-svsm" }

// Endorsement is the TPMT_PUBLIC of the endorsement key (TCG EK Credential Profile, template L-1).
func (v *SVSM) Endorsement() []byte {
	b := []byte{0, 1, 0, 0x0b, 0, 3, 0, 0xb2, 0, 32}
	b = append(b, "\x83\x71\x97\x67\x44\x84\xb3\xf8\x1a\x90\xcc\x8d\x46\xa5\xd7\x24\xfd\x52\xd7\x6e\x06\x52\x0b\x64\xf2\xa1\xda\x1b\x33\x14\x69\xaa"...)
	b = append(b, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 1, 0)
	return append(b, v.ek.N.Bytes()...)
}

// public is the TPMT_PUBLIC of the quote's key (TPM 2.0 Library, Part 2, 12.2.4), and its name.
func (v *SVSM) public() (b, name []byte) {
	raw, err := v.key.PublicKey.Bytes()
	if err != nil {
		panic(err) // of P-256
	}
	b = []byte{0, 0x23, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10}
	b = append(append(b, 0, 32), raw[1:33]...)
	b = append(append(b, 0, 32), raw[33:]...)
	sum := sha256.Sum256(b)
	return b, append([]byte{0, 0x0b}, sum[:]...)
}

// Attest quotes the PCRs: an SVSM is an enclave.Attester.
func (v *SVSM) Attest(_ context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	public, name := v.public()
	nonce, err := svsm.Nonce(fmt.Sprintf("%x", name))
	if err != nil {
		return nil, nil, err
	}
	if v.Nonce != nil {
		nonce = v.Nonce(nonce)
	}
	r := &svsm.Report{Manifest: v.Endorsement()}
	if v.Manifest != nil {
		r.Manifest = v.Manifest(r.Manifest)
	}
	if r.SNP, err = v.AMD.Report(r.ReportData(nonce)); err != nil {
		return nil, nil, err
	}
	certificates, err := v.AMD.Endorsements()
	if err != nil {
		return nil, nil, err
	}
	if endorsements, err = svsm.Endorsements(r, certificates); err != nil {
		return nil, nil, err
	}
	attest := quoteOf(v.PCR, reportData)
	sum := sha256.Sum256(attest)
	x, y, err := ecdsa.Sign(random, v.key, sum[:])
	if err != nil {
		return nil, nil, err
	}
	sig := append([]byte{0, 0x18, 0, 0x0b, 0, 32}, x.FillBytes(make([]byte, 32))...)
	sig = append(append(sig, 0, 32), y.FillBytes(make([]byte, 32))...)
	report, err = tpm.Marshal(attest, sig, public, v.PCR)
	return report, endorsements, err
}

// Activate opens a challenge as a TPM does (TPM 2.0 Library, Part 1, 24): an SVSM is an enclave.Activator.
func (v *SVSM) Activate(_ context.Context, challenge []byte) ([]byte, error) {
	id, encrypted, err := tpm.SplitChallenge(challenge)
	if err != nil {
		return nil, err
	}
	seed, err := rsa.DecryptOAEP(sha256.New(), nil, v.ek, encrypted, []byte("IDENTITY\x00"))
	if err != nil || len(id) < 36 {
		return nil, errors.New("attesttest: not a challenge for this TPM")
	}
	_, name := v.public()
	mac, identity := id[2:34], id[34:]
	derive := func(label string, context []byte, bits uint16) []byte {
		h := hmac.New(sha256.New, seed)
		fmt.Fprintf(h, "\x00\x00\x00\x01%s\x00%s\x00\x00", label, context)
		h.Write([]byte{byte(bits >> 8), byte(bits)})
		return h.Sum(nil)
	}
	h := hmac.New(sha256.New, derive("INTEGRITY", nil, 256))
	h.Write(append(identity[:len(identity):len(identity)], name...))
	if !hmac.Equal(mac, h.Sum(nil)) {
		return nil, errors.New("attesttest: a challenge for another key")
	}
	block, err := aes.NewCipher(derive("STORAGE", name, 128)[:16])
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(identity))
	cipher.NewCFBDecrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(out, identity) //nolint:staticcheck // a TPM's mode
	if out = out[2:]; v.Open != nil {
		out = v.Open(challenge, out)
	}
	return out, nil
}
