package tpm

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// ekHead is the TPMT_PUBLIC of an endorsement key up to its modulus: template L-1 of the TCG EK Credential Profile (2.5,
// B.3.3), RSA of 2048 bits that does nothing but decrypt what names an object of its TPM.
var ekHead = append(append([]byte{0, algRSA, 0, algSHA256, 0, 3, 0, 0xb2, 0, 32},
	0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
	0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa),
	0, 6, 0, 128, 0, 0x43, 0, algNull, 8, 0, 0, 0, 0, 0)

// ReadEK reads the TPMT_PUBLIC of an endorsement key of template L-1.
func ReadEK(public []byte) (*rsa.PublicKey, error) {
	r := &reader{rest: public}
	if head := r.take(len(ekHead)); string(head) != string(ekHead) {
		return nil, errors.New("endorsement key: want one of the TCG's template for RSA of 2048 bits (L-1)")
	}
	n := r.sized()
	if err := r.end(); err != nil || len(n) != 256 || n[0] < 0x80 || n[255]&1 == 0 {
		return nil, errors.New("endorsement key: want a modulus of 2048 bits")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, nil
}

// A Challenge asks a TPM for proof that it holds both an endorsement key and the key of a quote. Only a TPM with both can
// open it (TPM 2.0 Library, Part 1, 24: credential protection).
type Challenge struct {
	KeyName string // of the quote's key, hex
	EK      []byte // TPMT_PUBLIC

	Blob   []byte // lp16 TPMS_ID_OBJECT, lp16 encrypted seed: what TPM2_ActivateCredential takes
	secret [32]byte
}

// MaxChallenge is the size in bytes of the largest Challenge.Blob. What a TPM makes of it has 32.
const MaxChallenge = 512

// NewChallenge makes one for the key whose name keyName is, as in Evidence, and the endorsement key ek, a TPMT_PUBLIC.
func NewChallenge(rand io.Reader, keyName string, ek []byte) (*Challenge, error) {
	pub, err := ReadEK(ek)
	if err != nil {
		return nil, err
	}
	name, err := hex.DecodeString(keyName)
	if err != nil {
		return nil, fmt.Errorf("name of a key: %w", err)
	}
	c := &Challenge{KeyName: keyName, EK: ek}
	var seed [32]byte
	for _, b := range [][]byte{c.secret[:], seed[:]} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("challenge: randomness: %w", err)
		}
	}
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand, pub, seed[:], []byte("IDENTITY\x00"))
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	id := protect(seed[:], name, c.secret[:])
	c.Blob = append(binary.BigEndian.AppendUint16(nil, uint16(len(id))), id...)
	c.Blob = append(binary.BigEndian.AppendUint16(c.Blob, uint16(len(encrypted))), encrypted...)
	return c, nil
}

// Opened reports whether credential is what a TPM with both keys makes of the challenge.
func (c *Challenge) Opened(credential []byte) bool {
	return subtle.ConstantTimeCompare(c.secret[:], credential) == 1
}

// SplitChallenge returns the two parts of a Blob.
func SplitChallenge(blob []byte) (id, encrypted []byte, err error) {
	r := &reader{rest: blob}
	id, encrypted = r.sized(), r.sized()
	if err := r.end(); err != nil || len(blob) > MaxChallenge || len(id) == 0 || len(encrypted) == 0 {
		return nil, nil, errors.New("challenge: want two parts with their lengths")
	}
	return id, encrypted, nil
}

// protect makes a TPMS_ID_OBJECT of a credential (Part 1, 24.4 and 24.5): the name is in both keys' reach, so that no TPM
// opens it for another object.
func protect(seed, name, credential []byte) []byte {
	identity := append(binary.BigEndian.AppendUint16(nil, uint16(len(credential))), credential...)
	cfb(kdfa(seed, "STORAGE", name, 128), identity)
	mac := hmac.New(sha256.New, kdfa(seed, "INTEGRITY", nil, 256))
	mac.Write(identity)
	mac.Write(name)
	return append(append([]byte{0, sha256.Size}, mac.Sum(nil)...), identity...)
}

// kdfa is KDFa (Part 1, 11.4.10.2) with SHA-256, for up to 256 bits.
func kdfa(key []byte, label string, context []byte, bits uint32) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(append([]byte{0, 0, 0, 1}, label...))
	h.Write(append([]byte{0}, context...))
	h.Write(binary.BigEndian.AppendUint32(nil, bits))
	return h.Sum(nil)[:bits/8]
}

// cfb encrypts b in place with AES in CFB mode and a zero IV, as a TPM has it.
func cfb(key, b []byte) {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a key of 128 bits
	}
	last := make([]byte, aes.BlockSize)
	for len(b) > 0 {
		c.Encrypt(last, last)
		n := subtle.XORBytes(b, b, last)
		copy(last, b[:n])
		b = b[n:]
	}
}
