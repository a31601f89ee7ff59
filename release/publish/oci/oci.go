// Package oci publishes a release in a repository of a container registry (OCI Distribution Specification 1.1):
//
//	the manifest that is the subject oci-manifest.json, with every other subject as a layer, tagged by version
//	a manifest of artifact type release.MediaType that refers to it, with the bundle as its layer
//
// so that stock cosign finds and verifies the bundle (cosign verify-attestation). Where the registry has no
// referrers API the referrers' tag is kept instead.
package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tally/mkimage/registry"
	"tally/release"
	"tally/release/publish"
	"tally/release/sign"
)

const (
	emptyType    = "application/vnd.oci.empty.v1+json"
	maxReferrers = 256
	tagChars     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
)

// A Registry is a repository of a container registry.
type Registry struct {
	Repository string // HOST[:PORT]/PATH
	Keychain   authn.Keychain
	Transport  http.RoundTripper
}

// A Pushed says where a release went.
type Pushed struct {
	Image    string `json:"image"`    // HOST/PATH@sha256:…, of the files
	Tag      string `json:"tag"`      // it got
	Referrer string `json:"referrer"` // HOST/PATH@sha256:…, of the bundle
}

func (r *Registry) open(ctx context.Context) (name.Repository, []remote.Option, error) {
	repo, err := name.NewRepository(r.Repository, name.StrictValidation)
	if err != nil {
		return repo, nil, fmt.Errorf("registry %.256q: want HOST[:PORT]/PATH: %w", r.Repository, err)
	}
	return repo, []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(r.Keychain), remote.WithTransport(registry.TLSOnly(r.Transport)),
		remote.WithReferrersTagFallback(true),
	}, nil
}

// Push uploads the files of a logged release and its bundle. Doing it again changes nothing.
func (r *Registry) Push(ctx context.Context, req publish.Request) (*Pushed, error) {
	b, s, err := pushable(req)
	if err != nil {
		return nil, err
	}
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	manifest, err := os.ReadFile(filepath.Join(req.OutDir, release.OCIManifest))
	if err != nil {
		return nil, err
	}
	if want, _ := s.SubjectDigest(release.OCIManifest); sha256.Sum256(manifest) != want {
		return nil, fmt.Errorf("registry: %s is not what was signed", release.OCIManifest)
	}
	for _, f := range req.Files {
		if f.Name == release.OCIManifest {
			continue
		}
		l, err := openLayer(filepath.Join(req.OutDir, filepath.FromSlash(f.Name)), f.Digest)
		if err == nil {
			err = remote.WriteLayer(repo, l, opts...)
		}
		if err != nil {
			return nil, oneLine("push "+f.Name, err)
		}
	}
	if err := remote.WriteLayer(repo, static.NewLayer(sign.EmptyConfig, emptyType), opts...); err != nil {
		return nil, oneLine("push config", err)
	}
	image := raw(manifest)
	p := &Pushed{Tag: Tag(s.Predicate.Release.Version), Image: repo.Name() + "@" + image.digest()}
	if err := remote.Put(repo.Tag(p.Tag), image, opts...); err != nil {
		return nil, oneLine("push manifest", err)
	}
	p.Referrer, err = r.refer(repo, opts, image, b, s)
	return p, err
}

// pushable checks what is to be pushed as publish.Publish does, and that the bundle is logged.
func pushable(req publish.Request) (*release.Bundle, *release.Statement, error) {
	b, err := release.ParseBundle(req.Bundle)
	if err != nil {
		return nil, nil, err
	}
	s, err := release.VerifyUnlogged(b, req.Signer)
	if err != nil {
		return nil, nil, err
	}
	if b.Entry == nil {
		return nil, nil, errors.New("registry: the bundle has no log entry: publish it to a log first (--log)")
	}
	if _, ok := s.SubjectDigest(release.OCIManifest); !ok {
		return nil, nil, fmt.Errorf("registry: the statement names no %s: sign with --oci", release.OCIManifest)
	}
	return b, s, publish.Covers(s, req.Files)
}

