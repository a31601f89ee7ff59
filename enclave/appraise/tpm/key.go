package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Numbers of the TPM 2.0 Library, Part 2: algorithms (6.3), attributes of objects (8.3).
const (
	algRSA    = 0x0001
	algSHA256 = 0x000b
	algNull   = 0x0010
	algRSASSA = 0x0014
	algECDSA  = 0x0018

	attrFixedTPM  = 1 << 1
	attrFixedPar  = 1 << 4
	attrOrigin    = 1 << 5
	attrRestrict  = 1 << 16
	attrDecrypt   = 1 << 17
	attrSign      = 1 << 18
	attrsOfSigner = attrFixedTPM | attrFixedPar | attrOrigin | attrRestrict | attrSign
)

// keyHead is a TPMT_PUBLIC up to its point (Part 2, 12.2.4): TPM_ALG_ECC, name by SHA-256, the attributes fixedTPM,
// fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted and sign, no policy, no symmetric algorithm,
// ECDSA with SHA-256, NIST P-256, no KDF.
var keyHead = []byte{0, 0x23, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10}

// readKey reads a TPMT_PUBLIC, and returns its name (Part 1, 16).
func readKey(b []byte) (pub crypto.PublicKey, name string, err error) {
	if len(b) >= 2 && binary.BigEndian.Uint16(b) == algRSA {
		pub, err = readRSA(b)
	} else {
		pub, err = readECC(b)
	}
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(b)
	return pub, fmt.Sprintf("000b%x", sum), nil
}

// IsKey returns an error unless public, a TPMT_PUBLIC, is want and of the kind whose quotes Verify takes.
func IsKey(public []byte, want *rsa.PublicKey) error {
	key, _, err := readKey(public)
	if err != nil {
		return err
	}
	if pub, ok := key.(*rsa.PublicKey); !ok || !pub.Equal(want) {
		return errors.New("key: another than the one that is endorsed")
	}
	return nil
}

func readECC(b []byte) (crypto.PublicKey, error) {
	r := &reader{rest: b}
	if head := r.take(len(keyHead)); r.err != nil || !bytes.Equal(head, keyHead) {
		return nil, errors.New("key: want an ECC key of P-256 for ECDSA with SHA-256 that is restricted, for signing, and fixed to its TPM")
	}
	x, y := r.sized(), r.sized()
	if err := r.end(); err != nil || len(x) > 32 || len(y) > 32 {
		return nil, errors.New("key: want a point of P-256")
	}
	raw := make([]byte, 65)
	raw[0] = 4
	copy(raw[33-len(x):], x)
	copy(raw[65-len(y):], y)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return pub, nil
}

// readRSA takes any policy and any of the attributes that say how a key is used: who made the key has said so elsewhere, or
// nobody has.
func readRSA(b []byte) (crypto.PublicKey, error) {
	r := &reader{rest: b}
	kind := r.take(4)
	attrs := r.take(4)
	policy := r.sized()
	rest := r.take(2 + 4 + 2 + 4) // symmetric; scheme and its hash; keyBits; exponent
	n := r.sized()
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signs := binary.BigEndian.Uint32(attrs)&(attrsOfSigner|attrDecrypt) == attrsOfSigner
	want := []byte{0, algNull, 0, algRSASSA, 0, algSHA256, 8, 0, 0, 0, 0, 0}
	if !bytes.Equal(kind, []byte{0, algRSA, 0, algSHA256}) || !signs || len(policy) > 64 || !bytes.Equal(rest, want) {
		return nil, errors.New("key: want an RSA key of 2048 bits for RSASSA with SHA-256 that is restricted, for signing, and fixed to its TPM")
	}
	if len(n) != 256 || n[0] < 0x80 || n[255]&1 == 0 {
		return nil, errors.New("key: want a modulus of 2048 bits")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, nil
}

// checkSignature reads a TPMT_SIGNATURE of the key's kind.
func checkSignature(key crypto.PublicKey, attest, signature []byte) error {
	r, sum, good := &reader{rest: signature}, sha256.Sum256(attest), false
	head := r.take(4)
	switch pub := key.(type) {
	case *ecdsa.PublicKey:
		if r.err != nil || !bytes.Equal(head, []byte{0, algECDSA, 0, algSHA256}) {
			return errors.New("signature: want ECDSA with SHA-256")
		}
		sigR, sigS := r.sized(), r.sized()
		if err := r.end(); err != nil || len(sigR) > 32 || len(sigS) > 32 {
			return errors.New("signature: not in the TPM's form")
		}
		good = ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sigR), new(big.Int).SetBytes(sigS))
	case *rsa.PublicKey:
		if r.err != nil || !bytes.Equal(head, []byte{0, algRSASSA, 0, algSHA256}) {
			return errors.New("signature: want RSASSA with SHA-256")
		}
		sig := r.sized()
		if err := r.end(); err != nil {
			return errors.New("signature: not in the TPM's form")
		}
		good = rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil
	}
	if !good {
		return errors.New("signature: not the key's over this quote")
	}
	return nil
}

// A reader takes fields off the front; the first error stays.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && len(r.rest) < n {
		r.err = fmt.Errorf("%d bytes left, want %d", len(r.rest), n)
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// sized takes a TPM2B: a length of two bytes, and so many.
func (r *reader) sized() []byte {
	if n := r.take(2); n != nil {
		return r.take(int(binary.BigEndian.Uint16(n)))
	}
	return nil
}

func (r *reader) end() error {
	if r.err == nil && len(r.rest) != 0 {
		r.err = fmt.Errorf("%d bytes after the last field", len(r.rest))
	}
	return r.err
}
