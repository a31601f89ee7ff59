package gpu

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The one form of XML signature that manifests have (W3C XML Signature 1.1; RFC 6931 for the algorithms).
const (
	dsigSpace    = "http://www.w3.org/2000/09/xmldsig#"
	algEnveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	algC14N11    = "http://www.w3.org/2006/12/xml-c14n11"
	algECDSA384  = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
	algSHA384    = "http://www.w3.org/2001/04/xmldsig-more#sha384"
)

// A signature is what Signature holds, all of it: nothing in it is optional and nothing more is allowed.
type signature struct {
	element *node
	info    *node // SignedInfo
	digest  []byte
	value   []byte
	chain   []*x509.Certificate

	outcome func() outcome // of what can be judged without knowing a root: begun when the document is read
}

// An outcome is what the signature is worth by the document alone.
type outcome struct {
	digest [48]byte // of the document, to be what the signature says
	signed bool     // by the first certificate's key
}

// findSignature reads the Signature that is a child of root, and wants no other anywhere in the document.
func findSignature(root *node) (*signature, error) {
	all := signatures(root, nil)
	if len(all) != 1 || all[0].parent != root {
		return nil, fmt.Errorf("signature: %d in the document, want one, in its outermost element", len(all))
	}
	s := &signature{element: all[0]}
	parts, err := exactly(s.element, "SignedInfo", "SignatureValue", "KeyInfo")
	if err != nil {
		return nil, err
	}
	s.info = parts[0]
	if s.value, err = base64Text(parts[1], signatureSize); err != nil {
		return nil, err
	}
	if err := s.readInfo(); err != nil {
		return nil, err
	}
	if parts, err = exactly(parts[2], "X509Data"); err != nil {
		return nil, err
	}
	return s, s.readChain(parts[0])
}

func signatures(n *node, all []*node) []*node {
	for _, c := range n.elements() {
		if c.is(dsigSpace, "Signature") {
			all = append(all, c)
		}
		all = signatures(c, all)
	}
	return all
}

func (s *signature) readInfo() error {
	parts, err := exactly(s.info, "CanonicalizationMethod", "SignatureMethod", "Reference")
	if err != nil {
		return err
	}
	ref := parts[2]
	inner, err := exactly(ref, "Transforms", "DigestMethod", "DigestValue")
	if err != nil {
		return err
	}
	transforms, err := exactly(inner[0], "Transform", "Transform")
	if err != nil {
		return err
	}
	if uri, ok := ref.attr("", "URI"); !ok || uri != "" || len(ref.attrs) != 1 {
		return fmt.Errorf("signature: reference to %.80q, want to the whole document", uri)
	}
	for i, n := range []*node{parts[0], parts[1], transforms[0], transforms[1], inner[1]} {
		want := []string{algC14N11, algECDSA384, algEnveloped, algC14N11, algSHA384}[i]
		if got, _ := n.attr("", "Algorithm"); got != want || len(n.children) != 0 || len(n.attrs) != 1 {
			return fmt.Errorf("signature: %s %.80q, want %s and nothing else", n.name, got, want)
		}
	}
	s.digest, err = base64Text(inner[2], len(Digest{}))
	return err
}

func (s *signature) readChain(data *node) error {
	for _, c := range data.elements() {
		if !c.is(dsigSpace, "X509Certificate") || len(s.chain) == maxCerts {
			return fmt.Errorf("signature: X509Data: want at most %d X509Certificate and nothing else", maxCerts)
		}
		der, err := base64Text(c, 0)
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("signature: certificate %d: %w", len(s.chain)+1, err)
		}
		s.chain = append(s.chain, cert)
	}
	if len(s.chain) == 0 {
		return errors.New("signature: no certificate")
	}
	return nil
}

// begin judges the signature by the document alone, beside what follows: most of it is P-384, and readers of several
// files have processors that wait for the last.
func (s *signature) begin(root *node) {
	s.outcome = sync.OnceValue(func() outcome {
		return outcome{sha512.Sum384(canonical(root, s.element)), s.signed()}
	})
	go s.outcome()
}

// verify checks the digest of the document, and the signature over the digest by the first certificate,
// which must lead to root at the given time.
func (s *signature) verify(m *memo, ca *x509.Certificate, at time.Time) ([]*x509.Certificate, error) {
	chain, err := m.verifyChain(s.chain, ca, at)
	switch o := s.outcome(); {
	case !bytes.Equal(o.digest[:], s.digest):
		return nil, refuse(RIMSignature, "digest of the document is %x, the signature says %x", o.digest, s.digest)
	case err != nil:
		return nil, refuse(RIMChain, "%w", err)
	case !o.signed:
		return nil, refuse(RIMSignature, "signature is not of certificate %q over this document", s.chain[0].Subject.CommonName)
	}
	return chain, nil
}

// signed reports whether the first certificate's key signed.
func (s *signature) signed() bool {
	key, err := leafKey(s.chain[0])
	sum := sha512.Sum384(canonical(s.info, nil))
	return err == nil && verifyRaw(key, sum[:], s.value)
}

// exactly returns the child elements of n, which must be the named ones in this order.
func exactly(n *node, names ...string) ([]*node, error) {
	all := n.elements()
	ok := len(all) == len(names)
	for i := 0; ok && i < len(all); i++ {
		ok = all[i].is(dsigSpace, names[i])
	}
	if !ok {
		return nil, fmt.Errorf("signature: %s: want %s and nothing else", n.name, strings.Join(names, ", "))
	}
	return all, nil
}

// base64Text decodes the text of n: size bytes, or any number when size is 0.
func base64Text(n *node, size int) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.content()), ""))
	if err == nil && (size > 0 && len(b) != size || len(n.elements()) != 0) {
		err = fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	if err != nil {
		return nil, fmt.Errorf("signature: %s: %w", n.name, err)
	}
	return b, nil
}
