package gpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	_ "embed" // the vendor's roots

	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Limits of a certificate chain.
const (
	MaxChain = 32 << 10 // bytes of a chain as PEM: samples have 5 KiB
	maxCerts = 8
)

// Roots are the two certificates that everything leads to.
type Roots struct {
	Device *x509.Certificate // of the devices' keys
	RIM    *x509.Certificate // of who signs reference integrity manifests
}

//go:embed roots/device.pem
var deviceRoot []byte

//go:embed roots/rim.pem
var rimRoot []byte

// NVIDIA returns the vendor's roots: "NVIDIA Device Identity CA" and "NVIDIA CoRIM signing Root CA", from where
// roots/SOURCE says.
func NVIDIA() (Roots, error) {
	device, err := ParseChain(deviceRoot)
	if err != nil {
		return Roots{}, err
	}
	rim, err := ParseChain(rimRoot)
	if err != nil {
		return Roots{}, err
	}
	return Roots{Device: device[0], RIM: rim[0]}, nil
}

// ParseChain reads certificates in PEM, leaf first, and nothing else.
func ParseChain(text []byte) (chain []*x509.Certificate, err error) {
	if len(text) > MaxChain {
		return nil, fmt.Errorf("certificate chain: %d bytes, want at most %d", len(text), MaxChain)
	}
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, fmt.Errorf("certificate %d: want PEM that starts with BEGIN CERTIFICATE", len(chain)+1)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(chain) == maxCerts {
			return nil, fmt.Errorf("certificate %d: want whole PEM, and at most %d certificates", len(chain)+1, maxCerts)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain, rest = append(chain, c), after
	}
	if len(chain) == 0 {
		return nil, errors.New("certificate chain: empty")
	}
	return chain, nil
}

// verifyChain returns the chain from leaf to root, and the leaf's P-384 key. Each certificate given must
// have its place: one that belongs to another chain is refused, so that what is shown is what was checked.
func verifyChain(chain []*x509.Certificate, root *x509.Certificate, now time.Time) ([]*x509.Certificate, *ecdsa.PublicKey, error) {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %q: %w", chain[0].Subject.CommonName, err)
	}
	given := chain
	if !given[len(given)-1].Equal(root) {
		given = append(given[:len(given):len(given)], root)
	}
	if !isPath(paths, given) {
		return nil, nil, fmt.Errorf("certificate chain: %d certificates are not one chain from leaf to root", len(chain))
	}
	key, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, nil, fmt.Errorf("certificate %q: want a key on P-384", chain[0].Subject.CommonName)
	}
	return given, key, nil
}

func isPath(paths [][]*x509.Certificate, given []*x509.Certificate) bool {
	for _, p := range paths {
		same := len(p) == len(given)
		for i := 0; same && i < len(p); i++ {
			same = p[i].Equal(given[i])
		}
		if same {
			return true
		}
	}
	return false
}
