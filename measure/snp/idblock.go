package snp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Sizes in bytes of the structures that SNP_LAUNCH_FINISH takes (SEV-SNP Firmware ABI, section 8.18).
const (
	IDBlockSize = 96
	IDAuthSize  = 4096

	keySize, sigSize, numberSize = 1028, 512, 72
	authIDSig, authIDKey         = 64, 64 + sigSize         // offsets in the ID authentication structure
	authKeySig                   = authIDKey + keySize + 60 // of the author's signature over the ID key
	authAuthorKey                = authKeySig + sigSize     //
	algoP384, curveP384          = 1, 2                     // ECDSA P-384 with SHA-384; the curve's number

	sigUsed, keyUsed = 2 * numberSize, 4 + 2*numberSize // bytes of a signature and of a key that say something
)

// authReserved are the parts of an ID authentication structure, from and to, that must be zero.
var authReserved = [][2]int{{8, authIDSig}, {authIDSig + sigUsed, authIDKey}, {authIDKey + keyUsed, authKeySig},
	{authKeySig + sigUsed, authAuthorKey}, {authAuthorKey + keyUsed, IDAuthSize}}

// An IDBlock is what its owner says of a guest: the firmware refuses to start one with another launch digest
// or policy, and the report names the owner's key. (SEV-SNP Firmware ABI, table 75.)
//
//	0x00 48  launch digest      0x30 16  family ID     0x40 16  image ID
//	0x50  4  version: 1         0x54  4  guest SVN     0x58  8  guest policy
type IDBlock struct {
	Digest   Digest
	FamilyID [16]byte
	ImageID  [16]byte
	GuestSVN uint32
	Policy   uint64 // guest policy, section 4.3; bit 17 is always set, bit 19 allows debugging
}

// DefaultPolicy is the policy that sev-snp-measure and snpguest take: SMT allowed, nothing else.
const DefaultPolicy = 0x30000

// policyReserved is the bit of a policy that must be one.
const policyReserved = 1 << 17

// Marshal returns the 96 bytes that are signed.
func (b *IDBlock) Marshal() []byte {
	out := make([]byte, IDBlockSize)
	copy(out, b.Digest[:])
	copy(out[0x30:], b.FamilyID[:])
	copy(out[0x40:], b.ImageID[:])
	le := binary.LittleEndian
	le.PutUint32(out[0x50:], 1)
	le.PutUint32(out[0x54:], b.GuestSVN)
	le.PutUint64(out[0x58:], b.Policy)
	return out
}

// ParseIDBlock reads the 96 bytes of an ID block of version 1.
func ParseIDBlock(b []byte) (*IDBlock, error) {
	le := binary.LittleEndian
	switch {
	case len(b) != IDBlockSize:
		return nil, fmt.Errorf("ID block: %d bytes, want %d", len(b), IDBlockSize)
	case le.Uint32(b[0x50:]) != 1:
		return nil, fmt.Errorf("ID block: version %d, want 1", le.Uint32(b[0x50:]))
	}
	out := &IDBlock{Digest: Digest(b[:0x30]), FamilyID: [16]byte(b[0x30:0x40]), ImageID: [16]byte(b[0x40:0x50]), GuestSVN: le.Uint32(b[0x54:]), Policy: le.Uint64(b[0x58:])}
	return out, out.check()
}

func (b *IDBlock) check() error {
	if b.Policy&policyReserved == 0 {
		return fmt.Errorf("guest policy %#x: bit 17 is not set, no firmware takes it", b.Policy)
	}
	return nil
}

// Sign returns the ID authentication structure (4096 bytes) of a block: idKey signs the block and author,
// unless nil, signs idKey. Both are ECDSA P-384. Signatures are deterministic (RFC 6979): the same block and
// keys give the same bytes.
func (b *IDBlock) Sign(idKey, author *ecdsa.PrivateKey) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	out := make([]byte, IDAuthSize)
	le := binary.LittleEndian
	le.PutUint32(out, algoP384)
	key, err := publicKey(&idKey.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	copy(out[authIDKey:], key)
	if err := sign(out[authIDSig:][:sigSize], idKey, b.Marshal()); err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	if author == nil {
		return out, nil
	}
	le.PutUint32(out[4:], algoP384)
	authorKey, err := publicKey(&author.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("author key: %w", err)
	}
	copy(out[authAuthorKey:], authorKey)
	if err := sign(out[authKeySig:][:sigSize], author, key); err != nil {
		return nil, fmt.Errorf("author key: %w", err)
	}
	return out, nil
}

