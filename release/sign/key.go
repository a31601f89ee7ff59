package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"tally/release"
)

const (
	pemPrivate = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemCosign1 = "ENCRYPTED COSIGN PRIVATE KEY" // what cosign wrote before 2.0

	// MaxKeyFile is the size in bytes above which a key file is refused unread.
	MaxKeyFile = 64 << 10
)

// ErrPassword means that a key file did not open: the password is wrong or the file is damaged.
var ErrPassword = errors.New("wrong password, or the file is damaged")

// A Key is a release signing key: ECDSA on P-256.
type Key struct {
	priv *ecdsa.PrivateKey
	pub  release.PublicKey
}

// GenerateKey makes a new key from the randomness of rand.
func GenerateKey(rand io.Reader) (*Key, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return newKey(priv)
}

func newKey(priv *ecdsa.PrivateKey) (*Key, error) {
	pub, err := release.NewPublicKey(&priv.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Key{priv, pub}, nil
}

// Public returns the public half.
func (k *Key) Public() release.PublicKey { return k.pub }

// Marshal returns the key file, encrypted under password (empty: protected by nothing but file modes).
func (k *Key) Marshal(password []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.priv)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	body, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: body}), nil
}

// ParseKey opens a key file. A wrong password is ErrPassword.
func ParseKey(file, password []byte) (*Key, error) {
	if len(file) > MaxKeyFile {
		return nil, fmt.Errorf("key file: %d bytes, want at most %d", len(file), MaxKeyFile)
	}
	block, rest := pem.Decode(file)
	switch {
	case block == nil || len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("key file: want one PEM block %q", pemPrivate)
	case block.Type != pemPrivate && block.Type != pemCosign1:
		return nil, fmt.Errorf("key file: PEM block %.64q, want %q (make one with 'tally release keygen' or 'cosign import-key-pair')", block.Type, pemPrivate)
	case !json.Valid(block.Bytes):
		return nil, errors.New("key file: the PEM block holds no JSON")
	}
	der, err := encrypted.Decrypt(block.Bytes, password)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", ErrPassword)
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	priv, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key file: %T, want ECDSA on P-256", k)
	}
	return newKey(priv)
}
