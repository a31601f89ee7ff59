package main

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"tally/policy"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
	"tally/release/publish/oci"
)

// A place has releases and what was said about them. Nothing that it gives is verified yet; what is not there is
// nothing, and a release that is not there fs.ErrNotExist.
type place interface {
	String() string
	fetch(ctx context.Context, w publish.Want) ([]byte, error)
	hasChannel(ctx context.Context, name, channel string) (bool, error)
	rebuilds(ctx context.Context, b *release.Bundle, by publish.Party) ([]byte, error)
	revocations(ctx context.Context, name string) ([]byte, error)

	// file opens a released file by its digest; its content is not checked.
	file(ctx context.Context, d release.Digest) (io.ReadCloser, error)
}

// openPlace opens a published directory, its URL, or oci://HOST/PATH.
func openPlace(from string) (place, error) {
	if repository, ok := strings.CutPrefix(from, "oci://"); ok {
		return registryPlace{registryAt(repository)}, nil
	}
	src, err := tlog.OpenSource(from, http.DefaultClient)
	return directory{src}, err
}

// A directory is published, with its log.
type directory struct{ src tlog.Source }

func (d directory) String() string { return d.src.String() }

func (d directory) fetch(ctx context.Context, w publish.Want) ([]byte, error) {
	return publish.Fetch(ctx, d.src, w)
}

func (d directory) hasChannel(ctx context.Context, name, channel string) (bool, error) {
	return publish.HasChannel(ctx, d.src, name, channel)
}

func (d directory) rebuilds(ctx context.Context, b *release.Bundle, by publish.Party) ([]byte, error) {
	return publish.Rebuilds(ctx, d.src, release.PayloadDigest(b), by.Keys)
}

func (d directory) revocations(ctx context.Context, name string) ([]byte, error) {
	return publish.Revocations(ctx, d.src, name)
}

func (d directory) file(ctx context.Context, digest release.Digest) (io.ReadCloser, error) {
	return publish.ByDigest(ctx, d.src, digest)
}

// A registryPlace is a repository of a container registry.
type registryPlace struct{ r *oci.Registry }

func (r registryPlace) String() string { return "oci://" + r.r.Repository }

func (r registryPlace) fetch(ctx context.Context, w publish.Want) ([]byte, error) {
	return r.r.Fetch(ctx, w)
}

func (r registryPlace) hasChannel(ctx context.Context, _, channel string) (bool, error) {
	return r.r.HasChannel(ctx, channel)
}

func (r registryPlace) rebuilds(ctx context.Context, b *release.Bundle, by publish.Party) ([]byte, error) {
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, nil // which the verification says
	}
	return r.r.Rebuilds(ctx, s, by)
}

func (r registryPlace) revocations(ctx context.Context, _ string) ([]byte, error) {
	return r.r.Revocations(ctx)
}

func (r registryPlace) file(ctx context.Context, d release.Digest) (io.ReadCloser, error) {
	return r.r.Blob(ctx, d)
}

// registryAt is a repository with docker's credentials.
func registryAt(repository string) *oci.Registry {
	return &oci.Registry{Repository: repository, Keychain: authn.DefaultKeychain, Transport: http.DefaultTransport}
}

// releaseSigners are who may sign releases by the policy.
func releaseSigners(p *policy.Policy) publish.Party {
	return party(p.Release.Signers, &p.Release.Identities)
}

// rebuilders are the policy's.
func rebuilders(p *policy.Policy) publish.Party {
	return party(p.Release.Rebuilders.Keys, &p.Release.Rebuilders.Identities)
}

func party(keys []release.Signer, ids *release.IdentityPolicy) (by publish.Party) {
	for _, s := range keys {
		by.Keys = append(by.Keys, s.Key)
	}
	for _, id := range ids.List {
		if k, one := id.Signer(); one {
			by.Keys = append(by.Keys, k)
		}
	}
	if len(ids.List) > 0 {
		by.Certified = func(b *release.Bundle) bool {
			_, _, err := release.Identify(b, &release.Policy{Identities: *ids})
			return err == nil
		}
	}
	return by
}
