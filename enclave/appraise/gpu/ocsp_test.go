package gpu

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// TestOCSPIssuer: a response about the same serial number of another issuer is none, whoever signed it.
func TestOCSPIssuer(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: now, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	other := forge(t, 2, now, func(int, *x509.Certificate) {})[1]
	name, public := *issuer, *issuer
	name.RawSubject, public.RawSubjectPublicKeyInfo = other.RawSubject, other.RawSubjectPublicKeyInfo
	for what, about := range map[string]*x509.Certificate{"": issuer, "name": &name, "key": &public, "both": other} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			der, err := ocsp.CreateResponse(about, issuer, ocsp.Response{SerialNumber: big.NewInt(5), ThisUpdate: now, IssuerHash: hash}, key)
			if err != nil {
				t.Fatal(err)
			}
			index, err := indexResponses([][]byte{der})
			if err != nil {
				t.Fatal(err)
			}
			err = checkResponse(index, &x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, time.Hour)
			if (err == nil) != (what == "") || err != nil && (reasonOf(err, "") != BadOCSP || !strings.Contains(err.Error(), "another issuer")) {
				t.Errorf("other %q, %s: %v", what, hash, err)
			}
		}
	}
	// An issuer that puts its own certificate into its response is no delegate, and needs no leave to sign responses.
	der, err = ocsp.CreateResponse(issuer, issuer, ocsp.Response{SerialNumber: big.NewInt(5), ThisUpdate: now, IssuerHash: crypto.SHA256, Certificate: issuer}, key)
	if err != nil {
		t.Fatal(err)
	}
	index, err := indexResponses([][]byte{der})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkResponse(index, &x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, time.Hour); err != nil {
		t.Errorf("with the issuer's certificate: %v", err)
	}
}

// TestOCSPAge shows the ends of what is fresh.
func TestOCSPAge(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		this, next time.Duration // after now; no next when 0
		fresh      bool
	}{
		"no next":        {-time.Minute, 0, true},
		"next now":       {-time.Minute, time.Nanosecond, true},
		"next past":      {-time.Minute, -time.Nanosecond, false},
		"as old":         {-time.Hour, 0, true},
		"older":          {-time.Hour - 1, 0, false},
		"a little ahead": {clockSkew, 0, true},
		"ahead":          {clockSkew + 1, 0, false},
	} {
		r := &ocsp.Response{ThisUpdate: now.Add(c.this)}
		if c.next != 0 {
			r.NextUpdate = now.Add(c.next)
		}
		if err := checkAge(r, "x", now, time.Hour); (err == nil) != c.fresh || err != nil && reasonOf(err, "") != OCSPStale {
			t.Errorf("%s: %v", name, err)
		}
	}
}
