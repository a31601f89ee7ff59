//go:build !cgo || !pkcs11

package main

import (
	"crypto/ecdsa"
	"errors"

	"tally/internal/kmsplugin"
)

// none is the store of a program that can load no module.
type none struct{}

func newStore(string, string) kmsplugin.Store { return none{} }

var errNone = errors.New("this sigstore-kms-pkcs11 was built without PKCS #11: build it with CGO_ENABLED=1 and -tags pkcs11")

// Public implements kmsplugin.Store.
func (none) Public(string) (*ecdsa.PublicKey, error) { return nil, errNone }

// Sign implements kmsplugin.Store.
func (none) Sign(string, []byte) ([]byte, error) { return nil, errNone }

// Create implements kmsplugin.Store.
func (none) Create(string) (*ecdsa.PublicKey, error) { return nil, errNone }
