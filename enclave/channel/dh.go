package channel

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// A StaticKey is the long-lived X25519 key of one side. It stays in memory and cannot be exported.
type StaticKey struct{ priv *ecdh.PrivateKey }

// GenerateStatic makes a key from 32 bytes of rand.
func GenerateStatic(rand io.Reader) (k *StaticKey, err error) {
	erase.Do(func() {
		var priv *ecdh.PrivateKey
		if priv, err = generateX25519(rand); err == nil {
			k = &StaticKey{priv}
		}
	})
	return k, err
}

// Public returns the public half.
func (k *StaticKey) Public() PublicKey { return PublicKey(k.priv.PublicKey().Bytes()) }

func (k *StaticKey) noise() noise.DHKey {
	return noise.DHKey{Private: k.priv.Bytes(), Public: k.priv.PublicKey().Bytes()}
}

// generateX25519 reads the scalar itself: ecdh.GenerateKey ignores its argument since Go 1.26.
func generateX25519(rand io.Reader) (*ecdh.PrivateKey, error) {
	if rand == nil {
		return nil, errors.New("channel: no source of randomness")
	}
	var b [32]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, fmt.Errorf("channel: randomness: %w", err)
	}
	return ecdh.X25519().NewPrivateKey(b[:])
}

// A dh is noise's DHFunc for one handshake. It keeps the parsed private keys (static and ephemeral), since
// noise's own parses them anew, at the price of a scalar multiplication, for every DH. Not for concurrent
// use.
type dh struct{ static, ephemeral *ecdh.PrivateKey }

func (d *dh) GenerateKeypair(rand io.Reader) (noise.DHKey, error) {
	k, err := generateX25519(rand)
	if err != nil {
		return noise.DHKey{}, err
	}
	d.ephemeral = k
	return (&StaticKey{k}).noise(), nil
}

// DH refuses a low-order point: crypto/ecdh returns an error for the all-zero result (RFC 7748, 6.1).
func (d *dh) DH(private, public []byte) ([]byte, error) {
	pub, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	for _, k := range []*ecdh.PrivateKey{d.static, d.ephemeral} {
		if k != nil && bytes.Equal(k.Bytes(), private) {
			return k.ECDH(pub)
		}
	}
	return nil, errors.New("channel: DH with a key of no handshake")
}

func (*dh) DHLen() int     { return 32 }
func (*dh) DHName() string { return "25519" }
