package gpu

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
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
			err = index.check(&x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, time.Hour)
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
	if err := index.check(&x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, time.Hour); err != nil {
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

// answered makes an issuer and responses of it about serial number 5.
func answered(t *testing.T, now time.Time) (issuer *x509.Certificate, respond func(status, reason int, at time.Time) []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: now, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if issuer, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return issuer, func(status, reason int, at time.Time) []byte {
		der, err := ocsp.CreateResponse(issuer, issuer, ocsp.Response{Status: status, SerialNumber: big.NewInt(5), ThisUpdate: at, NextUpdate: at.Add(99 * time.Hour),
			RevokedAt: now.Add(-time.Hour), RevocationReason: reason}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
}

// TestOCSPNewest: of several responses the newest counts, in whatever order they come, and of two of one time the one that is not good.
func TestOCSPNewest(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	issuer, respond := answered(t, now)
	earlier, later := now.Add(-2*time.Hour), now.Add(-time.Hour)
	good, bad := func(at time.Time) []byte { return respond(ocsp.Good, 0, at) }, func(at time.Time) []byte { return respond(ocsp.Revoked, ocsp.KeyCompromise, at) }
	stale := now.Add(-30 * time.Hour)
	for name, c := range map[string]struct {
		all  [][]byte
		want Reason
	}{
		"good":                      {[][]byte{good(later)}, ""},
		"since revoked":             {[][]byte{good(earlier), bad(later)}, Revoked},
		"no longer on hold":         {[][]byte{bad(earlier), good(later)}, ""},
		"at once":                   {[][]byte{good(later), bad(later)}, Revoked},
		"at once, unknown":          {[][]byte{good(later), respond(ocsp.Unknown, 0, later)}, BadOCSP},
		"good twice":                {[][]byte{good(earlier), good(later)}, ""},
		"good again":                {[][]byte{good(stale), good(later)}, ""},
		"stale, and revoked before": {[][]byte{good(stale), bad(stale.Add(-time.Hour))}, OCSPStale},
		"three":                     {[][]byte{bad(earlier), good(later), bad(stale)}, ""},
	} {
		for range 2 {
			index, err := indexResponses(c.all)
			if err != nil {
				t.Fatal(err)
			}
			err = index.check(&x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, 24*time.Hour)
			if reasonOf(err, "") != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			slices.Reverse(c.all)
		}
	}
}

// TestOCSPStatus: what is not good is refused for what it is.
func TestOCSPStatus(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	issuer, respond := answered(t, now)
	for _, c := range []struct {
		status, code int
		reason       Reason
		want         string
	}{
		{ocsp.Good, 0, "", ""},
		{ocsp.Revoked, ocsp.Unspecified, Revoked, "is revoked since 2026-06-30, reason 0"},
		{ocsp.Revoked, ocsp.KeyCompromise, Revoked, "reason 1"},
		{ocsp.Revoked, ocsp.CertificateHold, Revoked, "is on hold since 2026-06-30"},
		{ocsp.Revoked, ocsp.RemoveFromCRL, Revoked, "reason 8"},
		{ocsp.Unknown, 0, BadOCSP, "does not know it"},
	} {
		index, err := indexResponses([][]byte{respond(c.status, c.code, now)})
		if err != nil {
			t.Fatal(err)
		}
		err = index.check(&x509.Certificate{SerialNumber: big.NewInt(5)}, issuer, now, time.Hour)
		if reasonOf(err, "") != c.reason || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("status %d, reason %d: %v, want %q", c.status, c.code, err, c.want)
		}
		if err := index.check(&x509.Certificate{SerialNumber: big.NewInt(6)}, issuer, now, time.Hour); reasonOf(err, "") != BadOCSP || !strings.Contains(err.Error(), "no response") {
			t.Errorf("another certificate: %v", err)
		}
		other := forge(t, 2, now, func(int, *x509.Certificate) {})[1]
		if err := index.check(&x509.Certificate{SerialNumber: big.NewInt(5)}, other, now, time.Hour); reasonOf(err, "") != BadOCSP || strings.Contains(err.Error(), "no response") {
			t.Errorf("another issuer's key: %v", err)
		}
	}
}

// TestOCSPLimits: how many responses there may be, and how large.
func TestOCSPLimits(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	_, respond := answered(t, now)
	one := respond(ocsp.Good, 0, now)
	if _, err := indexResponses(slices.Repeat([][]byte{one}, MaxResponses)); err != nil {
		t.Error(err)
	}
	if _, err := indexResponses(slices.Repeat([][]byte{one}, MaxResponses+1)); err == nil || !strings.Contains(err.Error(), "257 responses, want at most 256") {
		t.Errorf("too many: %v", err)
	}
	if _, err := indexResponses([][]byte{one, make([]byte, MaxOCSP)}); err == nil || strings.Contains(err.Error(), "at most") {
		t.Errorf("as large as may be, and none: %v", err)
	}
	if _, err := indexResponses([][]byte{one, make([]byte, MaxOCSP+1)}); err == nil || !strings.Contains(err.Error(), "response 1: 16385 bytes, want at most 16384") {
		t.Errorf("too large: %v", err)
	}
}

// TestOCSPDelegate: a responder whose certificate one issuer signed answers for that one alone, whoever is asked about first, and a response
// that it did not sign is none.
func TestOCSPDelegate(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	certify := func(name string, of, by *ecdsa.PrivateKey, parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, BasicConstraintsValid: true, IsCA: parent == nil}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ownKey, otherKey, responderKey := key(), key(), key()
	own, other := certify("own", ownKey, ownKey, nil), certify("other", otherKey, otherKey, nil)
	responder := certify("responder", responderKey, ownKey, own)
	respond := func(about *x509.Certificate, serial int64) []byte {
		der, err := ocsp.CreateResponse(about, responder, ocsp.Response{SerialNumber: big.NewInt(serial), ThisUpdate: now, IssuerHash: crypto.SHA256, Certificate: responder}, responderKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	all := [][]byte{respond(own, 5), respond(other, 6), respond(own, 7)}
	for _, order := range [][]int64{{5, 6, 7}, {7, 6, 5}, {6, 7, 5, 6}} {
		index, err := indexResponses(all)
		if err != nil {
			t.Fatal(err)
		}
		for _, serial := range order {
			issuer, want := own, Reason("")
			if serial == 6 {
				issuer, want = other, BadOCSP
			}
			if err := index.check(&x509.Certificate{SerialNumber: big.NewInt(serial)}, issuer, now, time.Hour); reasonOf(err, "") != want || (err == nil) != (want == "") {
				t.Errorf("%v: %d: %v, want %q", order, serial, err, want)
			}
		}
	}
	at := bytes.Index(all[0], responder.Raw)
	changed := bytes.Clone(all[0])
	changed[at-20] ^= 1 // the end of its signature
	if _, err := indexResponses([][]byte{all[1], changed}); err == nil || !strings.Contains(err.Error(), "OCSP response 1: ") || !strings.Contains(err.Error(), "bad signature") {
		t.Errorf("changed: %v", err)
	}
}
