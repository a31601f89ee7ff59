package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"tally/internal/cli"
	"tally/internal/keylesswire"
	"tally/release"
	"tally/release/sign"
)

const keylessHelp = "With --keyless there is no key to keep: the CA gives a certificate of some minutes for an OpenID Connect identity token, and a timestamp\n" +
	"authority says that the signature fell into them. The token comes from --identity-token, else from GitHub Actions (permissions:\n" +
	"id-token: write). What comes back must verify against the trusted root, or nothing is written. Clients name the identity in their policy.\n" +
	"Two signatures differ, and are one release once published."

func keylessFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "keyless", Usage: "sign with a certificate for an identity token instead of a key"},
		&cli.StringFlag{Name: "identity-token", Usage: "the token, or the `FILE` that holds it (\"-\": stdin), for audience sigstore"},
		&cli.StringFlag{Name: "fulcio-url", Usage: "`URL` of the CA (Fulcio)"},
		&cli.StringFlag{Name: "tsa-url", Usage: "`URL` of the timestamp authority (RFC 3161)"},
		&cli.StringFlag{Name: "trusted-root", Usage: "Sigstore trusted root `FILE` to check the result against"},
	}
}

// checkSigner wants either a key or all that signing without one takes, and the other flags that are named.
func checkSigner(c *cli.Context, others ...string) error {
	if c.Bool("keyless") {
		if c.IsSet("key") {
			return usagef("--keyless and --key exclude each other")
		}
		return requireFlags(c, append(others, "fulcio-url", "tsa-url", "trusted-root")...)
	}
	for _, name := range keylessFlagNames {
		if c.IsSet(name) {
			return usagef("--%s goes with --keyless", name)
		}
	}
	return requireFlags(c, append(others, "key")...)
}

var keylessFlagNames = []string{"identity-token", "fulcio-url", "tsa-url", "trusted-root"}

// A sealer signs payloads, by a key or by certificates, and says who did.
type sealer func(payload []byte) (*release.Bundle, signer, error)

// bundle signs what a call that makes a payload returned: seal.bundle(s.Marshal()). data is the bundle as it is stored.
func (seal sealer) bundle(payload []byte, err error) (b *release.Bundle, data []byte, who signer, _ error) {
	if err != nil {
		return nil, nil, who, err
	}
	if b, who, err = seal(payload); err != nil {
		return nil, nil, who, err
	}
	data, err = b.Marshal()
	return b, data, who, err
}

// A signer is a key, or the key of a certificate with its identity.
type signer struct {
	key      release.PublicKey
	identity *release.Certified
}

// signedBy says who signed, for people.
func signedBy(key release.Digest, identity *release.Certified) string {
	if identity != nil {
		return identity.String()
	}
	return "key " + key.String()
}

// newSealer reads --key, or --keyless with what belongs to it.
func newSealer(c *cli.Context, e *env) (sealer, error) {
	if c.Bool("keyless") {
		return newKeylessSealer(c, e)
	}
	key, err := loadKey(c, e)
	if err != nil {
		return nil, err
	}
	return func(payload []byte) (*release.Bundle, signer, error) {
		b, err := sign.Seal(key, payload)
		return b, signer{key: key.Public()}, err
	}, nil
}

func newKeylessSealer(c *cli.Context, e *env) (sealer, error) {
	q := keylesswire.Request{Op: "seal", FulcioURL: c.String("fulcio-url"), TSAURL: c.String("tsa-url")}
	var err error
	if q.TrustedRoot, err = readSmall(c.String("trusted-root"), 1<<20); err != nil {
		return nil, err
	}
	token, err := identityToken(c, e)
	if err != nil {
		return nil, err
	}
	if _, err := token(); err != nil { // before what is to be signed is made, which may take long
		return nil, err
	}
	return func(payload []byte) (*release.Bundle, signer, error) {
		q := q
		q.Payload = payload
		if q.Token, err = token(); err != nil {
			return nil, signer{}, err
		}
		p, err := keylesswire.Ask(c.Context, q)
		if err != nil {
			return nil, signer{}, err
		}
		b, err := release.ParseBundle(p.Bundle)
		if err != nil || p.Certified == nil {
			return nil, signer{}, fmt.Errorf("%s: reply: no bundle with an identity (%v)", keylesswire.Program, err)
		}
		k, err := release.CertifiedKey(b.Certificate, p.Certified)
		return b, signer{k, p.Certified}, err
	}, nil
}

// identityToken says where the token comes from. A token lives for minutes, so it is asked for or read at each
// signature, unless it was given itself or on stdin. A JWT begins with the base64 of `{"`, which a file's name hardly does.
func identityToken(c *cli.Context, e *env) (func() (string, error), error) {
	const limit = 64 << 10
	given := func(token string) (func() (string, error), error) {
		return func() (string, error) { return token, nil }, nil
	}
	name := c.String("identity-token")
	switch {
	case name == "":
		return func() (string, error) {
			p, err := keylesswire.Ask(c.Context, keylesswire.Request{Op: "ambient"})
			if err != nil {
				return "", withHint(err, "give --identity-token FILE")
			}
			return p.Token, nil
		}, nil
	case strings.HasPrefix(name, "eyJ") && strings.Count(name, ".") == 2:
		return given(name)
	case name == "-":
		data, err := io.ReadAll(io.LimitReader(e.stdin, limit+1))
		if err != nil {
			return nil, err
		}
		return given(strings.TrimSpace(string(data)))
	}
	return func() (string, error) {
		data, err := readSmall(name, limit)
		if os.IsNotExist(err) {
			return "", usagef("--identity-token: %w", err)
		}
		return strings.TrimSpace(string(data)), err
	}, nil
}
