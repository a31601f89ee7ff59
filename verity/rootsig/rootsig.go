// Package rootsig signs root hashes for the kernel's keyring and checks such signatures.
//
// A signature is what the kernel takes with a verity table (root_hash_sig_key_desc,
// Documentation/admin-guide/device-mapper/verity.rst) and `veritysetup open --root-hash-signature` hands
// it: a detached PKCS #7 SignedData (RFC 2315, RFC 5652) in DER over the root hash as lower-case hex
// digits without a newline, as made by
//
//	openssl smime -sign -binary -noattr -nocerts -outform der -in HEX -inkey KEY -signer CERT
//
//	ContentInfo  signedData
//	  SignedData version 1, {digest algorithm}, data without content, {one SignerInfo}
//	    SignerInfo version 1, issuer and serial number of the certificate, digest algorithm,
//	               rsaEncryption (PKCS #1 v1.5) or ecdsa-with-SHA256, signature
//
// There are no signed attributes, so the signature is over the hex digits themselves. The certificate is
// only the name of a key: as in the kernel, its dates, usage and issuer are not looked at.
//
// # What the kernel does with it
//
// It looks for the signer (drivers/md/dm-verity-verify-sig.c) in .builtin_trusted_keys, in
// .secondary_trusted_keys (CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_SECONDARY_KEYRING) and, when it is in
// neither, in .platform (…_PLATFORM_KEYRING). Debian's kernels (6.12.117 was looked at) are built with all
// three and with RSA and ECDSA. Into the first two a key comes with the kernel, or signed by one that did, or
// by shim's list. Into .platform the kernel takes the certificates of the firmware's variable db
// (CONFIG_LOAD_UEFI_KEYS), Secure Boot on or off: enrolling one there is all that a stock kernel needs.
// internal/e2e (TestKernelVerifies) boots such a kernel and firmware and shows that it opens a volume with a
// signature of Sign, by RSA and by ECDSA, and refuses its table with EKEYREJECTED when the signature is another
// root hash's or damaged, and with ENOKEY when the signer is not in db.
//
// A volume without a signature opens too, unless the module was loaded with require_signatures=1: a
// parameter that cannot be changed later. And db is the business of who owns the machine. An enclave
// image therefore needs no such signature: its root hash is on the measured command line.
package rootsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the digests of crypto.Hash
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"tally/verity"
)

// MaxSize is the largest signature that Verify reads, in bytes.
const MaxSize = 64 << 10

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// An algorithm is a digest and the names of its signatures.
type algorithm struct {
	hash               crypto.Hash
	digest, rsa, ecdsa asn1.ObjectIdentifier
}

// algorithms are those that Verify accepts; Sign uses the first.
var algorithms = []algorithm{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Content          contentInfo
	Certificates     asn1.RawValue `asn1:"optional,tag:0"`
	CRLs             asn1.RawValue `asn1:"optional,tag:1"`
	Signers          []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version            int
	Signer             asn1.RawValue // issuerAndSerial
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttributes   asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	UnsignedAttributes asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// Sign signs root with the key of cert: RSA of at least 2048 bits or ECDSA, with SHA-256. The signature
// of an RSA key is the same each time.
func Sign(rand io.Reader, root verity.RootHash, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	a := algorithms[0]
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return nil, errors.New("certificate: it is not the key's")
	}
	if root.Size() == 0 {
		return nil, errors.New("root hash: none")
	}
	digest := pkix.AlgorithmIdentifier{Algorithm: a.digest, Parameters: asn1.NullRawValue}
	signature, err := a.signature(key.Public())
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(rand, hashOf(a.hash, root), a.hash)
	if err != nil {
		return nil, err
	}
	signer, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber})
	if err != nil {
		return nil, err
	}
	content, err := asn1.Marshal(signedData{
		Version: 1, DigestAlgorithms: []pkix.AlgorithmIdentifier{digest}, Content: contentInfo{Type: oidData},
		Signers: []signerInfo{{
			Version: 1, Signer: asn1.RawValue{FullBytes: signer},
			DigestAlgorithm: digest, SignatureAlgorithm: signature, Signature: sig,
		}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}})
}

// signature names the algorithm as openssl does for a key.
func (a algorithm) signature(key crypto.PublicKey) (pkix.AlgorithmIdentifier, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return pkix.AlgorithmIdentifier{}, fmt.Errorf("key: RSA of %d bits, want at least 2048", k.N.BitLen())
		}
		return pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}, nil
	case *ecdsa.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: a.ecdsa}, nil
	}
	return pkix.AlgorithmIdentifier{}, fmt.Errorf("key: %T, want RSA or ECDSA", key)
}

func hashOf(h crypto.Hash, root verity.RootHash) []byte {
	state := h.New()
	io.WriteString(state, root.String())
	return state.Sum(nil)
}

// ErrSignature is wrapped by the errors of Verify that are a verdict on a well-formed signature: another
// signer's, or not of this root hash.
var ErrSignature = errors.New("signature not verified")

