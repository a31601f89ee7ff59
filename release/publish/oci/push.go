package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tally/release"
	"tally/release/publish"
	"tally/release/sign"
)

// A Pushed says where a release went.
type Pushed struct {
	Image    string `json:"image"`    // HOST/PATH@sha256:…, of the files
	Tag      string `json:"tag"`      // it got
	Referrer string `json:"referrer"` // HOST/PATH@sha256:…, of the bundle
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
	if want, _ := s.Image(); sha256.Sum256(manifest) != want {
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
	p.Referrer, err = refer(repo, opts, b, carrier{
		predicate: s.PredicateType, subject: describe(string(types.OCIManifestSchema1), image), created: s.Predicate.Validity.NotBefore,
	})
	return p, err
}

// pushable checks what is to be pushed as publish.Publish does, and that the bundle is logged.
func pushable(req publish.Request) (*release.Bundle, *release.Statement, error) {
	b, signer, err := logged(req.Bundle, req.Signer)
	if err != nil {
		return nil, nil, err
	}
	s, err := release.VerifyUnlogged(b, signer)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := s.Image(); !ok {
		return nil, nil, fmt.Errorf("registry: the statement names no %s: sign with --oci", release.OCIManifest)
	}
	return b, s, publish.Covers(s, req.Files)
}

// logged reads a logged bundle, and whose signature it must have. A certified signer has another key each time: what
// was logged under its name was verified before it came there, so its signature by its own certificate's key is enough.
func logged(bundle []byte, signer release.PublicKey) (*release.Bundle, release.PublicKey, error) {
	b, err := release.ParseBundle(bundle)
	switch {
	case err != nil:
	case b.Entry == nil:
		err = errors.New("registry: the bundle has no log entry: publish it to a log first (--log)")
	case b.Certificate != nil:
		signer, err = b.CertificateKey()
	}
	return b, signer, err
}

// Rebuild attaches a logged rebuild statement, given as its bundle, to the image that it is about, and returns the
// referrer. Doing it again changes nothing.
func (r *Registry) Rebuild(ctx context.Context, bundle []byte, signer release.PublicKey) (string, error) {
	b, signer, err := logged(bundle, signer)
	if err != nil {
		return "", err
	}
	s, err := release.VerifyUnloggedRebuild(b, signer)
	if err != nil {
		return "", err
	}
	image, ok := s.Image()
	if !ok {
		return "", fmt.Errorf("registry: the statement is about a release without %s, which no registry has", release.OCIManifest)
	}
	repo, opts, err := r.open(ctx)
	if err != nil {
		return "", err
	}
	d, err := remote.Head(repo.Digest("sha256:"+image.String()), opts...)
	if err != nil {
		return "", absent(fmt.Sprintf("%s: image sha256:%s", repo, image), err)
	}
	return refer(repo, opts, b, carrier{predicate: s.PredicateType, subject: &descriptor{string(d.MediaType), d.Digest.String(), d.Size}})
}

// Channel makes a logged channel statement, given as its bundle, the latest of its channel in the registry, unless a
// later one is there, and returns HOST/PATH:TAG.
func (r *Registry) Channel(ctx context.Context, bundle []byte, signer release.PublicKey) (string, error) {
	b, signer, err := logged(bundle, signer)
	if err != nil {
		return "", err
	}
	c, err := release.VerifyUnloggedChannel(b, signer)
	if err != nil {
		return "", err
	}
	repo, opts, err := r.open(ctx)
	if err != nil {
		return "", err
	}
	tag := repo.Tag(channelTag(c.Predicate.Channel))
	old, err := channelAt(tag, opts)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoBundle): // nothing there that a client would take
	case err != nil:
		return "", err
	case old.Key() == c.Key() && old.Predicate.Sequence > c.Predicate.Sequence:
		return "", fmt.Errorf("registry: %s has statement %d of channel %s, which is later than %d", tag, old.Predicate.Sequence, c.Key(), c.Predicate.Sequence)
	}
	if err := remote.WriteLayer(repo, static.NewLayer(sign.EmptyConfig, emptyType), opts...); err != nil {
		return "", oneLine("push config", err)
	}
	m, err := carry(repo, opts, b, carrier{predicate: c.PredicateType, created: c.Predicate.IssuedAt})
	if err != nil {
		return "", err
	}
	if err := remote.Put(tag, m, opts...); err != nil {
		return "", oneLine("push channel", err)
	}
	return tag.Name(), nil
}

// A carrier is the manifest under which a bundle stands in a registry.
type carrier struct {
	predicate string
	subject   *descriptor // nil: refers to nothing
	created   time.Time   // from the statement: again is the same; zero: it has no date
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

func describe(media string, data []byte) *descriptor {
	return &descriptor{media, raw(data).digest(), int64(len(data))}
}

// carry pushes the bundle and returns its manifest.
func carry(repo name.Repository, opts []remote.Option, b *release.Bundle, c carrier) (raw, error) {
	data, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	if err := remote.WriteLayer(repo, static.NewLayer(data, release.MediaType), opts...); err != nil {
		return nil, oneLine("push bundle", err)
	}
	annotations := map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": c.predicate}
	if !c.created.IsZero() {
		annotations["org.opencontainers.image.created"] = c.created.Format(time.RFC3339)
	}
	m := map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": release.MediaType,
		"config": describe(emptyType, sign.EmptyConfig), "layers": []any{describe(release.MediaType, data)}, "annotations": annotations,
	}
	if c.subject != nil {
		m["subject"] = c.subject
	}
	return json.Marshal(m)
}

// refer pushes the bundle with a manifest that names a subject.
func refer(repo name.Repository, opts []remote.Option, b *release.Bundle, c carrier) (string, error) {
	m, err := carry(repo, opts, b, c)
	if err != nil {
		return "", err
	}
	ref := repo.Digest(m.digest())
	if err := remote.Put(ref, m, opts...); err != nil {
		return "", oneLine("push referrer", err)
	}
	return ref.Name(), nil
}