// refer pushes the bundle with a manifest that names image as its subject.
func (r *Registry) refer(repo name.Repository, opts []remote.Option, image raw, b *release.Bundle, s *release.Statement) (string, error) {
	data, err := b.Marshal()
	if err != nil {
		return "", err
	}
	if err := remote.WriteLayer(repo, static.NewLayer(data, release.MediaType), opts...); err != nil {
		return "", oneLine("push bundle", err)
	}
	describe := func(media string, data []byte) map[string]any {
		return map[string]any{"mediaType": media, "size": len(data), "digest": raw(data).digest()}
	}
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": release.MediaType,
		"config": describe(emptyType, sign.EmptyConfig), "layers": []any{describe(release.MediaType, data)},
		"subject": describe(string(types.OCIManifestSchema1), image),
		"annotations": map[string]string{
			"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": s.PredicateType,
			"org.opencontainers.image.created": s.Predicate.Validity.NotBefore.Format(time.RFC3339), // no clock: again is the same
		},
	})
	if err != nil {
		return "", err
	}
	ref := repo.Digest(raw(m).digest())
	if err := remote.Put(ref, raw(m), opts...); err != nil {
		return "", oneLine("push referrer", err)
	}
	return ref.Name(), nil
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

// Fetch gets a release's bundle, signed by one of w.Signers, from the manifest tagged with w.Version. Nothing of
// it is verified yet. An absent release is fs.ErrNotExist.
func (r *Registry) Fetch(ctx context.Context, w publish.Want) ([]byte, error) {
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	if w.Version == "" || !release.ValidLabel(w.Version) {
		return nil, errors.New("registry: a release is fetched by NAME@VERSION: a registry has no channels")
	}
	tag := repo.Tag(Tag(w.Version))
	image, err := remote.Get(tag, opts...)
	if err != nil {
		return nil, absent(tag.Name(), err)
	}
	index, err := remote.Referrers(repo.Digest(image.Digest.String()), opts...)
	if err != nil {
		return nil, absent("referrers of "+tag.Name(), err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, oneLine("referrers of "+tag.Name(), err)
	}
	if len(list.Manifests) > maxReferrers {
		return nil, fmt.Errorf("referrers of %s: %d, want at most %d", tag.Name(), len(list.Manifests), maxReferrers)
	}
	for _, d := range list.Manifests {
		data, err := bundleOf(repo.Digest(d.Digest.String()), opts)
		if err != nil {
			return nil, err
		}
		if data != nil && isRelease(data, release.Digest(sha256.Sum256(image.Manifest)), w.Signers) {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%s: no bundle by any of the policy's %d signers refers to it: %w", tag.Name(), len(w.Signers), fs.ErrNotExist)
}

// bundleOf reads the bundle that a referrer carries; nil when it carries something else.
func bundleOf(ref name.Digest, opts []remote.Option) ([]byte, error) {
	got, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, absent(ref.Name(), err)
	}
	m, err := v1.ParseManifest(strings.NewReader(string(got.Manifest)))
	if err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != release.MediaType {
		return nil, nil
	}
	if m.Layers[0].Size > release.MaxBundle {
		return nil, fmt.Errorf("%s: a bundle of %d bytes, want at most %d", ref.Name(), m.Layers[0].Size, release.MaxBundle)
	}
	layer, err := remote.Layer(ref.Context().Digest(m.Layers[0].Digest.String()), opts...)
	if err != nil {
		return nil, oneLine(ref.Name(), err)
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, absent(ref.Name(), err)
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, release.MaxBundle+1))
	if err == nil && len(data) > release.MaxBundle {
		err = fmt.Errorf("larger than %d bytes", release.MaxBundle)
	}
	if err != nil {
		return nil, oneLine(ref.Name(), err)
	}
	return data, nil
}

// isRelease chooses among referrers; it proves nothing.
func isRelease(data []byte, image release.Digest, signers []release.PublicKey) bool {
	b, err := release.ParseBundle(data)
	if err != nil {
		return false
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		return false
	}
	if d, _ := s.SubjectDigest(release.OCIManifest); d != image {
		return false
	}
	for _, k := range signers {
		if b.Certificate == nil && k.Hint() == b.Hint || b.Certificate != nil && k.IsZero() { // an identity: verified later
			return true
		}
	}
	return false
}

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
