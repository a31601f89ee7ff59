// Package attesttest is fake attestation hardware: an AMD secure processor and an Intel platform that sign
// what tests want said, in the real formats, under roots of their own. Verification that trusts the vendors'
// roots refuses all of it; a test must name the fake roots to have it accepted.
//
// Nothing outside tests imports this package (internal/depstest).
package attesttest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	stest "github.com/google/go-sev-guest/testing"

	"tally/enclave/appraise/amd"
)

// An AMD is a fake SNP machine. Fields may be changed between reports.
type AMD struct {
	Fields  SNPFields
	VLEK    bool   // sign with the VLEK
	Product string // product line of the certificates

	signer *stest.AmdSigner
	crl    []byte
}

// SNPFields are what a report says, named and laid out as in table 23 of the SEV-SNP Firmware ABI.
type SNPFields struct {
	Version                             uint32
	GuestSVN                            uint32
	Policy                              uint64
	FamilyID, ImageID                   [16]byte
	VMPL                                uint32
	CurrentTCB, ReportedTCB             uint64
	CommittedTCB, LaunchTCB             uint64
	PlatformInfo                        uint64
	AuthorKeyEn                         bool
	Measurement                         [48]byte
	HostData                            [32]byte
	IDKeyDigest, AuthorKeyDigest        [48]byte
	ReportID, ReportIDMA                [32]byte
	CPUID                               [3]byte // family, model, stepping; versions 3 and up
	ChipID                              [64]byte
	CurrentFirmware, CommittedFirmware  [3]byte // build, minor, major
	LaunchMitigation, CurrentMitigation uint64
}

// fakeTCB is the TCB of the fake machine: boot loader 4, TEE 0, SNP 24, microcode 219.
const fakeTCB = 4 | 24<<48 | 219<<56

// NewAMD makes a Milan machine in good order: version 3 reports, no debugging, no migration, VMPL 0, alias
// check complete, every TCB equal.
func NewAMD(now time.Time) (*AMD, error) {
	m := &AMD{Product: "Milan"}
	m.Fields = SNPFields{Version: 3, Policy: 1<<17 | 1<<16, CurrentTCB: fakeTCB, ReportedTCB: fakeTCB, CommittedTCB: fakeTCB, LaunchTCB: fakeTCB,
		PlatformInfo: 1 | 1<<5, CPUID: [3]byte{0x19, 0x01, 0x01}, CurrentFirmware: [3]byte{29, 55, 1}, CommittedFirmware: [3]byte{29, 55, 1}}
	copy(m.Fields.ChipID[:], bytes.Repeat([]byte{0xc7}, 64))
	copy(m.Fields.ReportIDMA[:], bytes.Repeat([]byte{0xff}, 32)) // no migration agent
	copy(m.Fields.ReportID[:], "report of a fake machine")
	parts := kds.DecomposeTCBVersion(fakeTCB)
	b := &stest.AmdSignerBuilder{Keys: stest.DefaultAmdKeys(), ProductName: "Milan-B1", CSPID: "tally-fake", HWID: m.Fields.ChipID, TCB: fakeTCB,
		ArkCreationTime: now, AskCreationTime: now, AsvkCreationTime: now, VcekCreationTime: now, VlekCreationTime: now,
		VcekCustom: stest.CertOverride{Extensions: stest.CustomExtensions(parts, m.Fields.ChipID[:], "", "Milan-B1")},
		VlekCustom: stest.CertOverride{Extensions: stest.CustomExtensions(parts, nil, "tally-fake", "Milan")}}
	var err error
	if m.signer, err = b.TestOnlyCertChain(); err != nil {
		return nil, fmt.Errorf("attesttest: %w", err)
	}
	return m, nil
}

// Roots are the fake roots.
func (m *AMD) Roots() *amd.Roots {
	return &amd.Roots{ARK: m.signer.Ark, ASK: m.signer.Ask, ASVK: m.signer.Asvk}
}

