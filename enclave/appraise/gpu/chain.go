package gpu

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	_ "embed" // the vendor's roots

	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
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
		if len(chain) == maxCerts {
			return nil, fmt.Errorf("certificate chain: want at most %d certificates", maxCerts)
		}
		var c *x509.Certificate
		if c, rest, err = firstCert(rest); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("certificate chain: empty")
	}
	return chain, nil
}

// firstCert reads the first certificate of PEM without white space before it, and returns what follows.
func firstCert(text []byte) (*x509.Certificate, []byte, error) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, nil, errors.New("want PEM that starts with BEGIN CERTIFICATE")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, errors.New("want whole PEM")
	}
	// The decoder looks for the next block when one is damaged, and says nothing.
	if whole := text[:len(text)-len(rest)]; bytes.Count(whole, []byte("-----BEGIN")) != 1 || len(block.Headers) != 0 {
		return nil, nil, errors.New("want PEM without headers and undamaged")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	return c, rest, err
}

// verifyChain returns the chain from leaf to root, of which the leaf has a P-384 key. Each certificate given must
// have its place: one that belongs to another chain is refused, so that what is shown is what was checked.
func (m *memo) verifyChain(chain []*x509.Certificate, root *x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	if root == nil {
		return nil, errors.New("no root to verify certificates with")
	}
	if !chain[len(chain)-1].Equal(root) {
		chain = append(chain[:len(chain):len(chain)], root)
	}
	if len(chain) < 2 {
		return nil, errors.New("certificate chain: the root alone, want a leaf below it")
	}
	if err := m.path(chain, now); err != nil {
		return nil, fmt.Errorf("certificate %q: %w", chain[0].Subject.CommonName, err)
	}
	for i, c := range chain[1:] {
		if err := authority(c, i); err != nil {
			return nil, fmt.Errorf("certificate %q: %w", c.Subject.CommonName, err)
		}
	}
	_, err := leafKey(chain[0])
	return chain, err
}

func leafKey(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("certificate %q: want a key on P-384", c.Subject.CommonName)
	}
	return key, nil
}

// authority wants c to be one that may sign certificates, with as many authorities between it and the leaf. The
// library holds only intermediate certificates to that, and in a path of one link there are none: it
// passes version 1 there, and everywhere a key of no stated usage.
func authority(c *x509.Certificate, below int) error {
	switch {
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("version %d, authority %v, want an authority of version 3", c.Version, c.IsCA)
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key is not for signing certificates")
	case c.MaxPathLen >= 0 && below > c.MaxPathLen:
		return fmt.Errorf("may sign chains of %d more, not %d", c.MaxPathLen, below)
	}
	return nil
}

// A memo remembers which certificates are valid and signed by which: devices and manifests have them in common. The
// time is part of what it remembers.
type memo struct {
	mu   sync.Mutex
	done map[link]func() error
}

type link struct {
	pair
	at time.Time
}

// path wants chain to be one path of certificates valid at the time, each signed by the next. The links are verified
// beside each other, and each once; what a link does not show, [authority] and constrained see to.
func (m *memo) path(chain []*x509.Certificate, now time.Time) error {
	if slices.ContainsFunc(chain, constrained) {
		return onePath(chain, now)
	}
	errs, wg := make([]error, len(chain)-1), sync.WaitGroup{}
	issuer := sha256.Sum256(chain[0].Raw)
	for i := range errs {
		cert := issuer
		issuer = sha256.Sum256(chain[i+1].Raw)
		p := pair{cert, issuer}
		if !knownLinks()[p] || !inTime(chain[i:i+2], now) {
			wg.Go(func() { errs[i] = m.signed(p, chain[i:i+2], now) })
		}
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// signed verifies the certificate of a pair under its issuer.
func (m *memo) signed(p pair, certs []*x509.Certificate, now time.Time) error {
	key := link{p, now.Round(0).UTC()}
	m.mu.Lock()
	once, ok := m.done[key]
	if !ok {
		if m.done == nil {
			m.done = map[link]func() error{}
		}
		once = sync.OnceValue(func() error { return onePath(certs, now) })
		m.done[key] = once
	}
	m.mu.Unlock()
	return once()
}

// constrained reports whether a certificate limits names, or wants policies, of what is below it, which only a whole path
// shows.
func constrained(c *x509.Certificate) bool {
	return c.RequireExplicitPolicy > 0 || c.RequireExplicitPolicyZero || len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// onePath verifies chain under its own last certificate.
func onePath(chain []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[1 : len(chain)-1] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err == nil && !isPath(paths, chain) {
		err = fmt.Errorf("%d certificates are not one chain from leaf to root", len(chain))
	}
	return err
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
