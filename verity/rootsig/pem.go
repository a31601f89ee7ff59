package rootsig

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParseCertificates reads all certificates of a PEM file; there must be one, and no other block.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	whole := text
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate: PEM block %.40q, want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		certs, text = append(certs, cert), rest
	}
	if n := bytes.Count(whole, []byte("-----BEGIN ")); n > len(certs) { // package pem passes over what is damaged
		return nil, fmt.Errorf("certificate: %d of %d PEM blocks cannot be read", n-len(certs), n)
	}
	if len(certs) == 0 {
		return nil, errors.New("certificate: no PEM block of that name")
	}
	return certs, nil
}

// ParseKey reads the private key of a PEM file: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC), not encrypted.
func ParseKey(text []byte) (crypto.Signer, error) {
	var block *pem.Block
	for {
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("key: no PEM block with a private key")
		}
		if block.Type != "EC PARAMETERS" { // openssl ecparam puts one in front
			break
		}
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("key: encrypted, want a plain one")
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("key: encrypted, want a plain one")
		}
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("key: PEM block %.40q, want a private key that is not encrypted", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key: %T, want RSA or ECDSA", key)
	}
	return signer, nil
}
