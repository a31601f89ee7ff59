package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"tally/release"
	"tally/release/publish"
)

const (
	maxReferrers = 256
	maxRebuilds  = 48 // a file has room for no more beside release, channel and revocations
)

// Fetch gets a release's bundle, signed by one of w.By, and after it the channel statement's if w names a channel
// and there is one: the form that release.Verify reads. Of several bundles only the signature is looked at here.
// An absent release is fs.ErrNotExist.
func (r *Registry) Fetch(ctx context.Context, w publish.Want) ([]byte, error) {
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	if w.Version != "" && !release.ValidLabel(w.Version) || w.Channel != "" && !release.ValidLabel(w.Channel) {
		return nil, fmt.Errorf("registry: version %.128q, channel %.128q: no labels", w.Version, w.Channel)
	}
	var channel []byte
	if w.Channel != "" {
		channel, err = carried(repo.Tag(channelTag(w.Channel)), opts, release.MaxChannelBundle)
		if err != nil && (w.Version == "" || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("channel %s@%s: %w", w.Name, w.Channel, err)
		}
	}
	var current release.CurrentRelease
	if w.Version == "" {
		if current, err = publish.Current(channel); err != nil {
			return nil, fmt.Errorf("registry: %s: %w", w.Name, err)
		}
		w.Version = current.Version
	}
	w.By.Keys = append(slices.Clone(w.By.Keys), publish.NamedSigners(channel)...)
	bundle, err := findRelease(repo, opts, w, current.Statement)
	if err != nil {
		return nil, err
	}
	return append(append(bundle, '\n'), channel...), nil
}

