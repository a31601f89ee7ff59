package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/verity"
	"tally/verity/rootsig"
)

func veritySignCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign a root hash for the kernel's keyring", ArgsUsage: "ROOT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "private key `FILE` in PEM, RSA or ECDSA, not encrypted"},
			&cli.StringFlag{Name: "certificate", Usage: "the key's X.509 certificate `FILE` in PEM"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the signature to `FILE`"},
			&cli.StringFlag{Name: "root-hash-file", Usage: "`FILE` that holds the root hash in hex, in place of ROOT"},
		},
		Description: "The signature is what `veritysetup open --root-hash-signature` and the kernel take: PKCS #7, detached, in DER, without\n" +
			"attributes and certificates, over the root hash in hex; the same as\n" +
			"`openssl smime -sign -nocerts -noattr -binary -outform der` makes. The kernel wants the certificate in its trusted\n" +
			"keyring or, as Debian's does too, in the firmware's db (package verity/rootsig).\n" +
			"It says who vouched for a root hash on this machine; it is not the release's signature, and no client looks at it.\n\n" +
			"--json prints tally.verity-signature/v1: root_hash, signature (FILE), size (bytes), certificate_sha256, subject.\n\n" +
			"    tally verity sign 5f3e… --key key.pem --certificate cert.pem -o root.p7s",
		Action: func(c *cli.Context) error { return veritySign(c, e) },
	}
}

// A signAnswer is tally.verity-signature/v1.
type signAnswer struct {
	Schema      string          `json:"schema"`
	RootHash    verity.RootHash `json:"root_hash"`
	Signature   string          `json:"signature"`
	Size        int             `json:"size"`
	Certificate string          `json:"certificate_sha256"`
	Subject     string          `json:"subject"`
}

func veritySign(c *cli.Context, e *env) error {
	root, err := rootHashArgument(c)
	if err != nil {
		return err
	}
	if err := requireFlags(c, "key", "certificate", "output"); err != nil {
		return err
	}
	certs, err := readCertificates(c.String("certificate"))
	if err != nil {
		return err
	}
	text, err := readSmall(c.String("key"), rootsig.MaxSize)
	if err != nil {
		return err
	}
	key, err := rootsig.ParseKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("key"), err)
	}
	sig, err := rootsig.Sign(rand.Reader, root, certs[0], key)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(c.String("output"), sig, 0o644); err != nil {
		return err
	}
	a := signAnswer{
		Schema: "tally.verity-signature/v1", RootHash: root, Signature: c.String("output"), Size: len(sig),
		Certificate: fingerprint(certs[0]), Subject: certs[0].Subject.String(),
	}
	if e.json {
		return e.printJSON(&a)
	}
	e.printf("Root hash:      \t%s\nSignature:      \t%s\nSigner:         \t%q\nCertificate:    \tsha256 %s\n", a.RootHash, a.Signature, a.Subject, a.Certificate)
	return nil
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

func readCertificates(name string) ([]*x509.Certificate, error) {
	text, err := readSmall(name, rootsig.MaxSize)
	if err != nil {
		return nil, err
	}
	certs, err := rootsig.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs, nil
}

// A signatureAnswer is what verify says about --root-hash-signature.
type signatureAnswer struct {
	Verified    bool   `json:"verified"`
	Certificate string `json:"certificate_sha256,omitempty"`
	Subject     string `json:"subject,omitempty"`
}

func signatureFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "root-hash-signature", Usage: "PKCS #7 signature `FILE` of the root hash to check (needs --certificate)"},
		&cli.StringFlag{Name: "certificate", Usage: "PEM `FILE` of certificates, one of which must be the signer's"},
	}
}

// checkSignature returns nil without --root-hash-signature; the error beside an answer is a verdict.
func checkSignature(c *cli.Context, root verity.RootHash) (*signatureAnswer, error) {
	name, certName := c.String("root-hash-signature"), c.String("certificate")
	if c.IsSet("root-hash-signature") != c.IsSet("certificate") || c.IsSet("certificate") && (name == "" || certName == "") {
		return nil, usagef("--root-hash-signature and --certificate: want both, or neither")
	}
	if name == "" {
		return nil, nil
	}
	certs, err := readCertificates(certName)
	if err != nil {
		return nil, err
	}
	sig, err := readSmall(name, rootsig.MaxSize)
	if err != nil {
		return nil, err
	}
	cert, err := rootsig.Verify(sig, root, certs)
	switch {
	case errors.Is(err, rootsig.ErrSignature):
		return &signatureAnswer{}, fmt.Errorf("%s: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &signatureAnswer{Verified: true, Certificate: fingerprint(cert), Subject: cert.Subject.String()}, nil
}
