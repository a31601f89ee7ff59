package source

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// Owners says which source of a spec put each path into the root file system. It is for explanations: where it
// does not know, it says nothing.
type Owners struct {
	paths  map[string]string // without leading slash
	opaque []opaque          // sources whose paths are not known
	all    bool              // every package was in the cache
	init   string            // owner of the initrd's /init
	kernel string            // owner of the initrd's modules
}

// An opaque source owns what nobody else does below its target.
type opaque struct{ target, name string }

// NewOwners reads spec and lock as they lie in an output directory. Packages are looked up in the store, where
// they lie unpacked; archive, when it is not nil, is the source archive, for the names in directories.
func NewOwners(rawSpec, rawLock []byte, archive io.Reader, store *lock.Store) (*Owners, error) {
	k, err := lock.Parse(rawLock, lock.FileName)
	if err != nil {
		return nil, err
	}
	s, err := spec.Parse(rawSpec, spec.FileName, k.Variant)
	if err != nil {
		return nil, err
	}
	o := &Owners{paths: map[string]string{}, all: true}
	dirs := map[string][]string{}
	if archive != nil {
		if dirs, err = archivedDirs(archive, s); err != nil {
			return nil, err
		}
	}
	for _, e := range mountPoints {
		o.paths[e.Path] = "tally"
	}
	for _, d := range s.Devices {
		o.paths[d.Path] = "devices of the spec"
	}
	if s.Init.Go != nil {
		o.init = programName(k, s.Init.Go)
	} else {
		o.init = "file " + s.Init.File.Path
	}
	for _, p := range k.PackagesFor("kernel") { // by name, so that linux-modules-* is the last
		o.kernel = "package " + p.Name + " " + p.Version
	}
	for i, src := range s.Root {
		o.source(src, k.PackagesFor(s.SourceName(i)), k, dirs, store)
	}
	if len(s.Steps) > 0 {
		o.opaque = append(o.opaque, opaque{"", "steps of the spec"})
	}
	return o, nil
}

func (o *Owners) source(src spec.Source, packages []lock.Package, k *lock.Lock, dirs map[string][]string, store *lock.Store) {
	switch {
	case src.Debian != nil:
		o.packages(packages, store)
	case src.OCI != nil:
		o.opaque = append(o.opaque, opaque{src.OCI.Target, "container image"})
	case src.Tar != nil:
		o.opaque = append(o.opaque, opaque{src.Tar.Target, "tar " + src.Tar.Path})
	case src.File != nil:
		o.paths[src.File.Target] = "file " + src.File.Path
	case src.Go != nil:
		o.paths[src.Go.Target] = programName(k, src.Go)
	case src.Dir != nil:
		for _, p := range dirs[src.Dir.Path] {
			o.paths[path.Join(src.Dir.Target, p)] = "dir " + src.Dir.Path
		}
	}
}

// programName names a Go program and the toolchain that the lock has for it.
func programName(k *lock.Lock, p *spec.Go) string {
	for _, g := range k.Go {
		if g.Module == p.Module && g.Package == p.Package {
			return "go " + p.Package + " " + g.Toolchain
		}
	}
	return "go " + p.Package
}

// packages takes the lists of packages from the cache. Directories belong to many, so they get no owner.
func (o *Owners) packages(packages []lock.Package, store *lock.Store) {
	for _, p := range packages {
		a, err := deb.Cached(p.SHA256, store.Unpacked())
		if err != nil {
			o.all = false
			continue
		}
		for _, e := range a.Entries {
			if e.Kind != tree.Dir {
				o.paths[e.Path] = "package " + p.Name + " " + p.Version
			}
		}
	}
}

// Of returns the owner of a path ("/etc/passwd"), e.g. "package base-passwd 3.6.7"; "" when it is not known.
func (o *Owners) Of(p string) string {
	p = strings.TrimPrefix(p, "/")
	if name, ok := o.paths[p]; ok || !o.all {
		return name
	}
	found := ""
	for _, s := range o.opaque {
		if s.target == "" || p == s.target || strings.HasPrefix(p, s.target+"/") {
			if found != "" {
				return "" // two could own it
			}
			found = s.name
		}
	}
	return found
}

// OfInitrd returns the owner of a path of the initrd.
func (o *Owners) OfInitrd(p string) string {
	switch {
	case p == "/init":
		return o.init
	case strings.Contains(p, "/modules/"):
		return o.kernel
	}
	return ""
}

// archivedDirs lists, for each directory that the spec names, what the source archive holds of it.
func archivedDirs(r io.Reader, s *spec.Spec) (map[string][]string, error) {
	lists := map[string][]string{}
	base, first := ".", true
	for t := tar.NewReader(io.LimitReader(r, MaxArchive)); ; first = false {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return lists, nil
		} else if err != nil {
			return nil, fmt.Errorf("source archive: %w", err)
		}
		if first {
			line := make([]byte, 4096)
			n, _ := io.ReadFull(t, line)
			rest, ok := strings.CutPrefix(strings.TrimSuffix(string(line[:n]), "\n"), headPrefix)
			if h.Name != headName || !ok {
				return nil, fmt.Errorf("source archive: first entry %.64q: want %s", h.Name, headName)
			}
			base = rest
			continue
		}
		for _, d := range s.Dirs() {
			if below, ok := strings.CutPrefix(strings.TrimSuffix(h.Name, "/"), path.Join(base, d)+"/"); ok {
				lists[d] = append(lists[d], below)
			}
		}
	}
}
