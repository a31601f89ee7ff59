package attesttest

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"tally/enclave/appraise/intel"
)

// platformSVN and platformPCESVN are the fake platform's TCB.
var platformSVN = [16]byte{7, 7, 2, 2, 3, 1, 0, 3}

const platformPCESVN = 11

// Statements are what Intel says about the fake platform.
type Statements struct {
	Platform, Module, QE string // TCB status of each
	EvaluationNumber     int
	Issued, NextUpdate   time.Time
}

// Collateral signs the statements and lists.
func (m *Intel) Collateral() ([]byte, error) {
	info, err := m.signed("tcbInfo", m.tcbInfo())
	if err != nil {
		return nil, err
	}
	qe, err := m.signed("enclaveIdentity", m.qeIdentity())
	if err != nil {
		return nil, err
	}
	rootList, err := m.list(m.root, m.rootRevoked)
	if err != nil {
		return nil, err
	}
	pckList, err := m.list(m.pckCA, m.pckRevoke)
	if err != nil {
		return nil, err
	}
	signers := string(m.tcb.pem()) + string(m.root.pem())
	c := &intel.Collateral{TCBInfo: info, TCBInfoChain: signers, QEIdentity: qe, QEIdentityChain: signers,
		PCKCRL: pckList, RootCRL: rootList}
	return c.Marshal()
}

// signed is the body of an answer: a statement and its signature, over exactly the bytes that stand there.
func (m *Intel) signed(name string, statement map[string]any) (string, error) {
	text, err := json.Marshal(statement)
	if err != nil {
		return "", err
	}
	sig, err := signRaw(m.tcb.key, text)
	return fmt.Sprintf(`{%q:%s,"signature":%q}`, name, text, hex.EncodeToString(sig)), err
}

func (m *Intel) tcbInfo() map[string]any {
	components := func(svn []byte) (all []map[string]any) {
		for _, v := range svn {
			all = append(all, map[string]any{"svn": v})
		}
		return all
	}
	level := map[string]any{"sgxtcbcomponents": components(platformSVN[:]), "pcesvn": platformPCESVN, "tdxtcbcomponents": components(m.Fields.TeeTCBSVN[:])}
	zeros, ones := strings.Repeat("0", 96), strings.Repeat("F", 16)
	return map[string]any{
		"id": "TDX", "version": 3, "issueDate": date(m.Says.Issued), "nextUpdate": date(m.Says.NextUpdate), "fmspc": fakeFMSPC, "pceId": "0000",
		"tcbType": 0, "tcbEvaluationDataNumber": m.Says.EvaluationNumber,
		"tdxModule": map[string]any{"mrsigner": zeros, "attributes": zeros[:16], "attributesMask": ones},
		"tdxModuleIdentities": []any{map[string]any{"id": "TDX_01", "mrsigner": zeros, "attributes": zeros[:16], "attributesMask": ones,
			"tcbLevels": []any{map[string]any{"tcb": map[string]any{"isvsvn": 7}, "tcbDate": date(m.Says.Issued), "tcbStatus": m.Says.Module}}}},
		"tcbLevels": []any{map[string]any{"tcb": level, "tcbDate": date(m.Says.Issued), "tcbStatus": m.Says.Platform}},
	}
}

func (m *Intel) qeIdentity() map[string]any {
	return map[string]any{
		"id": "TD_QE", "version": 2, "issueDate": date(m.Says.Issued), "nextUpdate": date(m.Says.NextUpdate), "tcbEvaluationDataNumber": m.Says.EvaluationNumber,
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF", "attributes": "11" + strings.Repeat("0", 30), "attributesMask": strings.Repeat("F", 32),
		"mrsigner": hex.EncodeToString(qeMRSigner[:]), "isvprodid": 2,
		"tcbLevels": []any{map[string]any{"tcb": map[string]any{"isvsvn": 8}, "tcbDate": date(m.Says.Issued), "tcbStatus": m.Says.QE}},
	}
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (m *Intel) list(by *identity, revoked []x509.RevocationListEntry) ([]byte, error) {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: m.now, NextUpdate: m.now.Add(30 * 24 * time.Hour), RevokedCertificateEntries: revoked}
	return x509.CreateRevocationList(random, t, by.cert, by.key)
}
