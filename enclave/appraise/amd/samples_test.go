package amd

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
)

// sample reads a file of another project's samples, and wants it to be the one that SOURCE names.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	return testtool.Sample(t, filepath.Join("testdata", "samples"), name)
}

// TestSamples follows reports of further kinds of machines to AMD's roots: a Turin, whose TCB has another layout; a Siena, whose
// certificates are a Genoa's; and one with the table of a host that keeps its certificates as PEM. Each byte of a report counts.
func TestSamples(t *testing.T) {
	for _, c := range []struct {
		report, endorsements, product string
		day                           time.Time
	}{
		{"turin-report.bin", "turin-vcek.pem", "Turin", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"siena-report.bin", "siena-vcek.der", "Genoa", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"tsm-outblob.bin", "tsm-auxblob.bin", "Genoa", time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC)},
	} {
		report, endorsements := sample(t, c.report), sample(t, c.endorsements)
		r, err := Verify(report, endorsements, nil, c.day)
		if err != nil {
			t.Errorf("%s: %v", c.report, err)
			continue
		}
		if r.Root != "AMD" || r.Signer != "vcek" || r.Product != c.product || uint64(r.Certificate) != r.GetReportedTcb() {
			t.Errorf("%s: root %s, %s of a %s, TCB %#x, certificate for %#x", c.report, r.Root, r.Signer, r.Product, r.GetReportedTcb(), uint64(r.Certificate))
		}
		if _, err := Verify(report, endorsements, nil, c.day.AddDate(10, 0, 0)); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: ten years later: %v", c.report, err)
		}
		for i := range report {
			b := bytes.Clone(report)
			b[i] ^= 1 << (i % 8)
			if _, err := Verify(b, endorsements, nil, c.day); err == nil {
				t.Errorf("%s: byte %#x: accepted", c.report, i)
			}
		}
	}
	// The report of one machine does not stand under the certificate of another.
	for _, report := range []string{"siena-report.bin", "tsm-outblob.bin"} {
		if _, err := Verify(sample(t, report), sample(t, "turin-vcek.pem"), nil, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)); err == nil || !strings.Contains(err.Error(), "of a Genoa, its vcek is for a Turin") {
			t.Errorf("%s under a Turin's certificate: %v", report, err)
		}
	}
}

