package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"tally/mkimage/oci"
	"tally/mkimage/spec"
)

// An OCI is one container image that a root source of the spec takes its files from.
type OCI struct {
	For       string     `json:"for"`                  // the source, as spec.Spec.SourceName has it: root.N
	Image     string     `json:"repository,omitempty"` // HOST[:PORT]/PATH of a registry; absent: a layout
	Layout    string     `json:"layout,omitempty"`     // directory, relative to the spec's
	Documents []Object   `json:"documents"`            // index (if the spec names one), manifest, configuration
	Layers    []OCILayer `json:"layers"`               // lowest first
}

// An OCILayer is one layer.
type OCILayer struct {
	MediaType string `json:"media_type"`
	Object
	DiffID Hash `json:"diff_id_sha256"` // of the uncompressed archive
}

// NewOCI returns what a lock says about an image.
func NewOCI(user, repository, layout string, im *oci.Image) OCI {
	o := OCI{For: user, Image: repository, Layout: layout, Documents: []Object{}, Layers: []OCILayer{}}
	for _, d := range im.Documents {
		o.Documents = append(o.Documents, Object{Hash(d.Digest), d.Size})
	}
	for _, l := range im.Layers {
		o.Layers = append(o.Layers, OCILayer{l.MediaType, Object{Hash(l.Digest), l.Size}, Hash(l.DiffID)})
	}
	return o
}

// Equal says whether both pin the same bytes for the same source.
func (o OCI) Equal(other OCI) bool { return reflect.DeepEqual(o, other) }

// Digest is what the spec names: of the index or manifest. Parse makes sure that there is one.
func (o OCI) Digest() Hash { return o.Documents[0].SHA256 }

// Objects lists every blob, documents first.
func (o OCI) Objects() []Object {
	all := append([]Object{}, o.Documents...)
	for _, l := range o.Layers {
		all = append(all, l.Object)
	}
	return all
}

// SortImages puts images into the order of a lock.
func SortImages(all []OCI) {
	slices.SortFunc(all, func(a, b OCI) int { return strings.Compare(a.For, b.For) })
}

// Name is how messages and the manifest name the image.
func (o OCI) Name() string {
	if o.Image != "" {
		return o.Image
	}
	return o.Layout
}

// ImageFor returns the image of a source (root.N), or nil.
func (l *Lock) ImageFor(user string) *OCI {
	for i := range l.OCI {
		if l.OCI[i].For == user {
			return &l.OCI[i]
		}
	}
	return nil
}

func (l *Lock) checkOCI() error {
	for i, o := range l.OCI {
		switch {
		case o.For == "" || l.ImageFor(o.For) != &l.OCI[i]:
			return fmt.Errorf("image for %.40q: want a source, once", o.For)
		case (o.Image == "") == (o.Layout == ""):
			return fmt.Errorf("image for %s: want either a repository or a layout", o.For)
		case o.Image != "" && oci.CheckRepository(o.Image) != nil:
			return fmt.Errorf("image for %s: %w", o.For, oci.CheckRepository(o.Image))
		case o.Layout != "" && (path.Clean(o.Layout) != o.Layout || path.IsAbs(o.Layout)):
			return fmt.Errorf("image for %s: layout %.200q: want a clean relative path", o.For, o.Layout)
		case len(o.Documents) < 2 || len(o.Documents) > 3:
			return fmt.Errorf("image for %s: %d documents, want 2 or 3", o.For, len(o.Documents))
		}
		for _, b := range o.Objects() {
			if b.Size < 0 || b.Size > oci.MaxLayer {
				return fmt.Errorf("image for %s: blob %s of %d bytes, want 0 to %d", o.For, b.SHA256, b.Size, int64(oci.MaxLayer))
			}
		}
	}
	return nil
}

// A Registry is the door to container registries: it returns what makes requests for one repository,
// with the credentials of its user, and the address of the repository's API (…/v2/PATH).
type Registry func(ctx context.Context, repository string) (Doer, string, error)

// ErrNoRegistry is returned, wrapped, where an image is wanted and no registry may be asked.
var ErrNoRegistry = errors.New("no registry may be asked")