// findRelease looks at what refers to the image tagged with the version: for the statement with that digest, or,
// when it is zero, for the highest sequence that these files were released with.
func findRelease(repo name.Repository, opts []remote.Option, w publish.Want, payload release.Digest) ([]byte, error) {
	tag := repo.Tag(Tag(w.Version))
	d, err := remote.Head(tag, opts...)
	if err != nil {
		return nil, absent(tag.Name(), err)
	}
	image, err := release.ParseDigest(d.Digest.Hex)
	if err != nil {
		return nil, oneLine(tag.Name(), err)
	}
	var found []byte
	var highest uint64
	err = referrers(repo, opts, image, func(data []byte, b *release.Bundle) bool {
		s, err := release.ParseStatement(b.Envelope.Payload)
		if err != nil || payload != (release.Digest{}) && release.PayloadDigest(b) != payload {
			return true
		}
		n := s.Predicate.Release.Sequence
		if named, _ := s.Image(); named == image && n > highest && w.By.Signed(b) {
			found, highest = bytes.TrimSpace(data), n
		}
		return true
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%s: no bundle by any of the policy's signers (%d keys) refers to it: %w", tag.Name(), len(w.By.Keys), fs.ErrNotExist)
	}
	return found, err
}

// Rebuilds gets what the rebuilders said about the files of a release, as bundles one a line. What is withheld is not
// missed. A release that no registry has, or not this one, was rebuilt by nobody here.
func (r *Registry) Rebuilds(ctx context.Context, s *release.Statement, by publish.Party) ([]byte, error) {
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	image, ok := s.Image()
	if !ok {
		return nil, nil
	}
	var all [][]byte
	size := 0
	err = referrers(repo, opts, image, func(data []byte, b *release.Bundle) bool {
		if len(data) <= release.MaxRebuildBundle && release.IsRebuild(b.Envelope.Payload) && by.Signed(b) {
			all = append(all, bytes.TrimSpace(data))
			size += len(data)
		}
		return len(all) <= maxRebuilds && size <= publish.MaxRebuilds
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(all) == 0:
		return nil, nil
	case err == nil && len(all) > maxRebuilds:
		err = fmt.Errorf("registry: %s: more than %d rebuild statements by named rebuilders", repo, maxRebuilds)
	case err == nil && size > publish.MaxRebuilds:
		err = fmt.Errorf("registry: %s: rebuild statements by named rebuilders: more than %d bytes together", repo, publish.MaxRebuilds)
	}
	return bytes.Join(all, []byte("\n")), err
}

// Blob opens a file of a release by its digest; one that is not there is fs.ErrNotExist.
func (r *Registry) Blob(ctx context.Context, d release.Digest) (io.ReadCloser, error) {
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	ref := repo.Digest("sha256:" + d.String())
	layer, err := remote.Layer(ref, opts...)
	if err != nil {
		return nil, oneLine(ref.Name(), err)
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, absent(ref.Name(), err)
	}
	return rc, nil
}

// HasChannel reports whether a statement of that channel is there.
func (r *Registry) HasChannel(ctx context.Context, channel string) (bool, error) {
	_, err := r.channel(ctx, channel)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Revocations gets the latest statement of revocations by a key of their own, or nothing when there is none.
func (r *Registry) Revocations(ctx context.Context) ([]byte, error) {
	data, err := r.channel(ctx, publish.RevokedChannel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return bytes.TrimSpace(data), err
}

func (r *Registry) channel(ctx context.Context, channel string) ([]byte, error) {
	repo, opts, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	return carried(repo.Tag(channelTag(channel)), opts, release.MaxChannelBundle)
}

// channelAt reads the statement at a tag; what is no channel statement is errNoBundle.
func channelAt(tag name.Tag, opts []remote.Option) (*release.Channel, error) {
	data, err := carried(tag, opts, release.MaxChannelBundle)
	if err != nil {
		return nil, err
	}
	if b, err := release.ParseBundle(data); err == nil {
		if c, err := release.ParseChannel(b.Envelope.Payload); err == nil {
			return c, nil
		}
	}
	return nil, errNoBundle
}

// Resolve asks for the digest of the image HOST/PATH:TAG, whatever r's repository is; of HOST/PATH@sha256:… it is the one
// that stands there.
func (r *Registry) Resolve(ctx context.Context, reference string) (release.Digest, error) {
	ref, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return release.Digest{}, fmt.Errorf("image %.512q: want HOST/PATH:TAG or HOST/PATH@sha256:DIGEST: %w", reference, err)
	}
	if d, ok := ref.(name.Digest); ok {
		return parseDigest(d.DigestStr())
	}
	at := *r
	at.Repository = ref.Context().Name()
	_, opts, err := at.open(ctx)
	if err != nil {
		return release.Digest{}, err
	}
	d, err := remote.Head(ref, opts...)
	if err != nil {
		return release.Digest{}, absent(ref.Name(), err)
	}
	return parseDigest(d.Digest.String())
}

func parseDigest(s string) (release.Digest, error) {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		return release.Digest{}, fmt.Errorf("image digest %.100q: want sha256:", s)
	}
	return release.ParseDigest(hex)
}

// referrers calls yield for each bundle that refers to an image, until that returns false. What is no bundle is passed
// over: anybody with access stores what they like.
func referrers(repo name.Repository, opts []remote.Option, image release.Digest, yield func(data []byte, b *release.Bundle) bool) error {
	what := fmt.Sprintf("referrers of %s@sha256:%s", repo, image)
	index, err := remote.Referrers(repo.Digest("sha256:"+image.String()), opts...)
	if err != nil {
		return absent(what, err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return oneLine(what, err)
	}
	if len(list.Manifests) > maxReferrers {
		return fmt.Errorf("registry: %s: %d, want at most %d", what, len(list.Manifests), maxReferrers)
	}
	for _, d := range list.Manifests { // whose artifact type not every registry gives
		if _, err := parseDigest(d.Digest.String()); err != nil {
			continue
		}
		ref := repo.Digest(d.Digest.String())
		layer, err := bundleLayer(ref, opts, release.MaxBundle)
		if errors.Is(err, fs.ErrNotExist) {
			continue // was taken away: who keeps the referrers' tag need not have noticed
		}
		var data []byte
		if err == nil {
			data, err = readLayer(layer, opts, release.MaxBundle)
		}
		if errors.Is(err, errNoBundle) {
			continue
		}
		if err != nil {
			return err
		}
		if b, err := release.ParseBundle(data); err == nil && !yield(data, b) {
			return nil
		}
	}
	return nil
}

var errNoBundle = errors.New("carries no bundle")

// carried reads the bundle of at most limit bytes that a manifest carries, or says errNoBundle.
func carried(ref name.Reference, opts []remote.Option, limit int64) ([]byte, error) {
	layer, err := bundleLayer(ref, opts, limit)
	if err != nil {
		return nil, err
	}
	return readLayer(layer, opts, limit)
}

// bundleLayer is the layer of a manifest that carries a bundle.
func bundleLayer(ref name.Reference, opts []remote.Option, limit int64) (at name.Digest, err error) {
	got, err := remote.Get(ref, opts...)
	if err != nil {
		return at, absent(ref.Name(), err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != release.MediaType {
		return at, fmt.Errorf("registry: %s: %w", ref.Name(), errNoBundle)
	}
	if m.Layers[0].Size > limit {
		return at, fmt.Errorf("registry: %s: %w: %d bytes, want at most %d", ref.Name(), errNoBundle, m.Layers[0].Size, limit)
	}
	return ref.Context().Digest(m.Layers[0].Digest.String()), nil
}

func readLayer(at name.Digest, opts []remote.Option, limit int64) ([]byte, error) {
	layer, err := remote.Layer(at, opts...)
	if err != nil {
		return nil, oneLine(at.Name(), err)
	}
	rc, err := layer.Compressed() // which checks the digest as it is read
	if err != nil {
		return nil, absent(at.Name(), err)
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", errNoBundle, limit)
	}
	if err != nil {
		return nil, oneLine(at.Name(), err)
	}
	return data, nil
}
