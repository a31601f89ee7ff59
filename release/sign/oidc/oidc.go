// Package oidc signs without a key of one's own: with a key that lives for one signature, whose certificate a CA
// (Fulcio) gives for an OpenID Connect identity token. Package keyless verifies the result.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"

	"tally/release"
	"tally/release/keyless"
)

const (
	// Audience is what the identity token must be made out to.
	Audience = "sigstore"

	maxToken = 64 << 10
)

// Options says who vouches.
type Options struct {
	Token       string // OpenID Connect identity token (JWT) for Audience
	FulcioURL   string // of the CA, without the API's path
	TSAURL      string // of the timestamp authority, complete
	TrustedRoot []byte // Sigstore trusted root against which the result is checked
	Transport   http.RoundTripper
}

var jwt = regexp.MustCompile(`\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\z`)

func (o *Options) check() error {
	if len(o.Token) > maxToken || !jwt.MatchString(o.Token) {
		return fmt.Errorf("identity token: want a JWT (three parts in base64url) of at most %d bytes", maxToken)
	}
	if len(o.TrustedRoot) == 0 {
		return errors.New("trusted root: want one to check what comes back")
	}
	for name, s := range map[string]string{"CA": o.FulcioURL, "timestamp authority": o.TSAURL} {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("%s: %.256q: want an https URL", name, s)
		}
		// The CA gets the token: whoever reads that on its way can sign as its owner.
		if name == "CA" && u.Scheme == "http" && !loopback(u.Hostname()) {
			return fmt.Errorf("%s: %.256q: want an https URL; http is for this machine alone", name, s)
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Seal returns the unlogged bundle of a payload, an in-toto statement. It is checked as a client would check it
// before it is given out, and the certified identity returned beside it.
func Seal(ctx context.Context, payload []byte, o Options) (*release.Bundle, *release.Certified, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	key, err := sigstore.NewEphemeralKeypair(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	transport := withContext{ctx, o.Transport}
	if transport.next == nil {
		transport.next = http.DefaultTransport
	}
	pb, err := sigstore.Bundle(&sigstore.DSSEData{Data: payload, PayloadType: release.PayloadType}, key, sigstore.BundleOptions{
		Context:                    ctx,
		CertificateProvider:        sigstore.NewFulcio(&sigstore.FulcioOptions{BaseURL: o.FulcioURL, Transport: transport}),
		CertificateProviderOptions: &sigstore.CertificateProviderOptions{IDToken: o.Token},
		TimestampAuthorities:       []*sigstore.TimestampAuthority{sigstore.NewTimestampAuthority(&sigstore.TimestampAuthorityOptions{URL: o.TSAURL, Transport: transport})},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	b, err := convert(pb)
	if err != nil {
		return nil, nil, err
	}
	c, err := keyless.Verifier{}.VerifyCertificate(b, o.TrustedRoot)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: what came back does not verify: %w", err)
	}
	signer, err := release.CertifiedKey(b.Certificate, c)
	if err == nil {
		err = release.VerifyEnvelope(b, signer)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign: what came back does not verify: %w", err)
	}
	return b, c, nil
}

// withContext gives requests the context that sigstore-go leaves out.
type withContext struct {
	ctx  context.Context
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withContext) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.next.RoundTrip(r.WithContext(w.ctx))
}

// convert takes over the parts of a bundle that release.Bundle has, and Marshal checks their form.
func convert(pb *protobundle.Bundle) (*release.Bundle, error) {
	env, m := pb.GetDsseEnvelope(), pb.GetVerificationMaterial()
	if len(env.GetSignatures()) != 1 {
		return nil, fmt.Errorf("sign: %d signatures, want 1", len(env.GetSignatures()))
	}
	b := &release.Bundle{
		Envelope:    release.Envelope{Payload: env.GetPayload(), Signature: env.GetSignatures()[0].GetSig()},
		Certificate: m.GetCertificate().GetRawBytes(),
	}
	for _, t := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		b.Timestamps = append(b.Timestamps, t.GetSignedTimestamp())
	}
	_, err := b.Marshal()
	return b, err
}