// Verify checks that sig is a signature of root by the key of one of certs, and says which. Anything that
// the kernel would not need to read is refused: other digests than SHA-256, SHA-384 and SHA-512,
// attributes, a content, more than one signer. Certificates in sig are not looked at.
func Verify(sig []byte, root verity.RootHash, certs []*x509.Certificate) (*x509.Certificate, error) {
	if root.Size() == 0 {
		return nil, errors.New("root hash: none")
	}
	s, err := parse(sig)
	if err != nil {
		return nil, fmt.Errorf("root hash signature: %w", err)
	}
	var name issuerAndSerial
	if rest, err := asn1.Unmarshal(s.Signer.FullBytes, &name); err != nil || len(rest) > 0 {
		return nil, errors.New("root hash signature: signer: want issuer and serial number")
	}
	for _, cert := range certs {
		if cert.SerialNumber.Cmp(name.Serial) != 0 || !bytes.Equal(cert.RawIssuer, name.Issuer.FullBytes) {
			continue
		}
		if err := s.check(root, cert); err != nil {
			return nil, err
		}
		return cert, nil
	}
	return nil, fmt.Errorf("%w: signed by the holder of certificate number %x, which is none of those given", ErrSignature, name.Serial)
}

// parse reads the one signer of a signature.
func parse(sig []byte) (*signerInfo, error) {
	if len(sig) > MaxSize {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(sig), MaxSize)
	}
	var outer contentInfo
	if rest, err := asn1.Unmarshal(sig, &outer); err != nil {
		return nil, fmt.Errorf("want PKCS #7 in DER: %w", err)
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind it", len(rest))
	}
	if !outer.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("content type %v, want signedData", outer.Type)
	}
	var d signedData
	if rest, err := asn1.Unmarshal(outer.Content.Bytes, &d); err != nil {
		return nil, fmt.Errorf("signed data: %w", err)
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("signed data: %d bytes behind it", len(rest))
	}
	return d.signer()
}

// signer checks that there is nothing beside one signer, and nothing beside a signature in that.
func (d *signedData) signer() (*signerInfo, error) {
	switch {
	case d.Version != 1:
		return nil, fmt.Errorf("signed data: version %d, want 1", d.Version)
	case !d.Content.Type.Equal(oidData):
		return nil, fmt.Errorf("signed data: content type %v, want data", d.Content.Type)
	case len(d.Content.Content.FullBytes) > 0:
		return nil, errors.New("signed data: it has a content, want a detached signature")
	case len(d.CRLs.FullBytes) > 0:
		return nil, errors.New("signed data: it has revocation lists, want none")
	case len(d.Signers) != 1:
		return nil, fmt.Errorf("signed data: %d signers, want 1", len(d.Signers))
	}
	s := &d.Signers[0]
	switch {
	case len(d.DigestAlgorithms) != 1 || !d.DigestAlgorithms[0].Algorithm.Equal(s.DigestAlgorithm.Algorithm):
		return nil, errors.New("signed data: digest algorithms, want the signer's alone")
	case !plain(d.DigestAlgorithms[0]) || !plain(s.DigestAlgorithm) || !plain(s.SignatureAlgorithm):
		return nil, errors.New("signer: algorithm with parameters, want none")
	case s.Version != 1:
		return nil, fmt.Errorf("signer: version %d, want 1", s.Version)
	case len(s.SignedAttributes.FullBytes) > 0 || len(s.UnsignedAttributes.FullBytes) > 0:
		return nil, errors.New("signer: it has attributes, want none (openssl: -noattr)")
	}
	return s, nil
}

// plain says whether an algorithm has no parameters, or NULL.
func plain(a pkix.AlgorithmIdentifier) bool {
	return len(a.Parameters.FullBytes) == 0 || bytes.Equal(a.Parameters.FullBytes, asn1.NullBytes)
}

// check verifies the signature itself.
func (s *signerInfo) check(root verity.RootHash, cert *x509.Certificate) error {
	for _, a := range algorithms {
		if !s.DigestAlgorithm.Algorithm.Equal(a.digest) {
			continue
		}
		name, digest := s.SignatureAlgorithm.Algorithm, hashOf(a.hash, root)
		good := false
		switch k := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			if !name.Equal(oidRSA) && !name.Equal(a.rsa) {
				return fmt.Errorf("root hash signature: algorithm %v, want RSA", name)
			}
			good = rsa.VerifyPKCS1v15(k, a.hash, digest, s.Signature) == nil
		case *ecdsa.PublicKey:
			if !name.Equal(a.ecdsa) {
				return fmt.Errorf("root hash signature: algorithm %v, want %v", name, a.ecdsa)
			}
			good = ecdsa.VerifyASN1(k, digest, s.Signature)
		default:
			return fmt.Errorf("certificate: key is %T, want RSA or ECDSA", k)
		}
		if !good {
			return fmt.Errorf("%w: it is not of root hash %s", ErrSignature, root)
		}
		return nil
	}
	return fmt.Errorf("root hash signature: digest algorithm %v, want SHA-256, SHA-384 or SHA-512", s.DigestAlgorithm.Algorithm)
}
