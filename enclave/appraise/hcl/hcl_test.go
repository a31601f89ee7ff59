package hcl

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/amd"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", "trustee", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecorded reads reports recorded on Azure, follows them to AMD's roots, and the quotes beside them to their key.
func TestRecorded(t *testing.T) {
	var genoa struct {
		Quote struct {
			Signature, Message []int
			PCRs               [][]int
		}
		Report []int
		VCEK   string
	}
	if err := json.Unmarshal(vector(t, "evidence-genoa.json"), &genoa); err != nil {
		t.Fatal(err)
	}
	quote := vector(t, "quote.bin")
	for _, c := range []struct {
		product           string
		report, pem       []byte
		signature, attest []byte
	}{
		{"Milan", vector(t, "hcl-report.bin"), vector(t, "vcek.pem"), quote[8 : 8+256], quote[8+256+8 : 8+256+8+binary.LittleEndian.Uint64(quote[8+256:])]},
		{"Genoa", octets(genoa.Report), []byte(genoa.VCEK), octets(genoa.Quote.Signature), octets(genoa.Quote.Message)},
	} {
		r, err := Parse(c.report)
		if err != nil {
			t.Fatal(c.product, err)
		}
		block, _ := pem.Decode(c.pem)
		report, err := amd.Verify(r.SNP, block.Bytes, nil, time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(c.product, err)
		}
		if [64]byte(report.GetReportData()) != r.ReportData || report.Root != "AMD" || report.Product != c.product || report.GetVmpl() != 0 {
			t.Errorf("%s: REPORT_DATA %x, want %x; root %s, VMPL %d", report.Product, report.GetReportData(), r.ReportData, report.Root, report.GetVmpl())
		}
		sum := sha256.Sum256(c.attest)
		if err := rsa.VerifyPKCS1v15(r.Key, crypto.SHA256, sum[:], c.signature); err != nil {
			t.Errorf("%s: the quote is not by the key in the report: %v", c.product, err)
		}
	}
}

func octets(list []int) []byte {
	b := make([]byte, len(list))
	for i, v := range list {
		b[i] = byte(v)
	}
	return b
}

func TestEndorsements(t *testing.T) {
	r, err := Parse(vector(t, "hcl-report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Endorsements(r, []byte("certificates"))
	if err != nil {
		t.Fatal(err)
	}
	again, certs, err := ParseEndorsements(b)
	if err != nil || string(certs) != "certificates" || !bytes.Equal(again.Raw, r.Raw) {
		t.Fatalf("%q, %v", certs, err)
	}
	if _, err := Endorsements(r, make([]byte, MaxCertificates+1)); err == nil {
		t.Error("too many certificates were taken")
	}
	if _, _, err := ParseEndorsements(append(binary.BigEndian.AppendUint16(nil, uint16(len(r.Raw))), append(bytes.Clone(r.Raw), make([]byte, MaxCertificates+1)...)...)); err == nil {
		t.Error("too many certificates were read")
	}
	padded := binary.BigEndian.AppendUint16(nil, uint16(len(r.Raw)+1))
	for name, bad := range map[string][]byte{"nothing": nil, "one byte": {0}, "cut": b[:100], "zeros in the report": append(append(padded, r.Raw...), 0)} {
		if _, _, err := ParseEndorsements(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRefused(t *testing.T) {
	good := vector(t, "hcl-report.bin")
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	swap := func(from, to string) func([]byte) []byte {
		if len(from) != len(to) {
			t.Fatalf("%q for %q", to, from)
		}
		return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		words  string
	}{
		"nothing":       {func([]byte) []byte { return nil }, "0 bytes"},
		"cut":           {func(b []byte) []byte { return b[:1235] }, "1235 bytes"},
		"too long":      {func(b []byte) []byte { return append(b, make([]byte, MaxReport)...) }, "want 1236 to"},
		"magic":         {put(0, 0), "HCLA"},
		"version":       {put(4, 3), "version 3"},
		"size":          {put(8, 2345), "runtime data of 1110 bytes"},
		"request":       {put(12, 1), "request 1"},
		"status":        {put(16, 1), "status 1"},
		"data version":  {put(1220, 2), "version 2"},
		"TDX":           {func([]byte) []byte { return vector(t, "hcl-report-tdx.bin") }, "TDX"},
		"type":          {put(1224, 3), "type 3"},
		"hash":          {put(1228, 2), "hash 2"},
		"no data":       {put(1232, 0), "of 0 bytes"},
		"data too long": {put(1232, 1<<31), "runtime data of"},
		"data to the end": {func(b []byte) []byte { // consistent, and more than there is
			n := uint32(len(b)-1236) + 1
			return put(1232, n)(put(1216, n+20)(put(8, 1216+20+n)(b)))
		}, "runtime data of"},
		"size of data": {func(b []byte) []byte {
			return put(8, binary.LittleEndian.Uint32(b[8:])+1)(put(1216, binary.LittleEndian.Uint32(b[1216:])+1)(b))
		}, "runtime data of"},
		"behind":         {func(b []byte) []byte { b[len(b)-1] = 1; return b }, "behind"},
		"JSON":           {swap(`{"keys"`, `["keys"`), "not JSON"},
		"no key":         {swap("HCLAkPub", "HCLXkPub"), "no key HCLAkPub"},
		"exponent":       {swap("AQAB", "AQAD"), "exponent 65537"},
		"kind":           {swap(`"kty":"RSA"`, `"kty":"oct"`), "RSA key"},
		"modulus":        {swap(`"n":"qR7L`, `"n":"!R7L`), "2048 bits"},
		"modulus, small": {swap(`"n":"qR7L`, `"n":"AR7L`), "2048 bits"},
		"modulus, even":  {swap(`I5PDQ"`, `I5PDA"`), "2048 bits"},
	} {
		if _, err := Parse(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
	jwk := func(n string) []byte {
		return fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":%q}]}`, n)
	}
	long := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 257))
	loose := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256))
	if _, err := attestationKey(jwk(loose)); err != nil {
		t.Error(err)
	}
	loose = loose[:len(loose)-1] + "_" // the same bytes, and bits of none
	for name, n := range map[string]string{"long": long, "short": long[:340], "spare bits": loose} {
		if _, err := attestationKey(jwk(n)); err == nil || !strings.Contains(err.Error(), "2048 bits") {
			t.Errorf("modulus, %s: %v", name, err)
		}
	}
	twice := bytes.Replace(good[1236:1236+1110], []byte("HCLEkPub"), []byte("HCLAkPub"), 1)
	if _, err := attestationKey(twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("two keys: %v", err)
	}
}

// FuzzParseEndorsements wants whatever is read to be written again as it was.
func FuzzParseEndorsements(f *testing.F) {
	r, err := Parse(vector(f, "hcl-report.bin"))
	if err != nil {
		f.Fatal(err)
	}
	b, err := Endorsements(r, []byte{1, 2, 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, certs, err := ParseEndorsements(b)
		if err != nil {
			return
		}
		if again, err := Endorsements(r, certs); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s became %s, %v", hex.EncodeToString(b), hex.EncodeToString(again), err)
		}
	})
}
