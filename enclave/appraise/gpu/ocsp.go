package gpu

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Limits of OCSP responses.
const (
	MaxOCSP      = 16 << 10 // bytes of a response
	MaxResponses = 256
	clockSkew    = 5 * time.Minute // by which a responder's clock may be ahead
)

// responses are those at hand, by the serial number that they are about.
type responses struct {
	about map[string][]*ocsp.Response

	mu        sync.Mutex
	delegates map[pair]func() error // a responder has one certificate for many responses
}

// wantedResponses are those at hand, or none where the policy asks for none: nobody looks at them then.
func wantedResponses(in Input) (*responses, error) {
	if in.Policy.NoOCSP {
		return new(responses), nil
	}
	return indexResponses(in.OCSP)
}

// indexResponses reads responses (RFC 6960, each about one certificate). Of one that comes with a responder's certificate the library
// has verified that the responder signed it; who may respond is judged later.
func indexResponses(all [][]byte) (*responses, error) {
	if len(all) > MaxResponses {
		return nil, fmt.Errorf("OCSP: %d responses, want at most %d", len(all), MaxResponses)
	}
	read, errs := make([]*ocsp.Response, len(all)), make([]error, len(all))
	beside(len(all), func(i int) {
		if len(all[i]) > MaxOCSP {
			errs[i] = fmt.Errorf("%d bytes, want at most %d", len(all[i]), MaxOCSP)
			return
		}
		read[i], errs[i] = ocsp.ParseResponse(all[i], nil)
	})
	r := &responses{about: map[string][]*ocsp.Response{}, delegates: map[pair]func() error{}}
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("OCSP response %d: %w", i, err)
		}
		serial := read[i].SerialNumber.String()
		r.about[serial] = append(r.about[serial], read[i])
	}
	return r, nil
}

// signed wants a response to be signed by the issuer, or by a responder whose certificate it signed. The library would verify
// both, and what it has verified already again, for each response.
func (all *responses) signed(r *ocsp.Response, issuer *x509.Certificate) error {
	c := r.Certificate
	if c == nil {
		return r.CheckSignatureFrom(issuer)
	}
	p := pair{sha256.Sum256(c.Raw), sha256.Sum256(issuer.Raw)}
	all.mu.Lock()
	once, ok := all.delegates[p]
	if !ok {
		once = sync.OnceValue(func() error {
			return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
		})
		all.delegates[p] = once
	}
	all.mu.Unlock()
	return once()
}

// check wants a response about cert, by its issuer or whom the issuer let sign responses, that says
// good and is fresh. Of several the newest counts: an older one is no excuse.
func (all *responses) check(cert, issuer *x509.Certificate, now time.Time, maxAge time.Duration) error {
	name := cert.Subject.CommonName
	var newest *ocsp.Response
	var failed error
	for _, r := range all.about[cert.SerialNumber.String()] {
		if err := cmp.Or(all.signed(r, issuer), checkResponder(r, issuer), checkIssuer(r, issuer)); err != nil {
			failed = err
		} else if newest == nil || r.ThisUpdate.After(newest.ThisUpdate) || r.ThisUpdate.Equal(newest.ThisUpdate) && r.Status != ocsp.Good {
			newest = r
		}
	}
	switch {
	case newest == nil && failed != nil:
		return refuse(BadOCSP, "OCSP: certificate %q: %w", name, failed)
	case newest == nil:
		return refuse(BadOCSP, "OCSP: certificate %q: no response", name)
	case newest.Status == ocsp.Revoked && newest.RevocationReason == ocsp.CertificateHold:
		return refuse(Revoked, "OCSP: certificate %q is on hold since %s", name, day(newest.RevokedAt))
	case newest.Status == ocsp.Revoked:
		return refuse(Revoked, "OCSP: certificate %q is revoked since %s, reason %d", name, day(newest.RevokedAt), newest.RevocationReason)
	case newest.Status != ocsp.Good:
		return refuse(BadOCSP, "OCSP: certificate %q: its issuer's responder does not know it", name)
	}
	return checkAge(newest, name, now, maxAge)
}

func checkAge(r *ocsp.Response, name string, now time.Time, maxAge time.Duration) error {
	from, to := r.ThisUpdate.UTC().Format(time.RFC3339), r.NextUpdate.UTC().Format(time.RFC3339)
	switch {
	case r.ThisUpdate.After(now.Add(clockSkew)):
		return refuse(OCSPStale, "OCSP: certificate %q: response of %s is from the future", name, from)
	case now.Sub(r.ThisUpdate) > maxAge:
		return refuse(OCSPStale, "OCSP: certificate %q: response of %s is older than %s", name, from, maxAge)
	case !r.NextUpdate.IsZero() && now.After(r.NextUpdate):
		return refuse(OCSPStale, "OCSP: certificate %q: response was to be replaced by %s", name, to)
	}
	return nil
}

// checkResponder holds a delegate to RFC 6960, 4.2.2.2: the library checks that the issuer signed its
// certificate, not that it did so for this purpose.
func checkResponder(r *ocsp.Response, issuer *x509.Certificate) error {
	c := r.Certificate
	switch {
	case c == nil || c.Equal(issuer):
		return nil
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fmt.Errorf("responder %q may not sign responses", c.Subject.CommonName)
	case r.ThisUpdate.Before(c.NotBefore) || r.ThisUpdate.After(c.NotAfter):
		return fmt.Errorf("responder %q was not valid at %s", c.Subject.CommonName, day(r.ThisUpdate))
	}
	return nil
}

// checkIssuer wants the response to be about a certificate of this issuer (RFC 6960, 3.2): the library compares
// serial numbers, which are each issuer's own, and one responder may answer for several.
func checkIssuer(r *ocsp.Response, issuer *x509.Certificate) error {
	var data struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []struct {
			ID struct {
				Algorithm pkix.AlgorithmIdentifier
				Name, Key []byte
				Serial    *big.Int
			}
			Status asn1.RawValue
			This   time.Time        `asn1:"generalized"`
			Next   time.Time        `asn1:"generalized,explicit,tag:0,optional"`
			More   []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
		More []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if err := cmp.Or(unmarshal(r.TBSResponseData, &data), unmarshal(issuer.RawSubjectPublicKeyInfo, &key)); err != nil {
		return err
	}
	hash := func(b []byte) []byte { h := r.IssuerHash.New(); h.Write(b); return h.Sum(nil) }
	if len(data.Responses) != 1 || !bytes.Equal(data.Responses[0].ID.Name, hash(issuer.RawSubject)) ||
		!bytes.Equal(data.Responses[0].ID.Key, hash(key.Bits.RightAlign())) {
		return errors.New("response is about a certificate of another issuer")
	}
	return nil
}
