package rootsig

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"testing"

	"tally/verity"
)

// TestStrangeForms changes what the signature itself does not cover: a good signature in another wrapping than the
// kernel needs is refused by name.
func TestStrangeForms(t *testing.T) {
	cert, key := newCert(t, 1)
	root := parseRoot(t, rootHex)
	raw := func(tag int) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: []byte{5, 0}}
	}
	params := asn1.RawValue{FullBytes: []byte{2, 1, 1}}
	for want, change := range map[string]func(*signedData){
		"revocation lists, want none":     func(d *signedData) { d.CRLs = raw(1) },
		"2 signers, want 1":               func(d *signedData) { d.Signers = append(d.Signers, d.Signers[0]) },
		"0 signers, want 1":               func(d *signedData) { d.Signers = nil },
		"digest algorithms, want":         func(d *signedData) { d.DigestAlgorithms = append(d.DigestAlgorithms, d.DigestAlgorithms[0]) },
		"algorithm with parameters, want": func(d *signedData) { d.Signers[0].SignatureAlgorithm.Parameters = params },
		"attributes, want none":           func(d *signedData) { d.Signers[0].UnsignedAttributes = raw(1) },
		"algorithm 1.2.840.10045.4.3.3":   func(d *signedData) { d.Signers[0].SignatureAlgorithm.Algorithm = algorithms[1].ecdsa },
		"want issuer and serial number":   func(d *signedData) { d.Signers[0].Signer = asn1.RawValue{FullBytes: []byte{0x30, 0}} },
	} {
		if _, err := Verify(resign(t, root, cert, key, change, nil), root, []*x509.Certificate{cert}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	behind := resign(t, root, cert, key, func(*signedData) {}, []byte{5, 0})
	if _, err := Verify(behind, root, []*x509.Certificate{cert}); err == nil || !strings.Contains(err.Error(), "signed data: 2 bytes behind it") {
		t.Errorf("bytes behind the signed data: %v", err)
	}
	if _, err := Verify(resign(t, root, cert, key, func(*signedData) {}, nil), verity.RootHash{}, []*x509.Certificate{cert}); err == nil || !strings.Contains(err.Error(), "root hash: none") {
		t.Errorf("no root hash: %v", err)
	}
}

// resign signs root, lets change rewrite what stands around the signature, and puts behind after it.
func resign(t *testing.T, root verity.RootHash, cert *x509.Certificate, key crypto.Signer, change func(*signedData), behind []byte) []byte {
	t.Helper()
	sig, err := Sign(rand.Reader, root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var outer contentInfo
	var d signedData
	if _, err := asn1.Unmarshal(sig, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &d); err != nil {
		t.Fatal(err)
	}
	change(&d)
	content, err := asn1.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	out, err := asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(content, behind...)}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNamesOfRSA: the signature of an RSA key stands under rsaEncryption or under its name with the digest (RFC 5754),
// and under no other.
func TestNamesOfRSA(t *testing.T) {
	p := newPair(t, pairs["RSA"]...)
	root := parseRoot(t, rootHex)
	for name, want := range map[string]string{
		oidRSA.String():              "",
		algorithms[0].rsa.String():   "",
		algorithms[1].rsa.String():   "want RSA",
		algorithms[0].ecdsa.String(): "want RSA",
	} {
		sig := resign(t, root, p.cert, p.key, func(d *signedData) {
			for _, a := range []asn1.ObjectIdentifier{oidRSA, algorithms[0].rsa, algorithms[1].rsa, algorithms[0].ecdsa} {
				if a.String() == name {
					d.Signers[0].SignatureAlgorithm = pkix.AlgorithmIdentifier{Algorithm: a}
				}
			}
		}, nil)
		if _, err := Verify(sig, root, []*x509.Certificate{p.cert}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("algorithm %s: %v, want %q", name, err, want)
		}
	}
}

// A foreignKey is a signer whose public key says nothing about equality.
type foreignKey struct{}

func (foreignKey) Public() crypto.PublicKey { return "key" }
func (foreignKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("asked for a signature")
}

func TestWeakAndForeignKeys(t *testing.T) {
	root := parseRoot(t, rootHex)
	cert, _ := newCert(t, 1)
	if _, err := Sign(rand.Reader, root, cert, foreignKey{}); err == nil || !strings.Contains(err.Error(), "not the key's") {
		t.Errorf("a key that compares with none: %v", err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), PublicKey: weak.Public(), RawIssuer: []byte{0x30, 0}}
	if _, err := Sign(rand.Reader, root, c, weak); err == nil || !strings.Contains(err.Error(), "RSA of 1024 bits") {
		t.Errorf("RSA of 1024 bits: %v", err)
	}
	// X25519 in PKCS #8 is a key, and none that signs.
	der := append([]byte{0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20}, make([]byte, 32)...)
	if _, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil || !strings.Contains(err.Error(), "want RSA or ECDSA") {
		t.Errorf("X25519: %v", err)
	}
	encrypted := "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"
	if _, err := ParseKey([]byte(encrypted)); err == nil || !strings.Contains(err.Error(), "key: encrypted, want") {
		t.Errorf("encrypted EC key: %v", err)
	}
}

// TestDamagedCertificates: a block that cannot be read is an error, not one signer fewer.
func TestDamagedCertificates(t *testing.T) {
	cert, _ := newCert(t, 1)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	if _, err := ParseCertificates([]byte("what it is for\n" + text + "\n")); err != nil {
		t.Errorf("text around the block: %v", err)
	}
	half := text[:len(text)/2] + "\n"
	for name, damaged := range map[string]string{"behind": text + half, "in front": half + text, "between": text + half + text} {
		if _, err := ParseCertificates([]byte(damaged)); err == nil || !strings.Contains(err.Error(), "PEM blocks cannot be read") {
			t.Errorf("half a block %s: %v", name, err)
		}
	}
}
