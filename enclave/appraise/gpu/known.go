package gpu

import (
	"crypto/x509"
	_ "embed" // the vendor's authorities
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
)

//go:embed roots/links
var linksText string

// A pair is two certificates by their SHA-256: one, and the one that signed it.
type pair struct{ cert, issuer [32]byte }

// knownLinks are the links among the vendor's own authorities, which all its devices and manifests have in common: from one root
// down to, and without, chips and signers of manifests. That the one certificate is signed by the other is a fact about two strings of
// bytes. A test derives this list from the certificates, verifies each link with crypto/x509 and with OpenSSL, and wants
// this list and no other, so that a verifier need not compute the same P-384 again. A link that is not here is computed.
//
// A line is the SHA-256 of a certificate, that of its issuer, and for people their names.
var knownLinks = sync.OnceValue(func() map[pair]bool {
	known, err := parseLinks(linksText)
	if err != nil {
		return nil // every link is computed; TestKnownLinks reads the file
	}
	return known
})

func parseLinks(text string) (map[pair]bool, error) {
	known := map[pair]bool{}
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		var p pair
		if len(words) < 2 || !sha256Text(words[0], &p.cert) || !sha256Text(words[1], &p.issuer) {
			return nil, fmt.Errorf("roots/links: line %d: want two SHA-256 of 64 hexadecimal digits", n+1)
		}
		known[p] = true
	}
	return known, nil
}

func sha256Text(text string, sum *[32]byte) bool {
	b, err := hex.DecodeString(text)
	return err == nil && copy(sum[:], b) == len(sum) && len(b) == len(sum)
}

// inTime reports whether both certificates of a link are valid at the time, which is all of a link that does not stay as it is.
func inTime(link []*x509.Certificate, at time.Time) bool {
	for _, c := range link {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return false
		}
	}
	return true
}
