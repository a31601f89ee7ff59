// Package tpm writes, reads and verifies the evidence of a TPM 2.0: a quote over PCRs with the key that signed
// it. A key is as good as what stands behind it; nothing here says anything about that.
//
// # Format
//
// Integers are big-endian; the TPM's structures are as it marshals them (TPM 2.0 Library, Part 2).
//
//	lp16 TPMS_ATTEST      of type TPM_ST_ATTEST_QUOTE, as signed
//	lp16 TPMT_SIGNATURE   ECDSA with SHA-256
//	lp16 TPMT_PUBLIC      of the attestation key: that of Template, and no other kind
//	u8   number of PCRs   ascending, of the bank SHA-256; each: u8 index, 32 bytes
//
// qualifyingData is the SHA-256 of the 64 bytes of REPORTDATA: 64 bytes do not fit a TPM without SHA-512.
package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// MaxEvidence is the size in bytes of the largest evidence read.
const MaxEvidence = 8 << 10

// PCRs that a quote must be about: those of the firmware, of the boot and of the image.
func PCRs() []uint { return []uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15} }

// An Evidence is a quote that its own key signed.
type Evidence struct {
	Qualifying []byte            // qualifyingData
	PCR        map[uint][32]byte // bank SHA-256
	KeyName    string            // TPM2B_NAME of the key, hex
	Firmware   uint64            // firmwareVersion, by the TPM's word
}

// Template is what an attestation key is made by: ECC NIST P-256, ECDSA with SHA-256; restricted, so that it signs
// nothing but what the TPM says itself; not to be duplicated.
func Template() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
	}
}

// Qualifying returns the qualifyingData for reportData.
func Qualifying(reportData [64]byte) []byte {
	sum := sha256.Sum256(reportData[:])
	return sum[:]
}

// Marshal writes evidence. The three structures are the TPM's own bytes.
func Marshal(attest, signature, key []byte, pcrs map[uint][32]byte) ([]byte, error) {
	var b []byte
	for _, f := range [][]byte{attest, signature, key} {
		if len(f) == 0 || len(f) > MaxEvidence/4 {
			return nil, fmt.Errorf("TPM evidence: a structure of %d bytes, want 1 to %d", len(f), MaxEvidence/4)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
	}
	b = append(b, byte(len(pcrs)))
	for _, i := range sorted(pcrs) {
		v := pcrs[i]
		b = append(append(b, byte(i)), v[:]...)
	}
	return b, nil
}

func sorted(m map[uint][32]byte) (all []uint) {
	for i := range m {
		all = append(all, i)
	}
	slices.Sort(all)
	return all
}

// Verify reads evidence and checks that the key in it signed the quote, and that the PCRs in it are the
// quote's.
func Verify(b []byte) (*Evidence, error) {
	e, err := verify(b)
	if err != nil {
		return nil, fmt.Errorf("TPM evidence: %w", err)
	}
	return e, nil
}

func verify(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), MaxEvidence)
	}
	var f [3][]byte
	for i, what := range []string{"quote", "signature", "key"} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("%s: cut short", what)
		}
		n := int(binary.BigEndian.Uint16(b))
		f[i], b = b[2:2+n], b[2+n:]
	}
	pcrs, err := readPCRs(b)
	if err != nil {
		return nil, err
	}
	pub, name, err := readKey(f[2])
	if err != nil {
		return nil, err
	}
	if err := checkSignature(pub, f[0], f[1]); err != nil {
		return nil, err
	}
	return readQuote(f[0], pcrs, name)
}

func readPCRs(b []byte) (map[uint][32]byte, error) {
	const size = 33
	if len(b) == 0 || len(b)-1 != int(b[0])*size {
		return nil, fmt.Errorf("PCRs: %d bytes left for them", len(b))
	}
	out, last := map[uint][32]byte{}, -1
	for b = b[1:]; len(b) > 0; b = b[size:] {
		i := int(b[0])
		if i <= last || i > 23 {
			return nil, fmt.Errorf("PCR %d after %d: want 0 to 23, ascending", i, last)
		}
		last = i
		out[uint(i)] = [32]byte(b[1:size])
	}
	return out, nil
}

// readKey wants a key that a TPM made for nothing but signing its own statements.
func readKey(b []byte) (*ecdsa.PublicKey, string, error) {
	p, err := unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		return nil, "", fmt.Errorf("key: %w", err)
	}
	point, err := p.Unique.ECC()
	if err != nil || len(point.X.Buffer) > 32 || len(point.Y.Buffer) > 32 {
		return nil, "", errors.New("key: want a point of P-256")
	}
	want := Template()
	want.Unique = p.Unique
	if !bytes.Equal(tpm2.Marshal(want), b) {
		return nil, "", errors.New("key: want an ECC key of P-256 for ECDSA with SHA-256 that is restricted, for signing, and fixed to its TPM")
	}
	raw := make([]byte, 65)
	raw[0] = 4
	copy(raw[33-len(point.X.Buffer):], point.X.Buffer)
	copy(raw[65-len(point.Y.Buffer):], point.Y.Buffer)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, "", fmt.Errorf("key: %w", err)
	}
	sum := sha256.Sum256(b)
	return pub, fmt.Sprintf("000b%x", sum), nil // TPM_ALG_SHA256, Part 1, 16
}

func checkSignature(pub *ecdsa.PublicKey, attest, signature []byte) error {
	s, err := unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if s.SigAlg != tpm2.TPMAlgECDSA {
		return fmt.Errorf("signature: algorithm %#x, want ECDSA", uint16(s.SigAlg))
	}
	sig, err := s.Signature.ECDSA()
	if err != nil || sig.Hash != tpm2.TPMAlgSHA256 {
		return errors.New("signature: want ECDSA with SHA-256")
	}
	sum := sha256.Sum256(attest)
	if !ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)) {
		return errors.New("signature: not the key's over this quote")
	}
	return nil
}

func readQuote(attest []byte, pcrs map[uint][32]byte, name string) (*Evidence, error) {
	q, err := unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	if q.Magic != tpm2.TPMGeneratedValue || q.Type != tpm2.TPMSTAttestQuote {
		return nil, fmt.Errorf("quote: magic %#x, type %#x: not a TPM's quote", uint32(q.Magic), uint16(q.Type))
	}
	info, err := q.Attested.Quote()
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	sel := info.PCRSelect.PCRSelections
	if len(sel) != 1 || sel[0].Hash != tpm2.TPMAlgSHA256 || len(sel[0].PCRSelect) != 3 {
		return nil, errors.New("quote: want PCRs of the bank SHA-256 and no other")
	}
	h := sha256.New()
	for i := range uint(24) {
		v, have := pcrs[i]
		if quoted := sel[0].PCRSelect[i/8]>>(i%8)&1 == 1; quoted != have {
			return nil, fmt.Errorf("PCR %d: in the quote %v, beside it %v", i, quoted, have)
		}
		if have {
			h.Write(v[:])
		}
	}
	if !bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer) {
		return nil, errors.New("PCRs: not those of the quote")
	}
	return &Evidence{Qualifying: q.ExtraData.Buffer, PCR: pcrs, KeyName: name, Firmware: q.FirmwareVersion}, nil
}

// unmarshal reads exactly one structure; what it panics on is an error, too.
func unmarshal[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](b []byte) (v *T, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("not in the TPM's form: %v", r)
		}
	}()
	v, err = tpm2.Unmarshal[T, P](b)
	if err != nil {
		return nil, err
	}
	return v, nil
}
