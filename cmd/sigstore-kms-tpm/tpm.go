//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

const (
	device = "/dev/tpmrm0" // through the kernel's resource manager

	// The owner's part of the persistent handles (TCG registry of reserved TPM 2.0 handles, 2.3.1).
	firstHandle, lastHandle = 0x81000000, 0x817fffff
)

// A store is the keys of TPMs.
type store struct {
	ownerAuth, keyAuth []byte
}

// parseRef splits HANDLE[@PATH], before which older clients leave tpm://.
func parseRef(ref string) (tpm2.TPMHandle, string, error) {
	id, path, at := strings.Cut(strings.TrimPrefix(ref, "tpm://"), "@")
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil || n < firstHandle || n > lastHandle || at && path == "" {
		return 0, "", fmt.Errorf("key reference %.128q: want tpm://HANDLE or tpm://HANDLE@PATH, HANDLE from %x to %x", ref, firstHandle, lastHandle)
	}
	if !at {
		path = device
	}
	return tpm2.TPMHandle(n), path, nil
}

func open(path string) (transport.TPMCloser, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case st.Mode()&os.ModeSocket != 0:
		return linuxudstpm.Open(path)
	}
	return linuxtpm.Open(path)
}

// with opens the TPM of ref and finds the key's public area.
func with(ref string, do func(t transport.TPM, h tpm2.TPMHandle, pub *ecdsa.PublicKey, name tpm2.TPM2BName) error) error {
	h, path, err := parseRef(ref)
	if err != nil {
		return err
	}
	t, err := open(path)
	if err != nil {
		return err
	}
	defer t.Close()
	r, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return fmt.Errorf("the TPM has no key at %x: make one with 'tally release keygen --key tpm://%s'", uint32(h), strings.TrimPrefix(ref, "tpm://"))
	} else if err != nil {
		return fmt.Errorf("handle %x: %w", uint32(h), err)
	}
	pub, err := publicKey(r.OutPublic)
	if err != nil {
		return fmt.Errorf("handle %x: %w", uint32(h), err)
	}
	return do(t, h, pub, r.Name)
}

// publicKey accepts the keys that releases can be signed with.
func publicKey(b tpm2.TPM2BPublic) (*ecdsa.PublicKey, error) {
	p, err := b.Contents()
	if err != nil {
		return nil, err
	}
	if !p.ObjectAttributes.SignEncrypt || p.ObjectAttributes.Restricted {
		return nil, errors.New("the key is not one that signs what it is given")
	}
	k, err := tpm2.Pub(*p)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok || pub.Params().BitSize != 256 {
		return nil, errors.New("want an ECDSA key on P-256")
	}
	return pub, nil
}

// Public implements kmsplugin.Store.
func (s *store) Public(ref string) (pub *ecdsa.PublicKey, err error) {
	err = with(ref, func(_ transport.TPM, _ tpm2.TPMHandle, k *ecdsa.PublicKey, _ tpm2.TPM2BName) error {
		pub = k
		return nil
	})
	return pub, err
}

// scheme is ECDSA over SHA-256.
func scheme() tpm2.TPMTSigScheme {
	return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
}

// Sign implements kmsplugin.Store.
func (s *store) Sign(ref string, digest []byte) (sig []byte, err error) {
	err = with(ref, func(t transport.TPM, h tpm2.TPMHandle, pub *ecdsa.PublicKey, name tpm2.TPM2BName) error {
		r, err := tpm2.Sign{
			KeyHandle: tpm2.AuthHandle{Handle: h, Name: name, Auth: tpm2.PasswordAuth(s.keyAuth)},
			Digest:    tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme(), Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(t)
		if errors.Is(err, tpm2.TPMRCAuthFail) {
			return fmt.Errorf("TPM_KEY_AUTH is not the key's: %w", err)
		} else if err != nil {
			return err
		}
		ec, err := r.Signature.Signature.ECDSA()
		if err != nil {
			return err
		}
		sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)})
		return err
	})
	return sig, err
}

// template describes a key that the TPM makes, keeps, and uses for signatures only. A primary key is a function
// of the owner's seed and this template; the random unique field makes every key a new one.
func (s *store) template() (tpm2.TPMTPublic, error) {
	x, y := make([]byte, 32), make([]byte, 32)
	for _, b := range [][]byte{x, y} {
		if _, err := rand.Read(b); err != nil {
			return tpm2.TPMTPublic{}, err
		}
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}}),
	}, nil
}

// Create implements kmsplugin.Store.
func (s *store) Create(ref string) (*ecdsa.PublicKey, error) {
	h, path, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	t, err := open(path)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if _, err := (tpm2.ReadPublic{ObjectHandle: h}).Execute(t); err == nil {
		return nil, fmt.Errorf("the TPM has an object at %x: a key is never overwritten", uint32(h))
	}
	template, err := s.template()
	if err != nil {
		return nil, err
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(s.ownerAuth)}
	r, err := tpm2.CreatePrimary{
		PrimaryHandle: owner, InPublic: tpm2.New2B(template),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: s.keyAuth}}},
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: r.ObjectHandle}.Execute(t)
	_, err = tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}, PersistentHandle: h}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("keeping the key at %x: %w", uint32(h), err)
	}
	return publicKey(r.OutPublic)
}
