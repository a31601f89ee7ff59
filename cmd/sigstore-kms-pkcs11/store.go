//go:build cgo && pkcs11

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"

	"tally/internal/kmsplugin"
)

// A store is the keys of the tokens behind a module.
type store struct {
	module, pin string
}

func newStore(module, pin string) kmsplugin.Store { return &store{module, pin} }

// with logs into the token of ref.
func (s *store) with(ref string, do func(c *crypto11.Context, r keyRef) error) error {
	r, err := parseRef(ref)
	if err != nil {
		return err
	}
	if r.module == "" {
		r.module = s.module
	}
	if r.module == "" {
		return errors.New("no PKCS #11 module: set PKCS11_MODULE, or end the reference in ?module-path=FILE")
	}
	c, err := crypto11.Configure(&crypto11.Config{Path: r.module, TokenLabel: r.token, Pin: s.pin})
	if err != nil {
		return fmt.Errorf("token %.64q of %s: %w", r.token, r.module, err)
	}
	defer c.Close()
	return do(c, r)
}

// find wants exactly one key of the reference's description.
func find(c *crypto11.Context, r keyRef) (crypto11.Signer, *ecdsa.PublicKey, error) {
	var id []byte
	if r.id != "" {
		id = []byte(r.id)
	}
	keys, err := c.FindKeyPairs(id, []byte(r.object))
	if err != nil {
		return nil, nil, err
	}
	if len(keys) != 1 {
		return nil, nil, fmt.Errorf("token %.64q has %d key pairs named %.64q, want one", r.token, len(keys), r.object)
	}
	pub, ok := keys[0].Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, nil, fmt.Errorf("key %.64q: want ECDSA on P-256", r.object)
	}
	return keys[0], pub, nil
}

// Public implements kmsplugin.Store.
func (s *store) Public(ref string) (pub *ecdsa.PublicKey, err error) {
	err = s.with(ref, func(c *crypto11.Context, r keyRef) error {
		_, pub, err = find(c, r)
		return err
	})
	return pub, err
}

// Sign implements kmsplugin.Store.
func (s *store) Sign(ref string, digest []byte) (sig []byte, err error) {
	err = s.with(ref, func(c *crypto11.Context, r keyRef) error {
		k, _, err := find(c, r)
		if err != nil {
			return err
		}
		sig, err = k.Sign(rand.Reader, digest, crypto.SHA256)
		return err
	})
	return sig, err
}

// Create implements kmsplugin.Store: a pair that the token makes, keeps and never gives out.
func (s *store) Create(ref string) (pub *ecdsa.PublicKey, err error) {
	err = s.with(ref, func(c *crypto11.Context, r keyRef) error {
		old, err := c.FindKeyPairs(nil, []byte(r.object))
		if err != nil {
			return err
		}
		if len(old) != 0 {
			return fmt.Errorf("token %.64q has a key named %.64q: a key is never overwritten", r.token, r.object)
		}
		id := []byte(r.id)
		if len(id) == 0 {
			id = make([]byte, 16)
			if _, err := rand.Read(id); err != nil {
				return err
			}
		}
		k, err := c.GenerateECDSAKeyPairWithLabel(id, []byte(r.object), elliptic.P256()) // sensitive, not extractable
		if err != nil {
			return err
		}
		var ok bool
		if pub, ok = k.Public().(*ecdsa.PublicKey); !ok {
			return fmt.Errorf("the token made a %T", k.Public())
		}
		return nil
	})
	return pub, err
}
