// Package tpm writes, reads and verifies the evidence of a TPM 2.0: a quote over PCRs with the key that signed
// it. A key is as good as what stands behind it; nothing here says anything about that.
//
// # Format
//
// Integers are big-endian; the TPM's structures are as it marshals them (TPM 2.0 Library, Part 2).
//
//	lp16 TPMS_ATTEST      of type TPM_ST_ATTEST_QUOTE, as signed
//	lp16 TPMT_SIGNATURE   ECDSA or RSASSA (PKCS #1 v1.5), with SHA-256
//	lp16 TPMT_PUBLIC      of the attestation key: ECC NIST P-256 for ECDSA with SHA-256, or RSA of 2048 bits with exponent 65537 for
//	                      RSASSA with SHA-256; restricted, so that it signs nothing but what the TPM says itself; fixed to its TPM
//	u8   number of PCRs   ascending, of the bank SHA-256; each: u8 index, 32 bytes
//
// qualifyingData is the SHA-256 of the 64 bytes of REPORTDATA: 64 bytes do not fit a TPM without SHA-512.
package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
	Key        crypto.PublicKey  // that signed: *ecdsa.PublicKey or *rsa.PublicKey
	Firmware   uint64            // firmwareVersion, by the TPM's word
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
	e, err := readQuote(f[0], pcrs)
	if err != nil {
		return nil, err
	}
	e.Key, e.KeyName = pub, name
	return e, nil
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

// readQuote reads a TPMS_ATTEST of a quote (Part 2, 10.12.8): magic, type, signer, extra data, clock (17 bytes),
// firmware version, one selection of PCRs, their digest.
func readQuote(attest []byte, pcrs map[uint][32]byte) (*Evidence, error) {
	r := &reader{rest: attest}
	if head := r.take(6); r.err != nil || !bytes.Equal(head, []byte{0xff, 'T', 'C', 'G', 0x80, 0x18}) {
		return nil, errors.New("quote: not a TPM's")
	}
	r.sized()
	extra := r.sized()
	r.take(17)
	firmware := r.take(8)
	selection := r.take(10) // one of: count (4), bank (2), size (1), bits (3)
	digest := r.sized()
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	if !bytes.Equal(selection[:7], []byte{0, 0, 0, 1, 0, 0x0b, 3}) {
		return nil, errors.New("quote: want PCRs of the bank SHA-256 and no other")
	}
	h := sha256.New()
	for i := range uint(24) {
		v, have := pcrs[i]
		if quoted := selection[7+i/8]>>(i%8)&1 == 1; quoted != have {
			return nil, fmt.Errorf("PCR %d: in the quote %v, beside it %v", i, quoted, have)
		}
		if have {
			h.Write(v[:])
		}
	}
	if !bytes.Equal(h.Sum(nil), digest) {
		return nil, errors.New("PCRs: not those of the quote")
	}
	return &Evidence{Qualifying: extra, PCR: pcrs, Firmware: binary.BigEndian.Uint64(firmware)}, nil
}