// An IDKeys is what a report says of the keys behind an ID block: SHA-384 of each public key as it stands
// in the ID authentication structure. Author is nil when there is none.
type IDKeys struct {
	ID     Digest  `json:"id_key_digest"`
	Author *Digest `json:"author_key_digest,omitempty"`
}

// VerifyIDAuth checks the signatures of an ID authentication structure over a block, as the firmware does
// before it starts a guest, and returns the digests of the keys.
func VerifyIDAuth(b *IDBlock, auth []byte) (*IDKeys, error) {
	le := binary.LittleEndian
	if len(auth) != IDAuthSize {
		return nil, fmt.Errorf("ID authentication: %d bytes, want %d", len(auth), IDAuthSize)
	}
	idAlgo, authorAlgo := le.Uint32(auth), le.Uint32(auth[4:])
	if idAlgo != algoP384 || authorAlgo > algoP384 {
		return nil, fmt.Errorf("ID authentication: algorithms %d and %d, want 1 (ECDSA P-384), for the author 1 or 0", idAlgo, authorAlgo)
	}
	for _, r := range authReserved {
		if !zero(auth[r[0]:r[1]]) {
			return nil, fmt.Errorf("ID authentication: bytes %#x to %#x are reserved, want zeros", r[0], r[1])
		}
	}
	key := auth[authIDKey:][:keySize]
	if err := verify(auth[authIDSig:][:sigSize], key, b.Marshal()); err != nil {
		return nil, fmt.Errorf("ID key: %w", err)
	}
	keys := &IDKeys{ID: sha512.Sum384(key)}
	if authorAlgo == 0 {
		if !zero(auth[authKeySig:]) {
			return nil, errors.New("ID authentication: no author's algorithm, but an author's key or signature")
		}
		return keys, nil
	}
	author := auth[authAuthorKey:][:keySize]
	if err := verify(auth[authKeySig:][:sigSize], author, key); err != nil {
		return nil, fmt.Errorf("author key: %w", err)
	}
	d := Digest(sha512.Sum384(author))
	keys.Author = &d
	return keys, nil
}

// publicKey is a key as the firmware reads it: u32 curve, X and Y little-endian in 72 bytes each, zeros.
func publicKey(k *ecdsa.PublicKey) ([]byte, error) {
	if k.Curve != elliptic.P384() {
		return nil, fmt.Errorf("curve %s, want P-384", k.Params().Name)
	}
	point, err := k.Bytes() // 4, X, Y
	if err != nil {
		return nil, err
	}
	out := make([]byte, keySize)
	binary.LittleEndian.PutUint32(out, curveP384)
	copy(out[4:], reversed(point[1:49]))
	copy(out[4+numberSize:], reversed(point[49:]))
	return out, nil
}

// sign puts a signature into out: R and S little-endian in 72 bytes each, zeros.
func sign(out []byte, k *ecdsa.PrivateKey, data []byte) error {
	sum := sha512.Sum384(data)
	der, err := k.Sign(nil, sum[:], crypto.SHA384)
	if err != nil {
		return err
	}
	var n struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &n); err != nil {
		return err
	}
	copy(out, reversed(n.R.FillBytes(make([]byte, 48))))
	copy(out[numberSize:], reversed(n.S.FillBytes(make([]byte, 48))))
	return nil
}

// verify checks a signature in the form of sign by a key in that of publicKey.
func verify(sig, key, data []byte) error {
	if curve := binary.LittleEndian.Uint32(key); curve != curveP384 {
		return fmt.Errorf("curve %d, want 2 (P-384)", curve)
	}
	x, y := reversed(key[4:][:numberSize]), reversed(key[4+numberSize:][:numberSize])
	if !zero(x[:numberSize-48]) || !zero(y[:numberSize-48]) {
		return errors.New("public key: a number of more than 384 bits")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x[numberSize-48:], y[numberSize-48:]))
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	sum := sha512.Sum384(data)
	r, s := new(big.Int).SetBytes(reversed(sig[:numberSize])), new(big.Int).SetBytes(reversed(sig[numberSize:][:numberSize]))
	if !ecdsa.Verify(pub, sum[:], r, s) {
		return errors.New("signature does not verify")
	}
	return nil
}

func reversed(b []byte) []byte {
	out := slices.Clone(b)
	slices.Reverse(out)
	return out
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }
