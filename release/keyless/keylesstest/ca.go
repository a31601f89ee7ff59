package keylesstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"net/url"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// A pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// issue makes a certificate from a template; a nil parent signs itself.
func issue(template *x509.Certificate, parent *pair) (*pair, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	self := parent == nil
	if self {
		parent = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &pair{cert, key}, err
}

func caTemplate(name string, now time.Time, usage ...x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), IsCA: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: usage,
	}
}

// authorities makes CA, timestamp authority and certificate log, and the trusted root that names them.
func (w *World) authorities(now time.Time) error {
	rootCA, err := issue(caTemplate("root", now), nil)
	if err != nil {
		return err
	}
	if w.ca, err = issue(caTemplate("intermediate", now, x509.ExtKeyUsageCodeSigning), rootCA); err != nil {
		return err
	}
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}) // id-kp-timeStamping
	if err != nil {
		return err
	}
	tsaRoot, err := issue(caTemplate("timestamp root", now), nil)
	if err != nil {
		return err
	}
	w.tsa, err = issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "timestamps"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku}},
	}, tsaRoot)
	if err != nil {
		return err
	}
	if w.ct, err = newKey(); err != nil {
		return err
	}
	return w.trustedRoots(rootCA.cert, tsaRoot.cert, now)
}

func (w *World) trustedRoots(ca, tsa *x509.Certificate, now time.Time) error {
	from, to := now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
	fulcio := &root.FulcioCertificateAuthority{Root: ca, Intermediates: []*x509.Certificate{w.ca.cert}, ValidityPeriodStart: from, ValidityPeriodEnd: to, URI: "https://fulcio.example"}
	stamps := &root.SigstoreTimestampingAuthority{Root: tsa, Leaf: w.tsa.cert, ValidityPeriodStart: from, ValidityPeriodEnd: to, URI: "https://tsa.example"}
	id, err := logID(w.ct)
	if err != nil {
		return err
	}
	logs := map[string]*root.TransparencyLog{"": {
		BaseURL: "https://ct.example", ID: id[:], HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
		PublicKey: w.ct.Public(), ValidityPeriodStart: from, ValidityPeriodEnd: to,
	}}
	marshal := func(logs map[string]*root.TransparencyLog) []byte {
		tr, terr := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{fulcio}, logs, []root.TimestampingAuthority{stamps}, nil)
		if terr != nil {
			err = errors.Join(err, terr)
			return nil
		}
		data, merr := tr.MarshalJSON()
		err = errors.Join(err, merr)
		return data
	}
	w.Root, w.RootWithoutLogs = marshal(logs), marshal(nil)
	return err
}

func logID(k *ecdsa.PrivateKey) ([32]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	return sha256.Sum256(der), err
}

// leaf makes the certificate that Fulcio would make for the claims (docs/oid-info.md).
func (w *World) leaf(c Claims, pub crypto.PublicKey) ([]byte, error) {
	now := w.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now, NotAfter: now.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	type ext struct {
		id    asn1.ObjectIdentifier
		value string
	}
	exts := []ext{{certificate.OIDIssuerV2, c.Issuer}}
	if c.Email != "" {
		template.EmailAddresses = []string{c.Email}
	} else {
		u, err := url.Parse(github + c.JobWorkflowRef)
		if err != nil {
			return nil, err
		}
		template.URIs = []*url.URL{u}
		exts = append(exts, ext{certificate.OIDSourceRepositoryURI, github + c.Repository}, ext{certificate.OIDSourceRepositoryDigest, c.SHA},
			ext{certificate.OIDSourceRepositoryRef, c.Ref}, ext{certificate.OIDBuildConfigURI, github + c.WorkflowRef})
	}
	for _, e := range exts {
		value, err := asn1.MarshalWithParams(e.value, "utf8")
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: e.id, Value: value})
	}
	if w.Edit != nil {
		w.Edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.cert, pub, w.ca.key)
	if err != nil || w.NoSCT {
		return der, err
	}
	sct, err := w.sct(der)
	if err != nil {
		return nil, err
	}
	template.ExtraExtensions = append(template.ExtraExtensions, sct)
	return x509.CreateCertificate(rand.Reader, template, w.ca.cert, pub, w.ca.key)
}

// sct promises to show the certificate (RFC 6962, 3.2 and 3.3).
func (w *World) sct(der []byte) (pkix.Extension, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pkix.Extension{}, err
	}
	issuer, id := sha256.Sum256(w.ca.cert.RawSubjectPublicKeyInfo), [32]byte{}
	if id, err = logID(w.ct); err != nil {
		return pkix.Extension{}, err
	}
	be := binary.BigEndian
	stamp := be.AppendUint64(nil, uint64(w.Now().UnixMilli()))
	signed := append([]byte{0, 0}, stamp...) // v1, certificate_timestamp
	signed = append(be.AppendUint16(signed, 1), issuer[:]...)
	tbs := cert.RawTBSCertificate
	signed = append(append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs))), tbs...)
	d := sha256.Sum256(be.AppendUint16(signed, 0))
	sig, err := ecdsa.SignASN1(rand.Reader, w.ct, d[:])
	if err != nil {
		return pkix.Extension{}, err
	}
	one := append(append([]byte{0}, id[:]...), stamp...)
	one = append(be.AppendUint16(one, 0), 4, 3) // no extensions; SHA-256, ECDSA
	one = append(be.AppendUint16(one, uint16(len(sig))), sig...)
	list := append(be.AppendUint16(nil, uint16(len(one))), one...)
	value, err := asn1.Marshal(append(be.AppendUint16(nil, uint16(len(list))), list...))
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}, err
}
