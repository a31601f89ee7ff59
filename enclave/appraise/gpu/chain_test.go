package gpu

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

// forge makes a chain of that many certificates, leaf first; change is told the place of each, and may make it one
// of version 1.
func forge(t *testing.T, n int, now time.Time, change func(i int, c *x509.Certificate)) []*x509.Certificate {
	t.Helper()
	chain := make([]*x509.Certificate, n)
	var parent *x509.Certificate
	var signer *ecdsa.PrivateKey
	for i := n - 1; i >= 0; i-- {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: string(rune('a' + i))}, NotBefore: now.Add(-time.Hour),
			NotAfter: now.Add(time.Hour), BasicConstraintsValid: true, IsCA: i > 0, KeyUsage: x509.KeyUsageCertSign,
		}
		if i == 0 {
			c.KeyUsage = x509.KeyUsageDigitalSignature
		}
		change(i, c)
		if parent == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		if c.Version == 1 {
			der = version1(t, der, signer)
		}
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		parent, signer = chain[i], key
	}
	return chain
}

// version1 takes version and extensions from a certificate and signs it again.
func version1(t *testing.T, der []byte, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	var c struct {
		TBS       []asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(der, &c)
	if err != nil {
		t.Fatal(err)
	}
	c.TBS = c.TBS[1 : len(c.TBS)-1]
	tbs, err := asn1.Marshal(c.TBS)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(tbs)
	sig, err := ecdsa.SignASN1(rand.Reader, signer, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	if der, err = asn1.Marshal(c); err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAuthorities: every certificate above the leaf is an authority, though each link is verified for itself.
func TestAuthorities(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(c *x509.Certificate)
		from   int // the highest place below which it passes
		want   string
	}{
		"as it should be": {func(*x509.Certificate) {}, 9, ""},
		"version 1":       {func(c *x509.Certificate) { c.Version = 1 }, 0, ""},
		"no authority":    {func(c *x509.Certificate) { c.IsCA = false }, 0, ""},
		"no constraints":  {func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }, 0, ""},
		"no usage":        {func(c *x509.Certificate) { c.KeyUsage = 0 }, 0, "not for signing certificates"},
		"other usage":     {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, 0, ""},
		"none below":      {func(c *x509.Certificate) { c.MaxPathLenZero = true }, 1, ""},
		"one below":       {func(c *x509.Certificate) { c.MaxPathLen = 1 }, 2, ""},
		"ended":           {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, 0, "expired"},
		"not begun":       {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, 0, "not yet valid"},
	} {
		for n := 3; n <= 5; n++ {
			for place := 1; place < n; place++ {
				chain := forge(t, n, now, func(i int, x *x509.Certificate) {
					if i == place {
						c.change(x)
					}
				})
				_, err := new(memo).verifyChain(chain, chain[n-1], now)
				if pass := place <= c.from; pass != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s, at %d of %d: %v", name, place, n, err)
				}
			}
		}
	}
}

// TestAuthority shows each rule alone: the library, too, refuses most of it, in most places.
func TestAuthority(t *testing.T) {
	good := x509.Certificate{Version: 3, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: 1}
	for name, c := range map[string]struct {
		change func(c *x509.Certificate)
		want   string
	}{
		"good":           {func(*x509.Certificate) {}, ""},
		"without length": {func(c *x509.Certificate) { c.MaxPathLen = -1 }, ""},
		"version 1":      {func(c *x509.Certificate) { c.Version = 1 }, "version 1"},
		"no constraints": {func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "want an authority"},
		"no authority":   {func(c *x509.Certificate) { c.IsCA = false }, "authority false"},
		"usage":          {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, "not for signing"},
		"length":         {func(c *x509.Certificate) { c.MaxPathLen = 0 }, "chains of 0 more, not 1"},
	} {
		x := good
		c.change(&x)
		if err := authority(&x, 1); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestNames: each certificate names the next as who signed it.
func TestNames(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for place := range 4 {
		chain := forge(t, 5, now, func(i int, c *x509.Certificate) {})
		other := forge(t, 5, now, func(i int, c *x509.Certificate) {})
		chain[place] = other[place]
		if _, err := new(memo).verifyChain(chain, chain[4], now); err == nil {
			t.Errorf("certificate %d of another chain accepted", place)
		}
	}
}

// TestWholePaths: what an authority wants of all that is below it is not lost between links.
func TestWholePaths(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	policies, err := x509.OIDFromInts([]uint64{1, 3, 6, 1, 4, 1, 5703, 1})
	if err != nil {
		t.Fatal(err)
	}
	wanted := func(below byte) []pkix.Extension { // requireExplicitPolicy (RFC 5280, 4.2.1.11)
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 0x03, 0x80, 0x01, below}}}
	}
	for name, c := range map[string]struct {
		change func(i int, c *x509.Certificate)
		want   string
	}{
		"policies wanted and had": {func(i int, c *x509.Certificate) {
			c.Policies = []x509.OID{policies}
			if i == 3 {
				c.ExtraExtensions = wanted(0)
			}
		}, ""},
		"policies wanted": {func(i int, c *x509.Certificate) {
			if i == 3 {
				c.Policies, c.ExtraExtensions = []x509.OID{policies}, wanted(0)
			}
		}, "invalid policies"},
		"policies wanted further down": {func(i int, c *x509.Certificate) {
			if i == 3 {
				c.ExtraExtensions = wanted(1)
			}
		}, "invalid policies"},
		"names permitted": {func(i int, c *x509.Certificate) {
			if i == 3 {
				c.PermittedDNSDomains = []string{"example.org"}
			}
			if i == 0 {
				c.DNSNames = []string{"www.example.org"}
			}
		}, ""},
		"other names": {func(i int, c *x509.Certificate) {
			if i == 3 {
				c.PermittedDNSDomains = []string{"example.org"}
			}
			if i == 0 {
				c.DNSNames = []string{"www.example.net"}
			}
		}, "not permitted"},
	} {
		chain := forge(t, 5, now, c.change)
		_, err := new(memo).verifyChain(chain, chain[4], now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestMemo: a link's outcome is remembered for its time and its two certificates, and for nothing else.
func TestMemo(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	chain, m := forge(t, 3, now, func(int, *x509.Certificate) {}), new(memo)
	other := forge(t, 3, now, func(int, *x509.Certificate) {})
	for range 2 {
		if _, err := m.verifyChain(chain, chain[2], now.In(time.FixedZone("", 3600))); err != nil {
			t.Fatal(err)
		}
		if len(m.done) != 2 {
			t.Fatalf("%d links, want 2", len(m.done))
		}
		if _, err := m.verifyChain(chain, chain[2], now); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		at    time.Time
	}{
		"later":        {chain, now.Add(2 * time.Hour)},
		"other leaf":   {[]*x509.Certificate{other[0], chain[1], chain[2]}, now},
		"other issuer": {[]*x509.Certificate{chain[0], other[1], other[2]}, now},
	} {
		if _, err := m.verifyChain(c.chain, c.chain[2], c.at); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