// RootsPEM are the fake roots as a policy's file: ARK, ASK, ASVK.
func (m *AMD) RootsPEM() []byte {
	var b []byte
	for _, c := range []*x509.Certificate{m.signer.Ark, m.signer.Ask, m.signer.Asvk} {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// Endorsements are the certificates that a host would add, and the revocation list, when Revoke made one.
func (m *AMD) Endorsements() ([]byte, error) {
	certs := map[string][]byte{abi.VcekGUID: m.signer.Vcek.Raw, abi.VlekGUID: m.signer.Vlek.Raw, abi.AskGUID: m.signer.Ask.Raw, abi.ArkGUID: m.signer.Ark.Raw}
	if m.crl != nil {
		certs[amd.CRLGUID] = m.crl
	}
	return amd.Table(certs)
}

// Revoke makes AMD's revocation list, valid for a week from now; signer says whether who signed the certificate in use, of
// VCEKs or of VLEKs, is on it.
func (m *AMD) Revoke(now time.Time, signer bool) error {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(7 * 24 * time.Hour), SignatureAlgorithm: x509.SHA384WithRSAPSS}
	if signer {
		issuer := m.signer.Ask
		if m.VLEK {
			issuer = m.signer.Asvk
		}
		t.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: issuer.SerialNumber, RevocationTime: now}}
	}
	var err error
	m.crl, err = x509.CreateRevocationList(random, t, m.signer.Ark, m.signer.Keys.Ark)
	return err
}

// Platform returns "snp".
func (m *AMD) Platform() string { return "snp" }

// Attest signs a report with reportData: AMD is an enclave.Attester.
func (m *AMD) Attest(_ context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	if report, err = m.Report(reportData); err != nil {
		return nil, nil, err
	}
	endorsements, err = m.Endorsements()
	return report, endorsements, err
}

// Report signs the fields with reportData.
func (m *AMD) Report(reportData [64]byte) ([]byte, error) {
	raw := m.Fields.layout(reportData)
	var signer uint32
	if m.VLEK {
		signer = 1 << 2
	}
	if m.Fields.AuthorKeyEn {
		signer |= 1
	}
	binary.LittleEndian.PutUint32(raw[0x48:], signer)
	return m.Sign(raw)
}

// Sign replaces the signature of a report, whatever it says.
func (m *AMD) Sign(raw []byte) ([]byte, error) {
	out := bytes.Clone(raw)
	clear(out[0x2a0:])
	r, s, err := m.signer.Sign(abi.SignedComponent(out))
	if err != nil {
		return nil, err
	}
	return out, abi.SetSignature(r, s, out)
}

func (f *SNPFields) layout(reportData [64]byte) []byte {
	raw, le := make([]byte, amd.ReportSize), binary.LittleEndian
	for at, v := range map[int]uint32{0x00: f.Version, 0x04: f.GuestSVN, 0x30: f.VMPL, 0x34: 1} {
		le.PutUint32(raw[at:], v)
	}
	for at, v := range map[int]uint64{0x08: f.Policy, 0x38: f.CurrentTCB, 0x40: f.PlatformInfo, 0x180: f.ReportedTCB, 0x1e0: f.CommittedTCB, 0x1f0: f.LaunchTCB} {
		le.PutUint64(raw[at:], v)
	}
	for at, v := range map[int][]byte{0x10: f.FamilyID[:], 0x20: f.ImageID[:], 0x50: reportData[:], 0x90: f.Measurement[:], 0xc0: f.HostData[:],
		0xe0: f.IDKeyDigest[:], 0x110: f.AuthorKeyDigest[:], 0x140: f.ReportID[:], 0x160: f.ReportIDMA[:], 0x1a0: f.ChipID[:],
		0x1e8: f.CurrentFirmware[:], 0x1ec: f.CommittedFirmware[:]} {
		copy(raw[at:], v)
	}
	if f.Version >= 3 {
		copy(raw[0x188:], f.CPUID[:])
	}
	if f.Version >= 5 {
		le.PutUint64(raw[0x1f8:], f.LaunchMitigation)
		le.PutUint64(raw[0x200:], f.CurrentMitigation)
	}
	return raw
}
