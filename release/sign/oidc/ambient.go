package oidc

import (
	"context"
	"errors"
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/providers"
	_ "github.com/sigstore/cosign/v2/pkg/providers/github" // registers itself
)

// ErrNoIdentity means that the process does not run where a service vouches for it.
var ErrNoIdentity = errors.New("no identity here: not a GitHub Actions job with 'permissions: id-token: write'")

// Ambient asks the service that runs this process (GitHub Actions) for an identity token.
func Ambient(ctx context.Context) (string, error) {
	p, err := providers.ProvideFrom(ctx, "github-actions")
	if err != nil {
		return "", err
	}
	if !p.Enabled(ctx) {
		return "", ErrNoIdentity
	}
	token, err := p.Provide(ctx, Audience)
	if err != nil {
		return "", fmt.Errorf("identity token: %w", err)
	}
	if token == "" {
		return "", errors.New("identity token: the service gave none")
	}
	return token, nil
}
