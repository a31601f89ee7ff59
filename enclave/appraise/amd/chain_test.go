package amd_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	stest "github.com/google/go-sev-guest/testing"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"tally/enclave/appraise/amd"
	"tally/enclave/attesttest"
	"tally/internal/testtool"
)

// issue makes a certificate anew as change wants it. Every fake machine has the same keys.
func issue(t *testing.T, old, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: old.SerialNumber, Subject: old.Subject, NotBefore: old.NotBefore, NotAfter: old.NotAfter, SignatureAlgorithm: old.SignatureAlgorithm,
		BasicConstraintsValid: old.BasicConstraintsValid, IsCA: old.IsCA, KeyUsage: old.KeyUsage, CRLDistributionPoints: old.CRLDistributionPoints}
	for _, e := range old.Extensions {
		if strings.HasPrefix(e.Id.String(), "1.3.6.1.4.1.3704.") {
			c.ExtraExtensions = append(c.ExtraExtensions, e)
		}
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// theirs is what go-sev-guest says of a report, certificate and roots.
func theirs(raw, vcek []byte, vlek bool, roots *amd.Roots) error {
	r, err := abi.ReportToProto(raw)
	if err != nil {
		return err
	}
	chain := &sevsnp.CertificateChain{VcekCert: vcek}
	if vlek {
		chain = &sevsnp.CertificateChain{VlekCert: vcek}
	}
	return verify.SnpAttestation(&sevsnp.Attestation{Report: r, CertificateChain: chain}, &verify.Options{DisableCertFetching: true, Now: now,
		TrustedRoots: map[string][]*trust.AMDRootCerts{"Milan": {{ProductLine: "Milan", ProductCerts: &trust.ProductCerts{Ark: roots.ARK, Ask: roots.ASK, Asvk: roots.ASVK}}}}})
}

// otherName changes one part of a name at a time.
var otherName = map[string]func(*pkix.Name){
	"country":             func(n *pkix.Name) { n.Country = []string{"DE"} },
	"no country":          func(n *pkix.Name) { n.Country = nil },
	"two countries":       func(n *pkix.Name) { n.Country = []string{"US", "US"} },
	"locality":            func(n *pkix.Name) { n.Locality = []string{"Austin"} },
	"state":               func(n *pkix.Name) { n.Province = []string{"TX"} },
	"organization":        func(n *pkix.Name) { n.Organization = []string{"Advanced Micro Devices Inc"} },
	"organizational unit": func(n *pkix.Name) { n.OrganizationalUnit = []string{"Sales"} },
	"common name":         func(n *pkix.Name) { n.CommonName += "2" },
}

// TestChain has certificates of VCEKs and VLEKs that are wrong in one thing, under keys that sign them all: go-sev-guest refuses
// each, and so do we, for the same reason.
func TestChain(t *testing.T) {
	for _, vlek := range []bool{false, true} {
		m := machine(t)
		m.VLEK = vlek
		report, end := sign(t, m)
		guid, ca, caKey, key := abi.VcekGUID, m.Roots().ASK, stest.DefaultAsk(), stest.DefaultVcek()
		if vlek {
			guid, ca, caKey, key = abi.VlekGUID, m.Roots().ASVK, stest.DefaultAsvk(), stest.DefaultVlek()
		}
		good, err := x509.ParseCertificate(tableOf(t, end, guid))
		if err != nil {
			t.Fatal(err)
		}
		try := func(name string, c *x509.Certificate, roots *amd.Roots, want string) {
			t.Helper()
			_, err := amd.Verify(report, c.Raw, roots, now)
			other := theirs(report, c.Raw, vlek, roots)
			if want == "" && (err != nil || other != nil) {
				t.Errorf("VLEK %v, %s: ours %v, go-sev-guest's %v, want none", vlek, name, err, other)
			}
			if want != "" && (other == nil || err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("VLEK %v, %s: ours %v, want %q; go-sev-guest's %v", vlek, name, err, want, other)
			}
		}
		with := func(change func(*x509.Certificate)) *x509.Certificate {
			return issue(t, good, ca, &key.PublicKey, caKey, change)
		}
		try("in order", with(nil), m.Roots(), "")
		for name, change := range otherName {
			try("subject: "+name, with(func(c *x509.Certificate) { change(&c.Subject) }), m.Roots(), "subject: ")
			// The issuer is another with its name, and AMD's root vouches for it.
			ca := issue(t, ca, m.Roots().ARK, &caKey.PublicKey, stest.DefaultArk(), func(c *x509.Certificate) { change(&c.Subject) })
			try("issuer: "+name, issue(t, good, ca, &key.PublicKey, caKey, nil), standIn(m, vlek, ca), "issuer: ")
		}
		for name, c := range map[string]struct {
			change func(*x509.Certificate)
			want   string
		}{
			"SHA-256":            {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }, "signature algorithm"},
			"SHA-512":            {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA512WithRSAPSS }, "signature algorithm"},
			"PKCS #1 v1.5":       {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }, "signature algorithm"},
			"not yet valid":      {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, "not yet valid"},
			"not valid any more": {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "expired"},
			"for clients":        {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "not an AMD KDS OID"},
			"a critical unknown": {func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
			}, "not an AMD KDS OID"},
		} {
			try(name, with(c.change), m.Roots(), c.want)
		}
		p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		try("a key on P-256", issue(t, good, ca, &p256.PublicKey, caKey, nil), m.Roots(), "want ECDSA on P-384")
		try("an RSA key", issue(t, good, ca, &caKey.PublicKey, caKey, nil), m.Roots(), "want ECDSA on P-384")
		try("another key", issue(t, good, ca, &p384.PublicKey, caKey, nil), m.Roots(), "report signature")
		stranger := issue(t, ca, m.Roots().ARK, &stest.DefaultArk().PublicKey, stest.DefaultArk(), nil)
		try("signed by a namesake", issue(t, good, stranger, &key.PublicKey, stest.DefaultArk(), nil), m.Roots(), "certificate: x509")
		try("signed by the root", issue(t, good, m.Roots().ARK, &key.PublicKey, stest.DefaultArk(), nil), m.Roots(), "issuer: ")
		for name, c := range map[string]struct {
			change func(*x509.Certificate)
			want   string
		}{
			"no authority":         {func(c *x509.Certificate) { c.IsCA = false }, "cannot sign this kind"},
			"expired authority":    {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "expired"},
			"authority not yet on": {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, "not yet valid"},
		} {
			ca := issue(t, ca, m.Roots().ARK, &caKey.PublicKey, stest.DefaultArk(), c.change)
			try(name, issue(t, good, ca, &key.PublicKey, caKey, nil), standIn(m, vlek, ca), c.want)
		}
		namesake := issue(t, m.Roots().ARK, m.Roots().ARK, &caKey.PublicKey, stest.DefaultArk(), nil)
		own := issue(t, ca, namesake, &caKey.PublicKey, caKey, nil)
		try("an authority that the root did not sign", issue(t, good, own, &key.PublicKey, caKey, nil), standIn(m, vlek, own), "certificate: x509")
	}
}

