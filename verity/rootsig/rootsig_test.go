package rootsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/verity"
)

const rootHex = "c5093949998e703615554b3e7bbffb61ec9136828e709c2c1619397ea4c91099"

func parseRoot(t testing.TB, s string) verity.RootHash {
	t.Helper()
	root, err := verity.ParseRootHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// A pair is a key and its certificate as openssl made them.
type pair struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

func openssl(t testing.TB, dir string, args ...string) ([]byte, error) {
	t.Helper()
	c := exec.Command(testtool.Need(t, "openssl"), args...)
	c.Dir = dir
	return c.CombinedOutput()
}

// newPair lets openssl make a key of that kind, in PEM of its choice.
func newPair(t testing.TB, make ...string) *pair {
	t.Helper()
	p := &pair{dir: t.TempDir()}
	for _, args := range [][]string{
		append([]string{make[0], "-out", "key.pem"}, make[1:]...),
		{"req", "-x509", "-new", "-key", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/C=CH/O=Tally Test/CN=key \u00fc"},
	} {
		if out, err := openssl(t, p.dir, args...); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(p.dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if p.key, err = ParseKey(text); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(filepath.Join(p.dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(text)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	p.cert = certs[0]
	return p
}

var pairs = map[string][]string{
	"RSA":   {"genrsa", "-traditional", "2048"},
	"PKCS8": {"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	"P-256": {"ecparam", "-name", "prime256v1", "-genkey"},
	"P-384": {"ecparam", "-name", "secp384r1", "-genkey", "-noout"},
}

// TestBothWays signs with openssl and checks here, and the other way round. RSA signatures have one form,
// so these files are equal to openssl's, byte for byte.
func TestBothWays(t *testing.T) {
	root := parseRoot(t, rootHex)
	for name, args := range pairs {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, args...)
			if err := os.WriteFile(filepath.Join(p.dir, "hex"), []byte(rootHex), 0o600); err != nil {
				t.Fatal(err)
			}
			ours, err := Sign(rand.Reader, root, p.cert, p.key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(p.dir, "ours"), ours, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, tool := range []string{"smime", "cms"} {
				if out, err := openssl(t, p.dir, tool, "-verify", "-binary", "-inform", "der", "-in", "ours", "-content", "hex",
					"-certfile", "cert.pem", "-nointern", "-noverify", "-out", "verified"); err != nil {
					t.Errorf("openssl %s does not verify it: %v\n%s", tool, err, out)
				}
			}
			sign := []string{"smime", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "der", "-in", "hex", "-inkey", "key.pem", "-signer", "cert.pem", "-out", "theirs"}
			for _, extra := range [][]string{nil, {"-md", "sha384"}, {"-md", "sha512"}} {
				if out, err := openssl(t, p.dir, append(sign, extra...)...); err != nil {
					t.Fatalf("openssl: %v\n%s", err, out)
				}
				theirs, err := os.ReadFile(filepath.Join(p.dir, "theirs"))
				if err != nil {
					t.Fatal(err)
				}
				if cert, err := Verify(theirs, root, []*x509.Certificate{p.cert}); err != nil || cert != p.cert {
					t.Errorf("openssl's signature %v: %v", extra, err)
				}
				if isRSA := !strings.HasPrefix(name, "P-"); extra == nil && isRSA && !bytes.Equal(ours, theirs) {
					t.Errorf("%d bytes differ from openssl's %d", len(ours), len(theirs))
				}
			}
		})
	}
}

// TestOpensslForms: what openssl makes with other options is refused by name, not misread.
func TestOpensslForms(t *testing.T) {
	p := newPair(t, pairs["P-256"]...)
	if err := os.WriteFile(filepath.Join(p.dir, "hex"), []byte(rootHex), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"it has attributes, want none": {"smime", "-nocerts"},
		"it has a content":             {"smime", "-noattr", "-nodetach"},
		"version 3, want 1":            {"cms", "-noattr", "-keyid"},
		"digest algorithm 1.3.14":      {"smime", "-noattr", "-md", "sha1"},
		"want PKCS #7 in DER":          {"smime", "-noattr", "-outform", "pem"},
	} {
		args = append(args, "-sign", "-binary", "-in", "hex", "-inkey", "key.pem", "-signer", "cert.pem", "-out", "sig")
		if !strings.Contains(want, "DER") {
			args = append(args, "-outform", "der")
		}
		if out, err := openssl(t, p.dir, args...); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
		sig, err := os.ReadFile(filepath.Join(p.dir, "sig"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(sig, parseRoot(t, rootHex), []*x509.Certificate{p.cert}); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrSignature) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// newCert makes a key and a self-signed certificate without openssl.
func newCert(t testing.TB, serial int64) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestNotVerified(t *testing.T) {
	cert, key := newCert(t, 1)
	root := parseRoot(t, rootHex)
	sig, err := Sign(rand.Reader, root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	twin, _ := newCert(t, 1) // same name and number, another key
	other, otherKey := newCert(t, 2)
	for name, c := range map[string]struct {
		root string
		cert *x509.Certificate
	}{
		"other root":     {strings.Repeat("0", 64), cert},
		"other length":   {strings.Repeat("0", 40), cert},
		"twin":           {rootHex, twin},
		"other signer":   {rootHex, other},
		"no certificate": {rootHex, nil},
	} {
		var certs []*x509.Certificate
		if c.cert != nil {
			certs = append(certs, c.cert)
		}
		if _, err := Verify(sig, parseRoot(t, c.root), certs); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Verify(sig, root, []*x509.Certificate{other, cert}); err != nil || got != cert {
		t.Errorf("second of two: %v", err)
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if _, err := Verify(bad, root, []*x509.Certificate{cert}); err == nil {
			t.Errorf("byte %d changed: verified", i)
		}
	}
	for n := range sig {
		if _, err := Verify(sig[:n], root, []*x509.Certificate{cert}); err == nil {
			t.Errorf("%d bytes: verified", n)
		}
	}
	if _, err := Verify(append(sig, 0), root, []*x509.Certificate{cert}); err == nil || !strings.Contains(err.Error(), "1 bytes behind it") {
		t.Errorf("trailing byte: %v", err)
	}
	if _, err := Verify(make([]byte, MaxSize+1), root, nil); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("too long: %v", err)
	}
	if _, err := Sign(rand.Reader, root, cert, otherKey); err == nil || !strings.Contains(err.Error(), "not the key's") {
		t.Errorf("another's certificate: %v", err)
	}
	if _, err := Sign(rand.Reader, verity.RootHash{}, cert, key); err == nil {
		t.Error("no root hash: no error")
	}
}

func TestKeyRefusals(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(rand.Reader, parseRoot(t, rootHex), cert, key); err == nil || !strings.Contains(err.Error(), "want RSA or ECDSA") {
		t.Errorf("Ed25519: %v", err)
	}
	for want, text := range map[string]string{
		"no PEM block with":     "",
		`PEM block "CERTIFICAT`: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		`PEM block "ENCRYPTED`:  "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"key: encrypted, want":  "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"key: x509":             "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
	} {
		if _, err := ParseKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, text := range map[string]string{
		"no PEM block":       "hello",
		"certificate: x509":  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		`PEM block "PRIVATE`: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		if _, err := ParseCertificates([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzVerify: no bytes are a signature of another root hash, and none make it panic.
func FuzzVerify(f *testing.F) {
	cert, key := newCert(f, 7)
	sig, err := Sign(rand.Reader, parseRoot(f, rootHex), cert, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add([]byte{0x30, 0x80})
	other := parseRoot(f, strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Verify(b, other, []*x509.Certificate{cert}); err == nil {
			t.Error("verified")
		}
	})
}

// TestVectors checks signatures that openssl made, also where it is not installed, and long after their
// certificates have expired.
func TestVectors(t *testing.T) {
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata/vectors/openssl", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	root := parseRoot(t, string(file("root-hash")))
	for _, name := range []string{"rsa", "ec"} {
		certs, err := ParseCertificates(file(name + ".pem"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Verify(file(name+".p7s"), root, certs); err != nil || got != certs[0] {
			t.Errorf("%s: %v", name, err)
		}
	}
}
