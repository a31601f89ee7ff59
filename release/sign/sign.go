package sign

import (
	"crypto"
	"crypto/sha256"
	"fmt"

	"tally/release"
)

// A Signer is what releases are signed with: a key file, or a key that never leaves a device or a service.
type Signer interface {
	// Public returns the public half.
	Public() release.PublicKey

	// SignPAE signs a pre-authentication encoding: ECDSA over its SHA-256, ASN.1 DER.
	SignPAE(pae []byte) ([]byte, error)
}

// SignPAE signs a pre-authentication encoding: ECDSA over its SHA-256, ASN.1 DER. It takes no randomness
// (RFC 6979), so that the same statement and key are the same release.
func (k *Key) SignPAE(pae []byte) ([]byte, error) {
	d := sha256.Sum256(pae)
	return k.priv.Sign(nil, d[:], crypto.SHA256)
}

// Sign returns the unlogged bundle of a statement.
func Sign(s *release.Statement, k Signer) (*release.Bundle, error) {
	payload, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	return Seal(k, payload)
}

// Channel returns the unlogged bundle of a channel statement.
func Channel(c *release.Channel, k Signer) (*release.Bundle, error) {
	payload, err := c.Marshal()
	if err != nil {
		return nil, err
	}
	return Seal(k, payload)
}

// Rebuild returns the unlogged bundle of a rebuild statement.
func Rebuild(s *release.Rebuild, k Signer) (*release.Bundle, error) {
	payload, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	return Seal(k, payload)
}

// Seal returns the unlogged bundle of a payload, an in-toto statement. What the signer gives back is checked: a
// device or a plug-in is outside this program.
func Seal(k Signer, payload []byte) (*release.Bundle, error) {
	b := &release.Bundle{Envelope: release.Envelope{Payload: payload}, Hint: k.Public().Hint()}
	var err error
	if b.Envelope.Signature, err = k.SignPAE(b.Envelope.PAE()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := release.VerifyEnvelope(b, k.Public()); err != nil {
		return nil, fmt.Errorf("sign: what the key gave back: %w", err)
	}
	return b, nil
}
