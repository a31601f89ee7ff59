package sign

import (
	"crypto"
	"crypto/sha256"
	"fmt"

	"tally/release"
)

// SignPAE signs a pre-authentication encoding: ECDSA over its SHA-256, ASN.1 DER. It takes no randomness
// (RFC 6979), so that the same statement and key are the same release.
func (k *Key) SignPAE(pae []byte) ([]byte, error) {
	d := sha256.Sum256(pae)
	return k.priv.Sign(nil, d[:], crypto.SHA256)
}

// Sign returns the unlogged bundle of a statement.
func Sign(s *release.Statement, k *Key) (*release.Bundle, error) {
	payload, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	return k.seal(payload)
}

// Channel returns the unlogged bundle of a channel statement.
func Channel(c *release.Channel, k *Key) (*release.Bundle, error) {
	payload, err := c.Marshal()
	if err != nil {
		return nil, err
	}
	return k.seal(payload)
}

func (k *Key) seal(payload []byte) (*release.Bundle, error) {
	b := &release.Bundle{Envelope: release.Envelope{Payload: payload}, Hint: k.pub.Hint()}
	var err error
	if b.Envelope.Signature, err = k.SignPAE(b.Envelope.PAE()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return b, nil
}
