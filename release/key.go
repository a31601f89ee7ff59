package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// A PublicKey is an ECDSA P-256 key that signs releases. P-256 with SHA-256 is the one kind that every
// Sigstore verifier and log accepts for a key in a file.
type PublicKey struct {
	key  *ecdsa.PublicKey
	der  []byte // SubjectPublicKeyInfo
	cert []byte // the certificate that the key comes from; nil for a key that is trusted itself
	id   Digest // of the certified signer; zero for a key that is trusted itself
}

// NewPublicKey wraps an ECDSA key, which must be on P-256.
func NewPublicKey(k *ecdsa.PublicKey) (PublicKey, error) {
	if k == nil || k.Curve != elliptic.P256() {
		return PublicKey{}, errors.New("public key: want ECDSA on P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return PublicKey{key: k, der: der}, nil
}

// ParsePublicKey reads one PEM block "PUBLIC KEY" (what cosign writes to cosign.pub) and nothing else.
func ParsePublicKey(text []byte) (PublicKey, error) {
	if len(text) > 64<<10 {
		return PublicKey{}, errors.New("public key: file larger than 64 KiB")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 {
		return PublicKey{}, errors.New(`public key: want one PEM block "PUBLIC KEY"`)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	ec, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("public key: %T, want ECDSA on P-256", k)
	}
	pk, err := NewPublicKey(ec)
	if err == nil && !bytes.Equal(pk.der, block.Bytes) {
		return PublicKey{}, errors.New("public key: not in its canonical encoding")
	}
	return pk, err
}

// PEM returns what ParsePublicKey reads.
func (k PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
}

// ID is the SHA-256 of the key's SubjectPublicKeyInfo, or names the signer of a certified key (see CertifiedKey).
func (k PublicKey) ID() Digest {
	if k.id != (Digest{}) {
		return k.id
	}
	return sha256.Sum256(k.der)
}

// Hint is how a bundle names the key: its ID in base64, as sigstore-go does. It is an index, not a proof.
func (k PublicKey) Hint() string {
	id := k.ID()
	return base64.StdEncoding.EncodeToString(id[:])
}

// names reports whether b says that it is signed by k.
func (k PublicKey) names(b *Bundle) bool {
	if b.Certificate != nil || k.cert != nil {
		return bytes.Equal(k.cert, b.Certificate)
	}
	return k.Hint() == b.Hint
}

// IsZero says that k holds no key.
func (k PublicKey) IsZero() bool { return k.key == nil }

// verify checks an ASN.1 DER signature over the SHA-256 of msg.
func (k PublicKey) verify(msg, sig []byte) bool {
	d := sha256.Sum256(msg)
	return k.key != nil && ecdsa.VerifyASN1(k.key, d[:], sig)
}
