package source

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// # The source archive
//
// sources.tar holds every local source of a build: with it, a rebuild elsewhere needs nothing but what the
// lock names by hash. It is a tar file (USTAR, PAX headers only for what that cannot hold):
//
//   - its first entry is the file ".tally-sources", whose content is the line "tally.sources/v1 DIR":
//     DIR/image.yaml and DIR/image.lock are spec and lock, "." stands for the top;
//   - then every directory, file and symbolic link, sorted bytewise by name, each name once: spec and
//     lock under those names, files and directories that the spec names, of OCI layouts the file oci-layout
//     and the blobs of the image that the spec names, and of Go modules go.mod, go.sum
//     and the source files that the programs are built from;
//   - owner 0:0 without names, time 0, modes 0755 and 0644 (0777 for links).
//
// Names are relative to the lowest directory that holds the spec and all it refers to.

const (
	headName   = ".tally-sources"
	headPrefix = "tally.sources/v1 "
)

// An item is one entry of an archive being written.
type item struct {
	kind   tree.Kind
	mode   int64
	link   string
	object lock.Object
	data   tree.Content
}

// base says where the spec's directory is below the lowest directory that holds all: "." or a path.
func (l *Local) base() string {
	up := 0
	for _, p := range l.paths() {
		n := 0
		for rest := p; rest == ".." || strings.HasPrefix(rest, "../"); rest = strings.TrimPrefix(rest[2:], "/") {
			n++
		}
		up = max(up, n)
	}
	elements := strings.Split(strings.Trim(filepath.ToSlash(l.Dir), "/"), "/")
	return path.Join(".", path.Join(elements[max(0, len(elements)-up):]...))
}

// paths lists the local paths that the spec names.
func (l *Local) paths() []string {
	all := append(l.Spec.Files(), l.Spec.Dirs()...)
	for _, g := range l.Spec.Programs() {
		all = append(all, g.Module)
	}
	for _, o := range l.Spec.Layouts() {
		all = append(all, o.Layout)
	}
	return all
}

// collect lists what the archive holds, by name.
func (l *Local) collect(ctx context.Context, base string, rawLock []byte) (map[string]item, error) {
	all := map[string]item{}
	files, err := l.files(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range files {
		o, err := l.hash(ctx, p)
		if err != nil {
			return nil, err
		}
		all[path.Join(base, p)] = item{kind: tree.File, mode: 0o644, object: o, data: onDisk(l.disk(p))}
	}
	for _, p := range l.Spec.Dirs() {
		t, err := l.tree(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, e := range t.Entries() {
			all[path.Join(base, p, e.Path)] = item{e.Kind, int64(e.Mode), e.Link, lock.Object{SHA256: e.Digest, Size: e.Size}, e.Data}
		}
	}
	for name, data := range map[string][]byte{spec.FileName: l.Raw, lock.FileName: rawLock} {
		o := lock.Object{SHA256: sha256.Sum256(data), Size: int64(len(data))}
		all[path.Join(base, name)] = item{kind: tree.File, mode: 0o644, object: o, data: tree.Bytes(data)}
	}
	return all, nil
}

// files lists the files that the spec names: by themselves, as an OCI layout or as a program.
func (l *Local) files(ctx context.Context) ([]string, error) {
	all := slices.Clone(l.Spec.Files())
	for _, o := range l.Spec.Layouts() {
		files, err := l.layoutFiles(ctx, o)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	for _, g := range l.Spec.Programs() {
		s, err := l.list(ctx, g)
		if err != nil {
			return nil, err
		}
		for _, f := range s.Files {
			all = append(all, path.Join(g.Module, f))
		}
	}
	return all, nil
}

// WriteArchive writes the source archive to w. It fails when a file is not what Pin or Check saw.
func (l *Local) WriteArchive(ctx context.Context, w io.Writer, rawLock []byte) error {
	base := l.base()
	all, err := l.collect(ctx, base, rawLock)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	head := []byte(headPrefix + base + "\n")
	o := lock.Object{SHA256: sha256.Sum256(head), Size: int64(len(head))}
	if err := writeItem(ctx, tw, headName, item{kind: tree.File, mode: 0o644, object: o, data: tree.Bytes(head)}); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == headName {
			return fmt.Errorf("source %q: this name is the archive's own", name)
		}
		if err := writeItem(ctx, tw, name, all[name]); err != nil {
			return err
		}
	}
	return tw.Close()
}

func writeItem(ctx context.Context, tw *tar.Writer, name string, it item) error {
	h := &tar.Header{Name: name, Mode: it.mode}
	switch it.kind {
	case tree.Dir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return tw.WriteHeader(h)
	case tree.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, it.link
		return tw.WriteHeader(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, it.object.Size
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	e := tree.Entry{Path: name, Size: it.object.Size, Digest: it.object.SHA256, Data: it.data, Source: "the disk"}
	err := e.CopyTo(ctx, tw, make([]byte, 64<<10))
	if errors.Is(err, tree.ErrSize) || errors.Is(err, tree.ErrDigest) { // any other fault, such as a full disk, is not the file's
		return fmt.Errorf("%w: it changed since it was pinned", err)
	}
	return err
}

// unpackArchive writes the archive to tmp/sources.tar and unpacks it again; the returned Local reads what
// was unpacked.
func (l *Local) unpackArchive(ctx context.Context, rawLock []byte, tmp string) (*Local, error) {
	name := filepath.Join(tmp, "sources.tar")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := l.WriteArchive(ctx, f, rawLock); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	dir := filepath.Join(tmp, "sources")
	file, err := Extract(ctx, f, dir)
	if err != nil {
		return nil, fmt.Errorf("the archive just made cannot be read: %w", err)
	}
	copied, err := Open(file, l.Spec.Variant, l.Environ)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(copied.Raw, l.Raw) {
		return nil, fmt.Errorf("the spec is not what the archive has: a directory of the spec has a file of its name")
	}
	copied.GoProxy, copied.Offline, copied.Steps, copied.commands = l.GoProxy, l.Offline, l.Steps, l.commands
	return copied, f.Close()
}