// standIn are m's roots with another ASK or ASVK.
func standIn(m *attesttest.AMD, vlek bool, ca *x509.Certificate) *amd.Roots {
	r := m.Roots()
	if vlek {
		r.ASVK = ca
	} else {
		r.ASK = ca
	}
	return r
}

// TestChainAgain: what has passed once is held to its dates, and to the very certificates that passed.
func TestChainAgain(t *testing.T) {
	m := machine(t)
	report, end := sign(t, m)
	good, err := x509.ParseCertificate(tableOf(t, end, abi.VcekGUID))
	if err != nil {
		t.Fatal(err)
	}
	hour := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now, now.Add(time.Hour) }
	under := func(ark, ask func(*x509.Certificate)) (*amd.Roots, []byte) {
		root := issue(t, m.Roots().ARK, m.Roots().ARK, &stest.DefaultArk().PublicKey, stest.DefaultArk(), ark)
		signer := issue(t, m.Roots().ASK, root, &stest.DefaultAsk().PublicKey, stest.DefaultArk(), ask)
		return &amd.Roots{ARK: root, ASK: signer}, issue(t, good, signer, &stest.DefaultVcek().PublicKey, stest.DefaultAsk(), nil).Raw
	}
	week := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(0, 0, -7), now.AddDate(0, 0, 7) }
	for name, c := range map[string][2]func(*x509.Certificate){"root": {hour, week}, "signer": {week, hour}} {
		roots, vcek := under(c[0], c[1])
		for _, x := range []struct {
			at   time.Duration
			want string
		}{{0, ""}, {time.Hour, ""}, {time.Hour + time.Second, "expired"}, {-time.Second, "not yet valid"}, {time.Minute, ""}} {
			if _, err := amd.Verify(report, vcek, roots, now.Add(x.at)); (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s for an hour, at %s: %v, want %q", name, x.at, err, x.want)
			}
		}
	}
	roots, vcek := under(nil, nil)
	if _, err := amd.Verify(report, vcek, roots, now); err != nil {
		t.Fatal(err)
	}
	// A signer of another root, beside the root that has passed; and the root that has passed above another signer.
	other, _ := under(func(c *x509.Certificate) { c.Subject.SerialNumber = "2" }, nil)
	if _, err := amd.Verify(report, vcek, &amd.Roots{ARK: other.ARK, ASK: roots.ASK}, now); err == nil {
		t.Error("a signer below a root that is not its own: accepted")
	}
}