// repository returns a Fetcher that asks one repository.
func (f *Fetcher) repository(ctx context.Context, name string) (*Fetcher, string, error) {
	if f.Registry == nil || f.Places.Offline {
		return nil, "", ErrNoRegistry
	}
	client, base, err := f.Registry(ctx, name)
	if err != nil {
		return nil, "", err
	}
	g := *f
	g.Client = client
	return &g, strings.TrimRight(base, "/"), nil
}

// Images pins in l every registry image that s names. The documents go to the store; layers are left to
// [Fetcher.Images].
func (x *Indexer) Images(ctx context.Context, s *spec.Spec, l *Lock) error {
	for i, src := range s.Root {
		if src.OCI == nil || src.OCI.Image == "" {
			continue
		}
		repository, digest := src.OCI.Reference()
		im, err := oci.Resolve(ctx, x.getter(repository), digest, x.Arch)
		if err != nil {
			return fmt.Errorf("image %s: %w", src.OCI.Image, err)
		}
		l.OCI = append(l.OCI, NewOCI(s.SourceName(i), repository, "", im))
	}
	SortImages(l.OCI)
	return nil
}

// getter reads documents from the store, or from the registry into the store.
func (x *Indexer) getter(repository string) oci.Getter {
	return func(ctx context.Context, b oci.Blob) ([]byte, error) {
		o := Object{Hash(b.Digest), b.Size}
		if o.Size < 0 {
			o.Size = oci.MaxDocument
		}
		if data, err := x.Fetcher.Store.Read(o); err == nil {
			return data, nil
		}
		f, base, err := x.Fetcher.repository(ctx, repository)
		if err != nil {
			return nil, fmt.Errorf("document %s: %w", b.Digest, err)
		}
		y := *x
		y.Fetcher = f
		data, err := y.small(ctx, documentURL(base, b.Digest, b.IsConfig()), oci.MaxDocument)
		if err != nil {
			return nil, fmt.Errorf("document %s: %w", b.Digest, err)
		}
		if got := sha256.Sum256(data); got != b.Digest {
			return nil, fmt.Errorf("document %s: the registry answers with other bytes, of %s", b.Digest, oci.Digest(got))
		}
		_, err = f.Store.Put(data)
		return data, err
	}
}

// documentURL is the address of a document (Distribution Specification 1.1, "Pulling manifests" and
// "Pulling blobs").
func documentURL(base string, d oci.Digest, blob bool) string {
	if blob {
		return base + "/blobs/" + d.String()
	}
	return base + "/manifests/" + d.String()
}

// Images gets every blob of the registry images of l that is not in the store.
func (f *Fetcher) Images(ctx context.Context, l *Lock) error {
	for _, o := range l.OCI {
		if o.Image == "" {
			continue // in the source tree
		}
		if err := f.image(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fetcher) image(ctx context.Context, o OCI) error {
	var missing int
	var total int64
	for _, b := range o.Objects() {
		if !f.Store.Has(b.SHA256, b.Size) {
			missing, total = missing+1, total+b.Size
		}
	}
	if missing == 0 {
		return nil
	}
	from, base, err := f.repository(ctx, o.Image)
	if err != nil {
		from = f
	}
	bar := f.bar("fetching image "+o.Image, total)
	defer bar.End()
	for i, b := range o.Objects() {
		if f.Store.Has(b.SHA256, b.Size) {
			continue
		}
		name := fmt.Sprintf("blob of image %s@%s", o.Image, oci.Digest(o.Digest()))
		if err != nil && !f.Places.Offline {
			return &GoneError{Name: name, SHA256: b.SHA256, Looked: []string{"the cache " + f.Store.dir, fmt.Sprintf("registry %s: %v", o.Image, err)}}
		}
		blob := i >= len(o.Documents)-1 // the configuration and the layers
		if err := from.locate(ctx, name, b, []string{documentURL(base, oci.Digest(b.SHA256), blob)}, bar); err != nil {
			return err
		}
	}
	return nil
}
