package amd

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

// signed verifies the report's signature, the chain of the key that made it and, where crl says that there is one, the list in
// trusted. Each of the three stands on its own: they are verified beside each other, for their signatures take most of a
// client's time. That of the report comes after the key is known to be of the one curve: no other key is computed with.
func (r *Report) signed(trusted *trust.AMDRootCerts, key abi.ReportSigner, crl bool, now time.Time) error {
	if err := r.profile(trusted.ProductLine, key); err != nil {
		return err
	}
	beside := func(f func() error) <-chan error {
		c := make(chan error, 1)
		go func() { c <- f() }()
		return c
	}
	report := beside(func() error { return verify.SnpReportSignature(r.Raw, r.signer) })
	list := beside(func() error {
		if !crl {
			return nil
		}
		return verify.VcekNotRevoked(trusted, nil, &verify.Options{DisableCertFetching: true, Getter: shut{}, Now: now})
	})
	return cmp.Or(issued(r.signer, trusted, key, now), <-report, <-list)
}

// profile holds the signer's certificate to the form in which AMD issues those of VCEKs and VLEKs (KDS Interface
// Specification 57230, 3.1 and 3.2); its extensions, which only version 3 has, were read already.
func (r *Report) profile(product string, key abi.ReportSigner) error {
	c := r.signer
	if c.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return fmt.Errorf("%v certificate: signature algorithm %v, want SHA384-RSAPSS", key, c.SignatureAlgorithm)
	}
	if pub, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P384() {
		return fmt.Errorf("%v certificate: %v key, want ECDSA on P-384", key, c.PublicKeyAlgorithm)
	}
	if err := named(c.Subject, fmt.Sprintf("SEV-%v", key)); err != nil {
		return fmt.Errorf("%v certificate: subject: %w", key, err)
	}
	issuer := "SEV-" + product
	if key == abi.VlekReportSigner {
		issuer = "SEV-VLEK-" + product
	}
	if err := named(c.Issuer, issuer); err != nil {
		return fmt.Errorf("%v certificate: issuer: %w", key, err)
	}
	return nil
}

// named holds a name to be AMD's, of this common name (57230, table 8).
func named(n pkix.Name, common string) error {
	for _, c := range []struct {
		what string
		got  []string
		want string
	}{
		{"country", n.Country, "US"}, {"locality", n.Locality, "Santa Clara"}, {"state", n.Province, "CA"},
		{"organization", n.Organization, "Advanced Micro Devices"}, {"organizational unit", n.OrganizationalUnit, "Engineering"},
		{"common name", []string{n.CommonName}, common},
	} {
		if len(c.got) != 1 || c.got[0] != c.want {
			return fmt.Errorf("%s %q, want %q", c.what, c.got, c.want)
		}
	}
	return nil
}

// passed holds the pairs of signer and root, by SHA-256, through which a whole chain has been verified: they are of this
// program or of a policy, never of evidence.
var passed sync.Map

// issued verifies that the trusted roots issued c, at now. What stands above c is the same for every report under one policy:
// when a chain through it has passed, crypto/x509 verifies c under its signer alone, as long as signer and root are valid.
func issued(c *x509.Certificate, trusted *trust.AMDRootCerts, key abi.ReportSigner, now time.Time) error {
	opt := trusted.X509Options(now, key)
	if opt == nil {
		return fmt.Errorf("no root to sign %v certificates", key)
	}
	root, signer := trusted.ProductCerts.Ark, trusted.ProductCerts.Ask
	if key == abi.VlekReportSigner {
		signer = trusted.ProductCerts.Asvk
	}
	pair := [2][sha256.Size]byte{sha256.Sum256(signer.Raw), sha256.Sum256(root.Raw)}
	// The library holds the signer to its dates, and to nothing of the root when that is left out.
	if _, ok := passed.Load(pair); ok && !now.Before(root.NotBefore) && !now.After(root.NotAfter) {
		opt.Roots, opt.Intermediates = x509.NewCertPool(), nil
		opt.Roots.AddCert(signer)
	}
	if _, err := c.Verify(*opt); err != nil {
		return fmt.Errorf("%v certificate: %w", key, err)
	}
	passed.Store(pair, true)
	return nil
}

// withASVK adds the signer of the product's VLEKs, which go-sev-guest carries but has not among its roots. Only its
// certificate is taken: that the same root signed it is verified with each VLEK.
func withASVK(t *trust.AMDRootCerts) (*trust.AMDRootCerts, error) {
	bundle := map[string][]byte{"Milan": trust.AskArkMilanVlekBytes, "Genoa": trust.AskArkGenoaVlekBytes, "Turin": trust.AskArkTurinVlekBytes}[t.ProductLine]
	var of trust.ProductCerts
	if err := of.FromKDSCertBytes(bundle); err != nil {
		return nil, fmt.Errorf("signer of VLEKs of a %s: %w", t.ProductLine, err)
	}
	own := *t.ProductCerts
	own.Asvk = of.Asvk
	return &trust.AMDRootCerts{ProductLine: t.ProductLine, ProductCerts: &own}, nil
}
