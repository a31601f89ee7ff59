package amd_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify/testdata"

	"tally/enclave/appraise/amd"
	"tally/enclave/attesttest"
)

// now lies in the validity of the fake chain, whose notBefore is the zero time.
var now = time.Unix(1767225600, 0)

func machine(t testing.TB) *attesttest.AMD {
	t.Helper()
	m, err := attesttest.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sign(t testing.TB, m *attesttest.AMD) (report, endorsements []byte) {
	t.Helper()
	report, endorsements, err := m.Attest(t.Context(), [64]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return report, endorsements
}

// realTime lies in the validity of the certificate of the real report below.
var realTime = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)

// TestRealReport verifies a Milan machine's report under AMD's own roots, offline.
func TestRealReport(t *testing.T) {
	for name, cert := range map[string][]byte{"der": testdata.VcekBytes, "pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testdata.VcekBytes})} {
		r, err := amd.Verify(testdata.AttestationBytes, cert, nil, realTime)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Root != "AMD" || r.Product != "Milan" || r.Signer != "vcek" || r.Revocation != "" {
			t.Errorf("%s: %s %s %s %q", name, r.Root, r.Product, r.Signer, r.Revocation)
		}
	}
}

// TestRealReportBitByBit flips a bit in every byte of the real report; no one is accepted.
func TestRealReportBitByBit(t *testing.T) {
	for i := range testdata.AttestationBytes {
		b := bytes.Clone(testdata.AttestationBytes)
		b[i] ^= 1 << (i % 8)
		if _, err := amd.Verify(b, testdata.VcekBytes, nil, realTime); err == nil {
			t.Errorf("byte %#x: accepted", i)
		}
	}
}

func TestFakeMachine(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		for _, vlek := range []bool{false, true} {
			m := machine(t)
			m.Fields.Version, m.VLEK = version, vlek
			report, end := sign(t, m)
			r, err := amd.Verify(report, end, m.Roots(), now)
			if err != nil {
				t.Fatalf("version %d, VLEK %v: %v", version, vlek, err)
			}
			if want := map[bool]string{false: "vcek", true: "vlek"}[vlek]; r.Signer != want || r.Root == "AMD" || len(r.Root) != 64 || uint64(r.Certificate) != m.Fields.ReportedTCB {
				t.Errorf("signer %s, root %s, certificate %x", r.Signer, r.Root, r.Certificate)
			}
			if _, err := amd.Verify(report, end, nil, now); err == nil {
				t.Error("AMD's roots accept a fake machine")
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	m := machine(t)
	report, end := sign(t, m)
	other := machine(t)
	other.Fields.CPUID = [3]byte{0x19, 0x11, 1} // a Genoa by the report, a Milan by the certificate
	genoa, _ := sign(t, other)
	resigned := func(at int, v byte) []byte {
		b := bytes.Clone(report)
		b[at] = v
		b, err := m.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	only := func(certs map[string][]byte) []byte {
		b, err := amd.Table(certs)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		report, end []byte
		at          time.Time
		want        string
	}{
		"short report":          {report[:1183], end, now, "1183 bytes, want 1184"},
		"version 1":             {resigned(0, 1), end, now, "SNP report: "},
		"version 6":             {resigned(0, 6), end, now, "version 6, want 2 to 5"},
		"reserved bytes":        {resigned(0x29f, 1), end, now, ""},
		"signature algorithm":   {resigned(0x34, 2), end, now, "algo"},
		"signed by nobody":      {func() []byte { b := bytes.Clone(report); b[0x48] = 7 << 2; return b }(), end, now, "want VCEK (0) or VLEK (1)"},
		"other product":         {genoa, end, now, "of a Genoa, its vcek is for a Milan"},
		"no endorsements":       {report, nil, now, "0 bytes, want 1 to"},
		"long endorsements":     {report, make([]byte, amd.MaxEndorsements+1), now, "want 1 to"},
		"not a table":           {report, []byte("hello"), now, "neither a certificate nor"},
		"PEM and more":          {report, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tableOf(t, end, abi.VcekGUID)}), 'x'), now, "SNP endorsements: entry 0"},
		"PEM of something":      {report, pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: tableOf(t, end, abi.VcekGUID)}), now, "SNP endorsements: entry 0"},
		"a lone VLEK":           {report, tableOf(t, end, abi.VlekGUID), now, "vcek"},
		"empty table":           {report, make([]byte, 24), now, "without entries"},
		"table without signer":  {report, only(map[string][]byte{amd.CRLGUID: []byte("x")}), now, "no certificate of the vcek"},
		"signer is no cert":     {report, only(map[string][]byte{"63da758d-e664-4564-adc5-f4b93be8accd": []byte("x")}), now, "vcek"},
		"another's certificate": {report, testdata.VcekBytes, now, ""},
		"expired certificate":   {report, end, now.Add(100 * 365 * 24 * time.Hour), "expired"},
	} {
		if _, err := amd.Verify(c.report, c.end, m.Roots(), c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, roots := range map[string]*amd.Roots{"none": {}, "no ASK": {ARK: m.Roots().ARK}, "no ARK": {ASK: m.Roots().ASK}} {
		if _, err := amd.Verify(report, end, roots, now); err == nil || !strings.Contains(err.Error(), "want both ARK and ASK") {
			t.Errorf("roots, %s: %v", name, err)
		}
	}
	m.VLEK = true
	report, end = sign(t, m)
	if _, err := amd.Verify(report, tableOf(t, end, abi.VlekGUID), m.Roots(), now); err != nil {
		t.Errorf("a lone VLEK that signed: %v", err)
	}
	if _, err := amd.Verify(report, end, &amd.Roots{ARK: m.Roots().ARK, ASK: m.Roots().ASK}, now); err == nil || !strings.Contains(err.Error(), "no root to sign VLEK") {
		t.Errorf("a VLEK without a root for it: %v", err)
	}
}

func TestRevocation(t *testing.T) {
	m := machine(t)
	report, _ := sign(t, m)
	check := func(revoked bool, at time.Time) (string, error) {
		if err := m.Revoke(now, revoked); err != nil {
			t.Fatal(err)
		}
		end, err := m.Endorsements()
		if err != nil {
			t.Fatal(err)
		}
		r, err := amd.Verify(report, end, m.Roots(), at)
		if err != nil {
			return "", err
		}
		return r.Revocation, nil
	}
	if text, err := check(false, now.Add(time.Hour)); err != nil || text != "none by the list of 2026-01-01T00:00:00Z" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := check(true, now.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "ASK was revoked") {
		t.Errorf("revoked: %v", err)
	}
	if _, err := check(false, now.Add(8*24*time.Hour)); err == nil || !strings.Contains(err.Error(), "revocation list: of 2026-01-01") {
		t.Errorf("stale list: %v", err)
	}
	if _, err := check(false, now.Add(-time.Second)); err == nil || !strings.Contains(err.Error(), "revocation list: of 2026-01-01") {
		t.Errorf("a list of tomorrow: %v", err)
	}
	m.VLEK = true
	report, _ = sign(t, m)
	if _, err := check(false, now.Add(time.Hour)); err != nil {
		t.Errorf("VLEK: %v", err)
	}
	if _, err := check(true, now.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "ASVK was revoked") {
		t.Errorf("VLEK, revoked: %v", err)
	}
	// A list that AMD did not sign is no list.
	if err := m.Revoke(now, false); err != nil {
		t.Fatal(err)
	}
	_, end := sign(t, m)
	list := bytes.Clone(tableOf(t, end, amd.CRLGUID))
	list[len(list)-1] ^= 1
	forged, err := amd.Table(map[string][]byte{abi.VlekGUID: tableOf(t, end, abi.VlekGUID), amd.CRLGUID: list})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := amd.Verify(report, forged, m.Roots(), now); err == nil || !strings.Contains(err.Error(), "not signed by ARK") {
		t.Errorf("a forged list: %v", err)
	}
	der, err := amd.Table(map[string][]byte{amd.CRLGUID: []byte("hello"), "63da758d-e664-4564-adc5-f4b93be8accd": testdata.VcekBytes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := amd.Verify(testdata.AttestationBytes, der, nil, realTime); err == nil || !strings.Contains(err.Error(), "revocation list") {
		t.Errorf("no list: %v", err)
	}
}

// tableOf returns one entry of a table of certificates.
func tableOf(t testing.TB, table []byte, guid string) []byte {
	t.Helper()
	certs := new(abi.CertTable)
	if err := certs.Unmarshal(table); err != nil {
		t.Fatal(err)
	}
	b, err := certs.GetByGUIDString(guid)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTableRefuses: offsets and lengths are the host's.
func TestTableRefuses(t *testing.T) {
	m := machine(t)
	report, end := sign(t, m)
	for name, c := range map[string]struct {
		change func([]byte)
		want   string
	}{
		"offset beyond":   {func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 1<<31) }, "entry 0: bytes"},
		"length beyond":   {func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 1<<31) }, "entry 0: bytes"},
		"sum wraps":       {func(b []byte) { copy(b[16:], bytes.Repeat([]byte{0xff}, 8)) }, "entry 0: bytes"},
		"nothing in it":   {func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 0) }, "entry 0: bytes"},
		"same name twice": {func(b []byte) { copy(b[24:40], b[:16]) }, "twice"},
		"more than 32": {func(b []byte) { // of a table of so many zeros behind it
			for i := range 33 {
				e := b[24*i:]
				binary.LittleEndian.PutUint32(e, uint32(i+1))
				copy(e[16:24], []byte{0, 0, 0, 0, 1, 0, 0, 0})
			}
			clear(b[24*33:][:24])
		}, "at most 32 entries"},
		"never terminated": {func(b []byte) { copy(b[24*4:], bytes.Repeat([]byte{1}, 24)) }, "entry"},
	} {
		b := bytes.Clone(end)
		c.change(b)
		if _, err := amd.Verify(report, b, m.Roots(), now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzVerify: whatever the bytes, only the two good reports are accepted.
func FuzzVerify(f *testing.F) {
	m := machine(f)
	report, end, err := m.Attest(f.Context(), [64]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(report, end)
	f.Add(testdata.AttestationBytes, testdata.VcekBytes)
	f.Fuzz(func(t *testing.T, r, e []byte) {
		if v, err := amd.Verify(r, e, m.Roots(), now); err == nil && !bytes.Equal(v.Raw[:0x2a0], report[:0x2a0]) {
			t.Fatalf("accepted %x", r)
		}
	})
}

// TestReportWithoutEndorsement: a Milan report that others published has no certificate beside it. What it says
// is read, its reserved bytes included, and it is not verified.
func TestReportWithoutEndorsement(t *testing.T) {
	data, err := os.ReadFile("../../../measure/snp/testdata/vectors/snp-dstack-milan-report.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Digest string `json:"launch_digest"`
		Report []byte `json:"report_base64"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	r, err := amd.Parse(v.Report)
	if err != nil || hex.EncodeToString(r.GetMeasurement()) != v.Digest || r.GetPolicy() != 0x30000 {
		t.Fatalf("%v, %v", r, err)
	}
	for name, end := range map[string][]byte{"none": nil, "another chip's": testdata.VcekBytes} {
		if _, err := amd.Verify(v.Report, end, nil, realTime); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// TestSignedButUnread: what hardware signs in bytes that this version gives no meaning to is refused, and so are versions of
// the report that it does not know.
func TestSignedButUnread(t *testing.T) {
	m, err := attesttest.NewAMD(now)
	if err != nil {
		t.Fatal(err)
	}
	good, end, err := m.Attest(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := amd.Verify(good, end, m.Roots(), now); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0x4c, 0x18c, 0x1ef, 0x218, 0x29f} {
		raw := bytes.Clone(good)
		raw[at] ^= 0x80
		if raw, err = m.Sign(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := amd.Verify(raw, end, m.Roots(), now); err == nil {
			t.Errorf("byte %#x is set: accepted", at)
		}
	}
	for _, version := range []uint32{0, 1, 6} {
		raw := bytes.Clone(good)
		binary.LittleEndian.PutUint32(raw, version)
		if raw, err = m.Sign(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := amd.Verify(raw, end, m.Roots(), now); err == nil {
			t.Errorf("version %d: accepted", version)
		}
	}
	for name, roots := range map[string]*amd.Roots{"no ARK": {ASK: m.Roots().ASK}, "no ASK": {ARK: m.Roots().ARK}} {
		if _, err := amd.Verify(good, end, roots, now); err == nil || !strings.Contains(err.Error(), "want both ARK and ASK") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