// TestProductName: a report of version 2 does not say of which product it is, and the certificate has to, in KDS's words.
func TestProductName(t *testing.T) {
	m := machine(t)
	for _, version := range []uint32{2, 3} {
		m.Fields.Version = version
		report, end := sign(t, m)
		good, err := x509.ParseCertificate(tableOf(t, end, abi.VcekGUID))
		if err != nil {
			t.Fatal(err)
		}
		for name, ok := range map[string]bool{"Milan-B0": true, "Milan-B1": true, "Milan": version == 3} {
			value, err := asn1.MarshalWithParams(name, "ia5")
			if err != nil {
				t.Fatal(err)
			}
			c := issue(t, good, m.Roots().ASK, &stest.DefaultVcek().PublicKey, stest.DefaultAsk(), func(c *x509.Certificate) {
				for i, e := range c.ExtraExtensions {
					if e.Id.Equal(kds.OidProductName1) {
						c.ExtraExtensions[i].Value = value
					}
				}
			})
			if _, err := amd.Verify(report, c.Raw, m.Roots(), now); (err == nil) != ok {
				t.Errorf("version %d, %s: %v", version, name, err)
			}
			if err := theirs(report, c.Raw, false, m.Roots()); (err == nil) != ok {
				t.Errorf("version %d, %s: go-sev-guest: %v", version, name, err)
			}
		}
	}
}

// TestRealVLEK verifies a report of EC2, whose machines sign with VLEKs, under AMD's own roots. Each byte of report and certificate
// counts.
func TestRealVLEK(t *testing.T) {
	dir := filepath.Join("testdata", "trustee")
	report, vlek := testtool.Sample(t, dir, "test-vlek-report.bin"), testtool.Sample(t, dir, "test-vlek.der")
	day := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	r, err := amd.Verify(report, vlek, nil, day)
	if err != nil {
		t.Fatal(err)
	}
	if r.Root != "AMD" || r.Signer != "vlek" || r.Product != "Milan" || uint64(r.Certificate) != r.GetReportedTcb() {
		t.Errorf("root %s, %s of a %s, TCB %x and %x", r.Root, r.Signer, r.Product, uint64(r.Certificate), r.GetReportedTcb())
	}
	if _, err := amd.Verify(report, vlek, nil, day.AddDate(1, 0, 0)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a year later: %v", err)
	}
	for i := range report {
		b := bytes.Clone(report)
		b[i] ^= 1 << (i % 8)
		if _, err := amd.Verify(b, vlek, nil, day); err == nil {
			t.Errorf("report, byte %#x: accepted", i)
		}
	}
	for i := range vlek {
		b := bytes.Clone(vlek)
		b[i] ^= 1 << (i % 8)
		if _, err := amd.Verify(report, b, nil, day); err == nil {
			t.Errorf("certificate, byte %#x: accepted", i)
		}
	}
	if trust.DefaultRootCerts["Milan"].ProductCerts.Asvk != nil {
		t.Error("the library's own roots were changed")
	}
}
