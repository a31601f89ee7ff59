// Package process answers the requests of tally/internal/keylesswire: it is all that the program tally-keyless does.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"tally/internal/keylesswire"
	"tally/release"
	"tally/release/keyless"
	"tally/release/sign/oidc"
)

// Main reads one request from in, writes its reply to out and returns the exit code.
func Main(ctx context.Context, in io.Reader, out, talk io.Writer) int {
	var q keylesswire.Request
	if err := keylesswire.Decode(in, &q); err != nil {
		fmt.Fprintln(talk, "request:", err)
		return 1
	}
	p, err := answer(ctx, q)
	if err != nil {
		p = &keylesswire.Reply{Error: err.Error()}
	}
	if err := json.NewEncoder(out).Encode(p); err != nil {
		fmt.Fprintln(talk, "reply:", err)
		return 1
	}
	return 0
}

func answer(ctx context.Context, q keylesswire.Request) (*keylesswire.Reply, error) {
	switch q.Op {
	case "verify":
		b, err := release.ParseBundle(q.Bundle)
		if err != nil {
			return nil, err
		}
		if b.Certificate == nil {
			return nil, errors.New("bundle: has no certificate")
		}
		c, err := keyless.Verifier{}.VerifyCertificate(b, q.TrustedRoot)
		return &keylesswire.Reply{Certified: c}, err
	case "seal":
		b, c, err := oidc.Seal(ctx, q.Payload, oidc.Options{Token: q.Token, FulcioURL: q.FulcioURL, TSAURL: q.TSAURL, TrustedRoot: q.TrustedRoot})
		if err != nil {
			return nil, err
		}
		data, err := b.Marshal()
		return &keylesswire.Reply{Bundle: data, Certified: c}, err
	case "ambient":
		token, err := oidc.Ambient(ctx)
		return &keylesswire.Reply{Token: token}, err
	}
	return nil, fmt.Errorf("operation %.64q: want verify, seal or ambient", q.Op)
}
