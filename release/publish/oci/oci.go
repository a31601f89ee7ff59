// Package oci publishes a release in a repository of a container registry (OCI Distribution Specification 1.1):
//
//	the manifest that is the subject oci-manifest.json, with every other subject as a layer, tagged by version
//	a manifest of artifact type release.MediaType that refers to it, with the release's bundle as its layer
//	one more such for every rebuild statement about these files
//	a manifest of that type tagged _channel.NAME, with the latest statement of a channel (or of "revoked") as its layer
//
// so that stock cosign finds and verifies releases and rebuilds (cosign verify-attestation); a channel statement is
// about statements, not about an image, and so refers to none. Where the registry has no referrers API the referrers'
// tag is kept instead; of two who attach to one image at the same moment there the later one may have to do it again.
// A repository has the releases of one name.
package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	layout "tally/mkimage/oci"
	"tally/mkimage/registry"
	"tally/release"
)

const (
	emptyType = "application/vnd.oci.empty.v1+json"
	tagChars  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
)

// A Registry is a repository of a container registry.
type Registry struct {
	Repository string // HOST[:PORT]/PATH
	Keychain   authn.Keychain
	Transport  http.RoundTripper
	Stall      time.Duration // a request that stands still for so long is given up; 0: a minute
}

func (r *Registry) open(ctx context.Context) (name.Repository, []remote.Option, error) {
	repo, err := name.NewRepository(r.Repository, name.StrictValidation)
	if err != nil {
		return repo, nil, fmt.Errorf("registry %.256q: want HOST[:PORT]/PATH: %w", r.Repository, err)
	}
	transport := documents{impatient{registry.TLSOnly(r.Transport), cmp.Or(r.Stall, defaultStall)}}
	return repo, []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(r.Keychain), remote.WithTransport(transport),
		remote.WithReferrersTagFallback(true),
	}, nil
}

// documents bounds what is no blob and so is read into memory: go-containerregistry takes 100 MiB of a manifest.
type documents struct{ http.RoundTripper }

func (d documents) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(r)
	if err == nil && !isBlob(r) {
		resp.Body = &document{resp.Body, layout.MaxDocument}
	}
	return resp, err
}

// isBlob reports whether r asks for a blob, be it where a registry redirected it to.
func isBlob(r *http.Request) bool {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return path.Base(path.Dir(r.URL.Path)) == "blobs"
}

type document struct {
	io.ReadCloser
	left int64 // bytes
}

func (d *document) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	if d.left -= int64(n); d.left < 0 {
		return 0, fmt.Errorf("larger than %d bytes", layout.MaxDocument)
	}
	return n, err
}

// Tag is the tag of a version: a tag has no + and no ~.
func Tag(version string) string {
	t := []byte(version[:min(len(version), 128)])
	for i, c := range t {
		if !strings.ContainsRune(tagChars, rune(c)) || i == 0 && (c == '.' || c == '-') {
			t[i] = '_'
		}
	}
	return string(t)
}

// channelTag is the tag of a channel, which no version that begins with a letter or a digit has.
func channelTag(channel string) string { return Tag("_channel." + channel) }

// raw is a manifest as it stands.
type raw []byte

func (m raw) RawManifest() ([]byte, error)        { return m, nil }
func (m raw) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (m raw) digest() string                      { return fmt.Sprintf("sha256:%x", sha256.Sum256(m)) }

// A fileLayer is a file as a blob; its digest has been computed already, and the registry computes it again.
type fileLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

func openLayer(path string, d release.Digest) (v1.Layer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return fileLayer{path, v1.Hash{Algorithm: "sha256", Hex: d.String()}, st.Size()}, nil
}

func (l fileLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l fileLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }
func (l fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l fileLayer) MediaType() (types.MediaType, error)  { return "application/octet-stream", nil }

// oneLine shortens an error that may hold a registry's whole answer.
func oneLine(what string, err error) error {
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode != 0 {
		return fmt.Errorf("registry: %s: HTTP status %d", what, t.StatusCode)
	}
	return fmt.Errorf("registry: %s: %w", what, err)
}

func absent(what string, err error) error {
	var t *transport.Error
	if errors.As(err, &t) && t.StatusCode == http.StatusNotFound {
		return fmt.Errorf("registry: %s: %w", what, fs.ErrNotExist)
	}
	return oneLine(what, err)
}
