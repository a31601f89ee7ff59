// Package registry is the network door to container registries (OCI Distribution Specification 1.1): it
// finds out how a registry wants to be asked and adds the user's credentials. What comes through the door is
// checked by who asked for it, against a digest.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"tally/mkimage/lock"
	"tally/mkimage/oci"
)

// A Client knows registries. New returns one; it may be used from several goroutines.
type Client struct {
	keychain authn.Keychain
	inner    http.RoundTripper

	mu   sync.Mutex
	open map[string]*http.Client // by repository
}

// New returns a client that takes credentials from keychain and makes its connections through t.
// Credentials go to the registry they are for, and to the token server that it names, and over TLS alone, except
// to this machine itself.
func New(keychain authn.Keychain, t http.RoundTripper) *Client {
	return &Client{keychain: keychain, inner: TLSOnly(t), open: map[string]*http.Client{}}
}

// Repository returns what makes requests for HOST[:PORT]/PATH, and the address of its API: a [lock.Registry].
// The first call asks the registry how it wants to be asked.
func (c *Client) Repository(ctx context.Context, repository string) (lock.Doer, string, error) {
	if err := oci.CheckRepository(repository); err != nil {
		return nil, "", err
	}
	repo, err := name.NewRepository(repository, name.StrictValidation)
	if err != nil {
		return nil, "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The scheme is the transport's to choose: schemeTransport of go-containerregistry sets it.
	base := repo.Scheme() + "://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr()
	if client := c.open[repository]; client != nil {
		return client, base, nil
	}
	auth, err := authn.Resolve(ctx, c.keychain, repo)
	if err != nil {
		return nil, "", fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	t, err := transport.NewWithContext(ctx, repo.Registry, auth, c.inner, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, "", explain(err)
	}
	c.open[repository] = &http.Client{Transport: accept{t}}
	return c.open[repository], base, nil
}

// explain makes one line of an error that may hold a registry's whole answer.
func explain(err error) error {
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode != 0 {
		return &lock.StatusError{Code: t.StatusCode, Status: fmt.Sprintf("%d %s", t.StatusCode, http.StatusText(t.StatusCode))}
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// accept says on requests for manifests what is understood.
type accept struct{ http.RoundTripper }

func (a accept) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		r = r.Clone(r.Context())
		r.Header["Accept"] = []string{strings.Join(oci.Accept, ", ")}
	}
	return a.RoundTripper.RoundTrip(r)
}

// TLSOnly is t without plain HTTP to other machines than this one.
func TLSOnly(t http.RoundTripper) http.RoundTripper { return tlsOnly{t} }

// tlsOnly refuses plain HTTP to other machines: go-containerregistry would try it on private networks.
type tlsOnly struct{ http.RoundTripper }

func (t tlsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !loopback(r.URL.Hostname()) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fmt.Errorf("%s: plain HTTP to another machine is not used", r.URL.Host)
	}
	return t.RoundTripper.RoundTrip(r)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
