package appraise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"tally/enclave/appraise/tpm"
	"tally/enclave/evidence"
	"tally/measure"
)

// A software TPM signs what its host likes.
type softTPM struct {
	key *ecdsa.PrivateKey
	pcr map[uint][32]byte
}

func (*softTPM) Platform() string { return vtpmPlatform }

func (m *softTPM) Attest(t testing.TB, rd [64]byte) (report, endorsements []byte) {
	t.Helper()
	sized := func(b []byte) []byte { return append([]byte{0, byte(len(b))}, b...) }
	attest := slices.Concat([]byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 0}, sized(tpm.Qualifying(rd)), make([]byte, 17+8))
	selection, h := [3]byte{}, sha256.New()
	for i := range uint(24) {
		if v, ok := m.pcr[i]; ok {
			selection[i/8] |= 1 << (i % 8)
			h.Write(v[:])
		}
	}
	attest = slices.Concat(attest, []byte{0, 0, 0, 1, 0, 0x0b, 3}, selection[:], sized(h.Sum(nil)))
	sum := sha256.Sum256(attest)
	r, s, err := ecdsa.Sign(rand.Reader, m.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	point, err := m.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public := slices.Concat([]byte{0, 0x23, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10}, sized(point[1:33]), sized(point[33:]))
	report, err = tpm.Marshal(attest, slices.Concat([]byte{0, 0x18, 0, 0x0b}, sized(r.Bytes()), sized(s.Bytes())), public, m.pcr)
	if err != nil {
		t.Fatal(err)
	}
	return report, nil
}

func softMachine(t testing.TB) (*softTPM, Policy, *measure.ReferenceValues) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m, digests := &softTPM{key, map[uint][32]byte{}}, map[string][]byte{}
	for _, i := range tpm.PCRs() {
		v := [32]byte{byte(i) + 1}
		if i == 12 || i == 13 {
			v = [32]byte{}
		}
		m.pcr[i], digests[fmt.Sprintf("pcr%d", i)] = v, v[:]
	}
	hexOf := func(i uint) []string { return []string{fmt.Sprintf("%x", m.pcr[i])} }
	p := Policy{Platforms: []string{vtpmPlatform}, Freshness: FreshNone, VTPM: &VTPM{PCR0: hexOf(0), PCR2: hexOf(2)}}
	return m, p, values("vtpm", digests, measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot)
}

func TestVTPM(t *testing.T) {
	m, p, rv := softMachine(t)
	r, err := Appraise(about(t, m, rv), p)
	if err != nil || !r.Insecure {
		t.Fatalf("%v; insecure: %v", err, r.Insecure)
	}
	azure, _, _ := azureVM(t)
	for name, c := range map[string]struct {
		machine func(*softTPM)
		edit    func(*evidence.Document)
		reason  Reason
		words   string
	}{
		"endorsements":   {nil, func(d *evidence.Document) { d.Endorsements = []byte{1} }, BadEvidence, "with endorsements"},
		"an Azure TPM's": {nil, func(d *evidence.Document) { d.Report, _ = azure.Attest(t, claims.ReportData()) }, BadEvidence, "not ECC"},
		"the signature":  {nil, func(d *evidence.Document) { d.Report[20] ^= 1 }, BadSignature, "not the key's"},
		"other claims":   {nil, func(d *evidence.Document) { d.Claims.Epoch++ }, BadReportData, "qualifying data"},
		"firmware":       {func(m *softTPM) { m.pcr[0] = [32]byte{9} }, nil, BadMeasurement, "want pcr0"},
		"another kernel": {func(m *softTPM) { m.pcr[4] = [32]byte{9} }, nil, BadMeasurement, "want pcr4"},
		"no PCR 2":       {func(m *softTPM) { delete(m.pcr, 2) }, nil, BadMeasurement, "pcr2 none"},
		"no PCR 11":      {func(m *softTPM) { delete(m.pcr, 11) }, nil, BadMeasurement, "want pcr11"},
		"no PCR 12":      {func(m *softTPM) { delete(m.pcr, 12) }, nil, BadMeasurement, "pcr12 none"},
		"a credential":   {func(m *softTPM) { m.pcr[12] = [32]byte{9} }, nil, BadMeasurement, "want pcr12 0000"},
	} {
		m, p, rv := softMachine(t)
		if c.machine != nil {
			c.machine(m)
		}
		in := about(t, m, rv)
		if c.edit != nil {
			in.Document = edited(t, in, c.edit)
		}
		refused(t, name, in, p, c.reason, c.words)
	}
}
