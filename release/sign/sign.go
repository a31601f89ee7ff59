package sign

import (
	"crypto"
	"crypto/sha256"
	"fmt"

	"tally/release"
)

// Sign returns the unlogged bundle of a statement.
func Sign(s *release.Statement, k *Key) (*release.Bundle, error) {
	payload, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	b := &release.Bundle{Envelope: release.Envelope{Payload: payload}, Hint: k.pub.Hint()}
	d := sha256.Sum256(b.Envelope.PAE())
	// No randomness: RFC 6979, so that the same statement and key are the same release.
	if b.Envelope.Signature, err = k.priv.Sign(nil, d[:], crypto.SHA256); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return b, nil
}
