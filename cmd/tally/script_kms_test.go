package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"

	"tally/internal/kmsplugin"
)

// fileStore is the program sigstore-kms-test of the scripts: it stands for a key service. A key is a file.
type fileStore struct{}

func kmsTestMain() {
	os.Exit(kmsplugin.Main(os.Args, os.Stdin, os.Stdout, fileStore{}))
}

func (fileStore) key(ref string) (*ecdsa.PrivateKey, error) {
	if os.Getenv("TEST_KMS_PIN") != "1234" {
		return nil, errors.New("wrong PIN")
	}
	der, err := os.ReadFile(ref)
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(der)
}

func (s fileStore) Public(ref string) (*ecdsa.PublicKey, error) {
	k, err := s.key(ref)
	if err != nil {
		return nil, err
	}
	return &k.PublicKey, nil
}

func (s fileStore) Sign(ref string, digest []byte) ([]byte, error) {
	k, err := s.key(ref)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, k, digest)
}

func (s fileStore) Create(ref string) (*ecdsa.PublicKey, error) {
	if _, err := os.Lstat(ref); err == nil {
		return nil, os.ErrExist
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	return &k.PublicKey, os.WriteFile(ref, der, 0o600)
}
