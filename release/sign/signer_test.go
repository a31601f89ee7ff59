package sign_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// The example of RFC 6979, A.2.5 (P-256, SHA-256, message "sample"), through a key file.
func TestRFC6979(t *testing.T) {
	const (
		x = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"
		r = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
		s = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
	)
	raw, err := hex.DecodeString(strings.ToLower(x))
	if err != nil {
		t.Fatal(err)
	}
	priv, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	body, err := encrypted.Encrypt(der, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: body}), []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.SignPAE([]byte("sample"))
	if err != nil {
		t.Fatal(err)
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(got, &sig); err != nil || len(rest) != 0 {
		t.Fatal(err, rest)
	}
	if hex := func(n *big.Int) string { return strings.ToUpper(n.Text(16)) }; hex(sig.R) != r || hex(sig.S) != s {
		t.Errorf("r %X, s %X", sig.R, sig.S)
	}
}

// A device signs with a nonce of its own, as a TPM or a key service does.
type device struct {
	priv *ecdsa.PrivateKey
	pub  release.PublicKey
	sign func(d *ecdsa.PrivateKey, pae []byte) ([]byte, error)
}

func newDevice(t *testing.T) *device {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := release.NewPublicKey(&priv.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &device{priv, pub, func(d *ecdsa.PrivateKey, pae []byte) ([]byte, error) {
		h := sha256.Sum256(pae)
		return d.Sign(rand.Reader, h[:], crypto.SHA256)
	}}
}

func (d *device) Public() release.PublicKey          { return d.pub }
func (d *device) SignPAE(pae []byte) ([]byte, error) { return d.sign(d.priv, pae) }

// Two signatures of one payload by one such key differ, and are one release.
func TestOneReleaseWhateverTheNonce(t *testing.T) {
	w, d := rt.New(t), newDevice(t)
	one, two := w.Sign(t, d, sign.Options{Sequence: 7}), w.Sign(t, d, sign.Options{Sequence: 7})
	if bytes.Equal(one, two) {
		t.Fatal("the device is deterministic, which makes this test idle")
	}
	first, err := w.TryPublish(t.Context(), t, one, d.Public())
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.TryPublish(t.Context(), t, two, d.Public())
	if err != nil {
		t.Fatal(err)
	}
	if first.Already || !second.Already || first.Leaf != second.Leaf || first.Index != second.Index || !bytes.Equal(first.Bundle, second.Bundle) {
		t.Errorf("published twice: %s at %d, %s at %d", first.Leaf, first.Index, second.Leaf, second.Index)
	}
	w.Policy.Signers = []release.Signer{{Key: d.Public()}}
	if _, err := release.Verify(second.Bundle, w.Policy, rt.Now); err != nil {
		t.Error(err)
	}
}

// A device that gives back nonsense, or another key's signature, makes no bundle.
func TestBrokenDevice(t *testing.T) {
	w, d, other := rt.New(t), newDevice(t), newDevice(t)
	failed := errors.New("no card in the reader")
	for name, c := range map[string]struct {
		sign func(*ecdsa.PrivateKey, []byte) ([]byte, error)
		want string
	}{
		"error":     {func(*ecdsa.PrivateKey, []byte) ([]byte, error) { return nil, failed }, "no card"},
		"nothing":   {func(*ecdsa.PrivateKey, []byte) ([]byte, error) { return nil, nil }, "does not verify"},
		"other key": {func(_ *ecdsa.PrivateKey, pae []byte) ([]byte, error) { return other.SignPAE(pae) }, "does not verify"},
	} {
		d.sign = c.sign
		if _, err := sign.Sign(w.Statement(t, sign.Options{Sequence: 1}), d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
