package attesttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

var random = rand.Reader

// An Intel is a fake TDX platform with everything that Intel says about it. Fields may be changed between
// quotes and statements.
type Intel struct {
	Fields TDXFields
	Says   Statements

	root, pckCA, pck, tcb  *identity
	attestation            *ecdsa.PrivateKey
	rootRevoked, pckRevoke []x509.RevocationListEntry
	now                    time.Time
}

// TDXFields are what a quote says, as in the TDX 1.0 body of "TDX DCAP Quoting Library API", A.3.2.
type TDXFields struct {
	TeeTCBSVN                                [16]byte
	MRSEAM, MRSignerSEAM                     [48]byte
	SEAMAttributes, TDAttributes, XFAM       [8]byte
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [4][48]byte

	TDX15       bool // quote version 5 with the body of TDX 1.5, which the two fields below are of
	TeeTCBSVN2  [16]byte
	MRServiceTD [48]byte

	QESVN, PCESVN uint16   // of the header
	QEVendor      [16]byte // Intel's, by NewIntel
	QEISVSVN      uint16   // of the quoting enclave's report
}

const (
	fakeFMSPC = "f1a6e0000000"
	fakePPID  = "fa4e00000000000000000000000000fa"
)

// qeMRSigner signs the fake quoting enclave.
var qeMRSigner = sha256.Sum256([]byte("a fake quoting enclave's signer"))

// NewIntel makes a platform in good order: TDX module 1.5, up to date, no debugging, SEPT_VE_DISABLE set.
func NewIntel(now time.Time) (*Intel, error) {
	m := &Intel{now: now}
	m.Fields = TDXFields{TeeTCBSVN: [16]byte{7, 1, 6}, TDAttributes: [8]byte{0, 0, 0, 0x10}, XFAM: [8]byte{0xe7, 2, 6},
		QEVendor: [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}, QEISVSVN: 8}
	copy(m.Fields.MRSEAM[:], bytes.Repeat([]byte{0x5e}, 48))
	m.Says = Statements{Platform: "UpToDate", Module: "UpToDate", QE: "UpToDate", EvaluationNumber: 18, Issued: now, NextUpdate: now.Add(30 * 24 * time.Hour)}
	var err error
	if m.attestation, err = ecdsa.GenerateKey(elliptic.P256(), random); err != nil {
		return nil, err
	}
	return m, m.certify()
}

// Root is the fake root.
func (m *Intel) Root() *x509.Certificate { return m.root.cert }

// RootPEM is the fake root as a policy's file.
func (m *Intel) RootPEM() []byte { return m.root.pem() }

// RevokePCK puts the platform's certificate on the list; RevokeCA its signer's.
func (m *Intel) RevokePCK() {
	m.pckRevoke = append(m.pckRevoke, x509.RevocationListEntry{SerialNumber: m.pck.cert.SerialNumber, RevocationTime: m.now})
}

// RevokeCA puts the signer of platforms' certificates on the root's list.
func (m *Intel) RevokeCA() {
	m.rootRevoked = append(m.rootRevoked, x509.RevocationListEntry{SerialNumber: m.pckCA.cert.SerialNumber, RevocationTime: m.now})
}

// PPID names the fake platform: 32 hex digits.
func (m *Intel) PPID() string { return fakePPID }

// Platform returns "tdx".
func (m *Intel) Platform() string { return "tdx" }

// Attest signs a quote with reportData: Intel is an enclave.Attester, which adds the collateral.
func (m *Intel) Attest(_ context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	if report, err = m.Quote(reportData); err != nil {
		return nil, nil, err
	}
	endorsements, err = m.Collateral()
	return report, endorsements, err
}

// Quote signs the fields with reportData.
func (m *Intel) Quote(reportData [64]byte) ([]byte, error) {
	f, le := &m.Fields, binary.LittleEndian
	version, body := uint16(4), f.body(reportData)
	if f.TDX15 {
		version, body = 5, append([]byte{3, 0, 0x88, 2, 0, 0}, append(append(body, f.TeeTCBSVN2[:]...), f.MRServiceTD[:]...)...)
	}
	head := le.AppendUint16(nil, version)
	head = le.AppendUint16(head, 2) // ECDSA-256-with-P-256
	head = le.AppendUint32(head, 0x81)
	head = le.AppendUint16(head, f.PCESVN)
	head = le.AppendUint16(head, f.QESVN)
	head = append(append(head, f.QEVendor[:]...), make([]byte, 20)...)
	signed := append(head, body...)
	sig, err := signRaw(m.attestation, signed)
	if err != nil {
		return nil, err
	}
	key := rawPoint(&m.attestation.PublicKey)
	certification, err := m.certification(key)
	if err != nil {
		return nil, err
	}
	auth := append(append(sig, key...), certification...)
	return append(le.AppendUint32(signed, uint32(len(auth))), auth...), nil
}

func (f *TDXFields) body(reportData [64]byte) []byte {
	var b []byte
	for _, x := range [][]byte{f.TeeTCBSVN[:], f.MRSEAM[:], f.MRSignerSEAM[:], f.SEAMAttributes[:], f.TDAttributes[:], f.XFAM[:], f.MRTD[:], f.MRConfigID[:],
		f.MROwner[:], f.MROwnerConfig[:], f.RTMR[0][:], f.RTMR[1][:], f.RTMR[2][:], f.RTMR[3][:], reportData[:]} {
		b = append(b, x...)
	}
	return b
}

// certification is the quoting enclave's report about the attestation key, signed by the platform's
// certified key (certification data of type 6, which holds one of type 5).
func (m *Intel) certification(key []byte) ([]byte, error) {
	le, auth := binary.LittleEndian, bytes.Repeat([]byte{0xa5}, 32)
	qe := make([]byte, 384)
	copy(qe[48:], []byte{0x11}) // ATTRIBUTES: INIT, PROVISION_KEY… as its identity says
	copy(qe[64:], bytes.Repeat([]byte{0xe1}, 32))
	copy(qe[128:], qeMRSigner[:])
	le.PutUint16(qe[256:], 2) // ISVPRODID
	le.PutUint16(qe[258:], m.Fields.QEISVSVN)
	sum := sha256.Sum256(append(bytes.Clone(key), auth...))
	copy(qe[320:], sum[:])
	sig, err := signRaw(m.pck.key, qe)
	if err != nil {
		return nil, err
	}
	chain := append(append(m.pck.pem(), m.pckCA.pem()...), m.root.pem()...)
	inner := append(qe, sig...)
	inner = append(le.AppendUint16(inner, uint16(len(auth))), auth...)
	inner = append(le.AppendUint32(le.AppendUint16(inner, 5), uint32(len(chain))), chain...)
	return append(le.AppendUint32(le.AppendUint16(nil, 6), uint32(len(inner))), inner...), nil
}

// signRaw returns r || s, 32 bytes each, over the SHA-256 of b.
func signRaw(key *ecdsa.PrivateKey, b []byte) ([]byte, error) {
	sum := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(random, key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("attesttest: %w", err)
	}
	return append(pad32(r), pad32(s)...), nil
}

func pad32(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

// rawPoint is X and Y of a key on P-256, 64 bytes.
func rawPoint(k *ecdsa.PublicKey) []byte {
	b, err := k.Bytes()
	if err != nil {
		panic(err) // the key was made here
	}
	return b[1:] // behind the form: uncompressed
}

// An identity is a key with its certificate.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (i *identity) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}
