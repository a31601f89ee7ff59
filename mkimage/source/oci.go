package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"tally/mkimage/lock"
	"tally/mkimage/oci"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// layout is the OCI layout of a source, on the maintainer's disk.
func (l *Local) layout(o *spec.OCI) oci.Layout { return oci.Layout(l.disk(o.Layout)) }

// pinLayouts records in k every image that comes from a layout. Each blob must be there and be what its digest
// says. Images of registries are [lock.Indexer.Images]' to record.
func (l *Local) pinLayouts(ctx context.Context, k *lock.Lock) error {
	k.OCI = nil
	for i, src := range l.Spec.Root {
		if src.OCI == nil || src.OCI.Layout == "" {
			continue
		}
		o, err := l.pinLayout(ctx, l.Spec.SourceName(i), src.OCI)
		if err != nil {
			return fmt.Errorf("layout %q: %w", src.OCI.Layout, err)
		}
		k.OCI = append(k.OCI, o)
	}
	lock.SortImages(k.OCI)
	return nil
}

func (l *Local) pinLayout(ctx context.Context, user string, s *spec.OCI) (lock.OCI, error) {
	layout := l.layout(s)
	if err := layout.Check(); err != nil {
		return lock.OCI{}, err
	}
	_, digest := s.Reference()
	im, err := oci.Resolve(ctx, layout.Get, digest, "amd64")
	if err != nil {
		return lock.OCI{}, err
	}
	o := lock.NewOCI(user, "", s.Layout, im)
	for _, b := range o.Objects() {
		got, err := l.hash(ctx, path.Join(s.Layout, oci.BlobPath(oci.Digest(b.SHA256))))
		if err != nil {
			return o, err
		}
		if got != b {
			return o, fmt.Errorf("blob %s: %d bytes with SHA-256 %s, want %d bytes", oci.Digest(b.SHA256), got.Size, got.SHA256, b.Size)
		}
	}
	return o, nil
}

// layoutFiles lists the files of a layout that a build reads, relative to the spec's directory.
func (l *Local) layoutFiles(ctx context.Context, s *spec.OCI) ([]string, error) {
	o, err := l.pinLayout(ctx, "", s)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", s.Layout, err)
	}
	files := []string{path.Join(s.Layout, oci.LayoutFile)}
	for _, b := range o.Objects() {
		files = append(files, path.Join(s.Layout, oci.BlobPath(oci.Digest(b.SHA256))))
	}
	return files, nil
}

// checkImages holds the images of the lock against the spec and the layouts.
func (l *Local) checkImages(now, k *lock.Lock) error {
	want := map[string]bool{}
	for i, src := range l.Spec.Root {
		if src.OCI == nil {
			continue
		}
		user := l.Spec.SourceName(i)
		want[user] = true
		was := k.ImageFor(user)
		repository, digest := src.OCI.Reference()
		name := "image " + repository + src.OCI.Layout
		switch is := now.ImageFor(user); {
		case was == nil:
			return &StaleError{What: name}
		case is != nil && !is.Equal(*was), was.Image != repository, was.Layout != src.OCI.Layout, was.Digest() != lock.Hash(digest):
			return &StaleError{name, oci.Digest(was.Digest()).String(), digest.String()}
		}
	}
	for _, o := range k.OCI {
		if !want[o.For] {
			return &StaleError{What: "image " + o.Name(), Was: oci.Digest(o.Digest()).String()}
		}
	}
	return nil
}

// image flattens the image of a source.
func (a *assembler) image(ctx context.Context, user string, s *spec.OCI) (*tree.Tree, error) {
	pinned := a.lock.ImageFor(user)
	if pinned == nil {
		return nil, fmt.Errorf("the lock has no image for %s", user)
	}
	repository, digest := s.Reference()
	get, open := oci.Getter(a.fromStore), func(b oci.Blob) (io.ReadCloser, error) { return os.Open(a.store.Path(lock.Hash(b.Digest))) }
	if s.Layout != "" {
		get, open = a.layout(s).Get, a.layout(s).Open
	}
	im, err := oci.Resolve(ctx, get, digest, a.lock.Arch)
	if err != nil {
		return nil, err
	}
	if is := lock.NewOCI(user, repository, s.Layout, im); !is.Equal(*pinned) {
		return nil, fmt.Errorf("image %s: its documents do not name the blobs that the lock pinned", pinned.Name())
	}
	t, err := oci.Flatten(ctx, im.Layers, oci.Options{Open: open, Scratch: a.temporary, Source: "image " + pinned.Name(), Declared: a.declared(s.Target)})
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", pinned.Name(), err)
	}
	return t, nil
}

// fromStore is an oci.Getter.
func (a *assembler) fromStore(_ context.Context, b oci.Blob) ([]byte, error) {
	size := b.Size
	if size < 0 {
		size = oci.MaxDocument
	}
	return a.store.Read(lock.Object{SHA256: lock.Hash(b.Digest), Size: size})
}

// declared says whether the spec names a device node of an image below target: then the spec puts it there.
func (a *assembler) declared(target string) func(tree.Entry) bool {
	return func(e tree.Entry) bool {
		for _, d := range a.Spec.Devices {
			kind := tree.CharDev
			if d.Type == "block" {
				kind = tree.BlockDev
			}
			if d.Path == path.Join(target, e.Path) && kind == e.Kind && d.Major == e.Major && d.Minor == e.Minor {
				return true
			}
		}
		return false
	}
}
