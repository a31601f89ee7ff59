package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tally/verity"
	"tally/verity/rootsig"
)

// A signer is a key whose certificate a firmware may hold.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// signers sign root hashes; the stranger's certificate is nowhere.
type signers struct{ rsa, ecdsa, stranger signer }

func newSigners(t *testing.T) *signers {
	t.Helper()
	make := func(name string, key crypto.Signer, err error) signer {
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return signer{cert, key}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	a := make("rsa", r, err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b := make("ecdsa", e, err)
	s, err := rsa.GenerateKey(rand.Reader, 2048)
	return &signers{a, b, make("stranger", s, err)}
}

func (s signer) sign(root verity.RootHash) []byte {
	sig, err := rootsig.Sign(rand.Reader, root, s.cert, s.key)
	if err != nil {
		panic(err)
	}
	return sig
}

func otherRoot(root verity.RootHash) verity.RootHash {
	b := root.Bytes()
	b[0] ^= 1
	other, err := verity.NewRootHash(b)
	if err != nil {
		panic(err)
	}
	return other
}

// The vendor of the variable db, and the type of its lists of certificates (UEFI 2.10, 32.4 and 32.6.1), as
// they lie in memory.
var (
	imageSecurity = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	certX509      = [16]byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
)

// enrolled is a copy of a firmware with a blank variable store in front, with the certificates in its db.
func (s *signers) enrolled(t *testing.T, firmware string) string {
	t.Helper()
	le := binary.LittleEndian
	var db []byte // an EFI_SIGNATURE_LIST for each
	for _, cert := range [][]byte{s.rsa.cert.Raw, s.ecdsa.cert.Raw} {
		db = append(db, certX509[:]...)
		for _, n := range []int{28 + 16 + len(cert), 0, 16 + len(cert)} {
			db = le.AppendUint32(db, uint32(n))
		}
		db = append(append(db, "owner, 16 bytes."...), cert...)
	}
	name := []byte("d\x00b\x00\x00\x00")
	// AUTHENTICATED_VARIABLE_HEADER (edk2 VariableFormat.h): added; non-volatile, for boot services and at
	// runtime, with time-based authentication.
	v := make([]byte, 60)
	le.PutUint16(v, 0x55aa)
	v[2] = 0x3f
	le.PutUint32(v[4:], 0x27)
	le.PutUint16(v[16:], 2026)
	v[18], v[19] = 1, 1
	le.PutUint32(v[36:], uint32(len(name)))
	le.PutUint32(v[40:], uint32(len(db)))
	copy(v[44:], imageSecurity[:])
	v = append(append(v, name...), db...)

	fw := read(t, firmware)
	at := int(le.Uint16(fw[48:])) + 28 // behind the headers of volume and store
	if string(fw[40:44]) != "_FVH" || le.Uint16(fw[at:]) != 0xffff {
		t.Fatalf("%s: want a blank variable store at its start", firmware)
	}
	copy(fw[at:], v)
	file := filepath.Join(t.TempDir(), "flash.fd")
	if err := os.WriteFile(file, fw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
