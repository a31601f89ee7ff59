package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits on an image.
const (
	MaxDocument = 4 << 20  // bytes of an index, manifest or configuration (Distribution Specification 1.1: registries take at least 4 MiB)
	MaxLayer    = 32 << 30 // bytes of a layer, compressed or not
	MaxImage    = 64 << 30 // bytes of all layers together, uncompressed
	maxLayers   = 512
	maxIndex    = 1024 // images of an index
	maxFiles    = 1 << 20
)

// The media types that are known. Those of layers stand in compressions.
const (
	mediaIndex          = "application/vnd.oci.image.index.v1+json"
	mediaManifest       = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig         = "application/vnd.oci.image.config.v1+json"
	mediaDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// Accept lists the media types a registry is to answer with for an index or manifest.
var Accept = []string{mediaIndex, mediaManifest, mediaDockerIndex, mediaDockerManifest}

// compressions says how the layers of a media type are compressed.
var compressions = map[string]string{
	"application/vnd.oci.image.layer.v1.tar":            "",
	"application/vnd.oci.image.layer.v1.tar+gzip":       "gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd":       "zstd",
	"application/vnd.docker.image.rootfs.diff.tar":      "",
	"application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}

// A Blob is some bytes by digest, size and media type (a descriptor).
type Blob struct {
	MediaType string
	Digest    Digest
	Size      int64 // bytes
}

// A Layer is one layer of an image.
type Layer struct {
	Blob
	DiffID Digest // of the uncompressed archive
}

// An Image is the image of one platform.
type Image struct {
	Documents []Blob // index if there is one, manifest, configuration
	Layers    []Layer
}

// IsConfig says whether the blob is an image configuration, which registries keep beside layers, not beside
// manifests.
func (b Blob) IsConfig() bool { return b.MediaType == mediaConfig || b.MediaType == mediaDockerConfig }

// A Getter returns the bytes of a document of at most MaxDocument bytes. Of what the caller of Resolve names,
// size (-1) and media type ("") are not known. Resolve checks what it returns.
type Getter func(ctx context.Context, b Blob) ([]byte, error)

// descriptor is the JSON form of a Blob (descriptor.md).
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

func (p platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// document is an index or a manifest.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
	Config        *descriptor  `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// Resolve follows the digest of an index or a manifest to the image for Linux on arch (Go's name, which is
// OCI's and Debian's too: amd64). Every document is checked against its digest and size.
func Resolve(ctx context.Context, get Getter, root Digest, arch string) (*Image, error) {
	r := &resolver{ctx: ctx, get: get, arch: arch, image: new(Image)}
	doc, err := r.document(Blob{Digest: root, Size: -1}, mediaIndex, mediaDockerIndex, mediaManifest, mediaDockerManifest)
	if err != nil {
		return nil, err
	}
	if doc.Manifests != nil {
		chosen, err := r.choose(doc.Manifests)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", root, err)
		}
		if doc, err = r.document(chosen, mediaManifest, mediaDockerManifest); err != nil {
			return nil, err
		}
	}
	return r.image, r.manifest(doc)
}

type resolver struct {
	ctx   context.Context
	get   Getter
	arch  string
	image *Image
}

// fetch gets one document, checks it and notes it.
func (r *resolver) fetch(b Blob) ([]byte, error) {
	if b.Size > MaxDocument {
		return nil, fmt.Errorf("document %s: %d bytes, want at most %d", b.Digest, b.Size, MaxDocument)
	}
	data, err := r.get(r.ctx, b)
	if err != nil {
		return nil, err
	}
	if got := Digest(sha256.Sum256(data)); got != b.Digest || b.Size >= 0 && int64(len(data)) != b.Size {
		return nil, fmt.Errorf("document %s: %d bytes with %s, want %d", b.Digest, len(data), got, b.Size)
	}
	b.Size = int64(len(data))
	r.image.Documents = append(r.image.Documents, b)
	return data, nil
}

// document reads an index or manifest of one of the media types wanted. One that names no media type is
// what its keys say.
func (r *resolver) document(b Blob, want ...string) (*document, error) {
	data, err := r.fetch(b)
	if err != nil {
		return nil, err
	}
	doc := new(document)
	if err := json.Unmarshal(data, doc); err != nil {
		return nil, fmt.Errorf("document %s: %w", b.Digest, err)
	}
	index := doc.Manifests != nil
	if index == (doc.Config != nil || doc.Layers != nil) {
		return nil, fmt.Errorf("document %s: want either manifests, or config and layers", b.Digest)
	}
	media := doc.MediaType
	if media == "" {
		if media = b.MediaType; media == "" {
			media = map[bool]string{true: mediaIndex, false: mediaManifest}[index]
		}
	}
	isIndex := media == mediaIndex || media == mediaDockerIndex
	switch {
	case doc.SchemaVersion != 2:
		err = fmt.Errorf("schemaVersion %d: want 2", doc.SchemaVersion)
	case b.MediaType != "" && media != b.MediaType:
		err = fmt.Errorf("media type %.100q: the index that names it says %.100q", media, b.MediaType)
	case !slices.Contains(want, media):
		err = fmt.Errorf("media type %.100q: want one of %s", media, strings.Join(want, ", "))
	case isIndex != index:
		err = fmt.Errorf("media type %.100q does not fit what is in it", media)
	}
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", b.Digest, err)
	}
	r.image.Documents[len(r.image.Documents)-1].MediaType = media
	return doc, nil
}

// choose picks the one image of an index for the platform. A variant is a newer instruction set than every
// machine of the architecture has, so only an image without one is taken.
func (r *resolver) choose(all []descriptor) (Blob, error) {
	if len(all) > maxIndex {
		return Blob{}, fmt.Errorf("%d images, want at most %d", len(all), maxIndex)
	}
	want := platform{OS: "linux", Architecture: r.arch}
	var found *descriptor
	var there []string
	for i := range all {
		p := all[i].Platform
		switch {
		case p == nil:
			there = append(there, "one without platform")
		case *p != want:
			there = append(there, fmt.Sprintf("%.60q", p.String()))
		case found != nil && found.Digest != all[i].Digest:
			return Blob{}, fmt.Errorf("two images for %s: name one of them by its digest", want)
		default:
			found = &all[i]
		}
	}
	if found == nil {
		return Blob{}, fmt.Errorf("no image for %s; there is %s", want, strings.Join(there[:min(len(there), 16)], ", "))
	}
	return found.blob(mediaManifest, mediaDockerManifest)
}

// blob checks a descriptor.
func (d descriptor) blob(media ...string) (Blob, error) {
	digest, err := ParseDigest(d.Digest)
	switch {
	case err != nil:
		return Blob{}, err
	case d.Size < 0:
		return Blob{}, fmt.Errorf("blob %s: size %d", digest, d.Size)
	case !slices.Contains(media, d.MediaType):
		return Blob{}, fmt.Errorf("blob %s: media type %.100q: want one of %s", digest, d.MediaType, strings.Join(media, ", "))
	}
	return Blob{d.MediaType, digest, d.Size}, nil
}

// config is what is read of an image configuration (config.md).
type config struct {
	platform
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// manifest reads the configuration and lists the layers.
func (r *resolver) manifest(doc *document) error {
	at := r.image.Documents[len(r.image.Documents)-1].Digest
	fail := func(err error) error { return fmt.Errorf("manifest %s: %w", at, err) }
	if doc.Config == nil {
		return fail(errors.New("no config"))
	}
	b, err := doc.Config.blob(mediaConfig, mediaDockerConfig)
	if err != nil {
		return fail(err)
	}
	data, err := r.fetch(b)
	if err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("config %s: %w", b.Digest, err)
	}
	switch n := len(doc.Layers); {
	case c.OS != "linux" || c.Architecture != r.arch || c.Variant != "":
		return fmt.Errorf("config %s: is for %.60q, want linux/%s", b.Digest, c.platform.String(), r.arch)
	case c.RootFS.Type != "layers":
		return fmt.Errorf("config %s: rootfs of type %.40q, want layers", b.Digest, c.RootFS.Type)
	case n == 0 || n > maxLayers:
		return fail(fmt.Errorf("%d layers, want 1 to %d", n, maxLayers))
	case n != len(c.RootFS.DiffIDs):
		return fail(fmt.Errorf("%d layers, but the config has %d diff IDs", n, len(c.RootFS.DiffIDs)))
	}
	return r.layers(doc.Layers, c.RootFS.DiffIDs)
}

// layers checks the descriptors of the layers, each with its diff ID.
func (r *resolver) layers(all []descriptor, diffIDs []string) error {
	known := slices.Sorted(maps.Keys(compressions))
	for i, d := range all {
		var l Layer
		var err error
		if l.Blob, err = d.blob(known...); err == nil && l.Size > MaxLayer {
			err = fmt.Errorf("%d bytes, want at most %d", l.Size, int64(MaxLayer))
		}
		if err == nil {
			l.DiffID, err = ParseDigest(diffIDs[i])
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		r.image.Layers = append(r.image.Layers, l)
	}
	return nil
}