// TestTablePEM: an entry of a table is one certificate, whatever its form.
func TestTablePEM(t *testing.T) {
	vcek := sample(t, "turin-vcek.pem")
	for name, c := range map[string]struct {
		entry []byte
		ok    bool
	}{
		"PEM":            {vcek, true},
		"DER":            {derOf(vcek), true},
		"white space":    {[]byte("\n" + string(vcek) + "\r\n"), true},
		"twice":          {bytes.Repeat(vcek, 2), false},
		"on two lines":   {[]byte(string(vcek) + "\n" + string(vcek)), false},
		"words before":   {[]byte("words\n" + string(vcek)), false},
		"words behind":   {[]byte(string(vcek) + "\nwords"), false},
		"another's word": {bytes.ReplaceAll(vcek, []byte("CERTIFICATE"), []byte("X509 CRL")), false},
	} {
		table, err := Table(map[string][]byte{abi.VcekGUID: c.entry})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(sample(t, "turin-report.bin"), table, nil, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "SNP endorsements: vcek") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTurinExtensions(t *testing.T) {
	cert, err := x509.ParseCertificate(derOf(sample(t, "turin-vcek.pem")))
	if err != nil {
		t.Fatal(err)
	}
	at := func(oid asn1.ObjectIdentifier) int {
		return slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oid) })
	}
	put := func(oid asn1.ObjectIdentifier, v []byte) func([]pkix.Extension) []pkix.Extension {
		return func(l []pkix.Extension) []pkix.Extension { l[at(oid)].Value = v; return l }
	}
	csp := []byte{0x16, 2, 'x', 'y'}
	vlek := func(l []pkix.Extension) []pkix.Extension {
		l[at(kds.OidHwid)] = pkix.Extension{Id: kds.OidCspID, Value: csp}
		return l
	}
	for name, c := range map[string]struct {
		change func([]pkix.Extension) []pkix.Extension
		key    abi.ReportSigner
		want   string
	}{
		"as it is":       {func(l []pkix.Extension) []pkix.Extension { return l }, abi.VcekReportSigner, ""},
		"of a VLEK":      {vlek, abi.VlekReportSigner, ""},
		"a VLEK as VCEK": {vlek, abi.VcekReportSigner, "1.3.6.1.4.1.3704.1.4: missing"},
		"a VCEK as VLEK": {func(l []pkix.Extension) []pkix.Extension { return l }, abi.VlekReportSigner, "1.3.6.1.4.1.3704.1.5: missing"},
		"twice":          {func(l []pkix.Extension) []pkix.Extension { return append(l, l[at(kds.OidBlSpl)]) }, 0, "1.3.6.1.4.1.3704.1.3.1: twice"},
		"missing":        {func(l []pkix.Extension) []pkix.Extension { i := at(kds.OidSnpSpl); return slices.Delete(l, i, i+1) }, 0, "1.3.6.1.4.1.3704.1.3.3: missing"},
		"one of a Milan's": {func(l []pkix.Extension) []pkix.Extension {
			return append(l, pkix.Extension{Id: kds.OidSpl4, Value: []byte{2, 1, 0}})
		}, 0, "1.3.6.1.4.1.3704.1.3.4: want none"},
		"256":                  {put(kds.OidUcodeSpl, []byte{2, 2, 1, 0}), 0, "0 to 255"},
		"-1":                   {put(kds.OidUcodeSpl, []byte{2, 1, 255}), 0, "0 to 255"},
		"no number":            {put(kds.OidUcodeSpl, csp), 0, "0 to 255"},
		"a number and more":    {put(kds.OidUcodeSpl, []byte{2, 1, 1, 0}), 0, "0 to 255"},
		"of a Milan":           {put(kds.OidProductName1, []byte{0x16, 5, 'M', 'i', 'l', 'a', 'n'}), 0, `"Milan", with the TCB of an FMC`},
		"of nothing":           {put(kds.OidProductName1, []byte{0x16, 0}), 0, "IA5String"},
		"long chip identifier": {put(kds.OidHwid, make([]byte, 64)), 0, "64 bytes, want 8"},
		"Turin without an FMC": {func(l []pkix.Extension) []pkix.Extension {
			l[at(oidFMC)].Id, l[at(kds.OidHwid)].Value = kds.OidSpl4, make([]byte, 64)
			return l
		}, 0, "without the TCB of its FMC"},
	} {
		out, err := extensions(&x509.Certificate{Extensions: c.change(slices.Clone(cert.Extensions))}, c.key)
		if c.want == "" {
			if err != nil || out.TCBVersion != 0x5100000004010101 || (out.CspID == "xy") != (c.key == abi.VlekReportSigner) {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestProductOf: CPUIDs of processors as AMD's revision guides name them.
func TestProductOf(t *testing.T) {
	for fms, want := range map[uint32]string{
		0xa00f11: "Milan", 0xa00f12: "Milan", // Milan-X
		0xa10f11: "Genoa", 0xaa0f01: "Genoa", 0xaa0f02: "Genoa", // Bergamo, Siena
		0xb00f21: "Turin", 0xb10f10: "Turin", // dense
		0xa20f10: "processor of family 0x19, model 0x21", // a desktop's
		0xb20f40: "processor of family 0x1a, model 0x24",
		0x800f12: "processor of family 0x17, model 0x1",
	} {
		if got := productOf(fms); got != want {
			t.Errorf("%#x: %s, want %s", fms, got, want)
		}
	}
}
