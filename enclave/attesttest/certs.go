package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// crlURL is where the fake certificates say that lists are; nobody goes there.
const crlURL = "https://crl.invalid/root.der"

// certify makes the chain, with the names and extensions of Intel's.
func (m *Intel) certify() error {
	ca := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{Subject: subject(name), SerialNumber: big.NewInt(serial), IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	leaf := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{Subject: subject(name), SerialNumber: big.NewInt(serial), KeyUsage: x509.KeyUsageDigitalSignature}
	}
	var err error
	if m.root, err = m.issue(ca("Intel SGX Root CA", 1), nil); err != nil {
		return err
	}
	if m.pckCA, err = m.issue(ca("Intel SGX PCK Platform CA", 2), m.root); err != nil {
		return err
	}
	if m.tcb, err = m.issue(leaf("Intel SGX TCB Signing", 3), m.root); err != nil {
		return err
	}
	t := leaf("Intel SGX PCK Certificate", 4)
	ext, err := sgxExtension()
	if err != nil {
		return err
	}
	t.ExtraExtensions = []pkix.Extension{{Id: pcs.OidSgxExtension, Value: ext}}
	m.pck, err = m.issue(t, m.pckCA)
	return err
}

func subject(name string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: []string{"Fake Intel of tests"}, Country: []string{"US"}}
}

// issue signs t by parent, or by itself.
func (m *Intel) issue(t *x509.Certificate, parent *identity) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, err
	}
	self := &identity{key, t}
	if parent == nil {
		parent = self
	}
	id := sha256.Sum256(rawPoint(&key.PublicKey))
	t.NotBefore, t.NotAfter = m.now.Add(-time.Hour), m.now.Add(10*365*24*time.Hour)
	t.BasicConstraintsValid, t.SubjectKeyId, t.CRLDistributionPoints = true, id[:20], []string{crlURL}
	t.SignatureAlgorithm, t.AuthorityKeyId = x509.ECDSAWithSHA256, parent.cert.SubjectKeyId
	der, err := x509.CreateCertificate(random, t, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		return nil, err
	}
	self.cert, err = x509.ParseCertificate(der)
	return self, err
}

// attribute is one member of Intel's SGX extension ("PCK Certificate and CRL Profile Specification", 1.5).
type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// sgxExtension says PPID, TCB, PCE-ID, FMSPC and the SGX type of the fake platform.
func sgxExtension() ([]byte, error) {
	ppid, err := hex.DecodeString(fakePPID)
	if err != nil {
		return nil, err
	}
	fmspc, err := hex.DecodeString(fakeFMSPC)
	if err != nil {
		return nil, err
	}
	var tcb []attribute
	for i := 1; i <= 16; i++ {
		tcb = append(tcb, attribute{append(append(asn1.ObjectIdentifier{}, pcs.OidTCB...), i), int(platformSVN[i-1])})
	}
	tcb = append(tcb, attribute{pcs.OidPCESvn, platformPCESVN}, attribute{pcs.OidCPUSvn, platformSVN[:]})
	inner, err := asn1.Marshal(tcb)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]attribute{
		{pcs.OidPPID, ppid}, {pcs.OidTCB, asn1.RawValue{FullBytes: inner}}, {pcs.OidPCEID, []byte{0, 0}}, {pcs.OidFMSPC, fmspc},
		{append(append(asn1.ObjectIdentifier{}, pcs.OidSgxExtension...), 5), asn1.Enumerated(1)},
	})
}
