package source

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
	"tally/mkimage/tree"
)

// # The inputs file
//
// An inputs file holds everything that a lock pins, so that a build needs neither mirror nor module proxy. It
// is a tar file in the form of the source archive (owner 0:0, time 0, mode 0644), with regular files only:
//
//   - ".tally-inputs", whose content is the line "tally.inputs/v1 HEX" with the SHA-256 of the lock;
//   - "goproxy/…": the Go modules of the programs and the Go toolchain, in the layout of a module proxy;
//   - "sha256/HEX": packages, blobs of container images, files of models, and the signed index and package lists they were chosen from;
//   - "sources.tar": the source archive, spec and lock in it,
//
// the last three sorted bytewise by name. The same lock gives the same file.

const (
	inputsHead   = ".tally-inputs"
	inputsPrefix = "tally.inputs/v1 "
	inputsTar    = "sources.tar"
	inputsStore  = "sha256/"
	inputsProxy  = "goproxy/"
)

// ExportOptions say what goes into an inputs file.
type ExportOptions struct {
	Store     *lock.Store
	Toolchain bool   // also the Go toolchain of this machine's platform, some 70 MB
	Tmp       string // an empty directory of the caller's
}

// Export writes every input of k to w. Check must have been called; packages must be in the store. Signed
// indexes, with their lists and keyrings, that are not in the store are left out, and returned: they are no
// inputs of a build, only the proof of where its packages came from.
func (l *Local) Export(ctx context.Context, w io.Writer, k *lock.Lock, rawLock []byte, o ExportOptions) (left []lock.Hash, err error) {
	all := map[string]tree.Content{}
	sizes := map[string]int64{}
	if left, err = exportStore(ctx, all, sizes, k, o.Store); err != nil {
		return nil, err
	}
	if err := l.exportSources(ctx, all, rawLock, o.Tmp); err != nil {
		return nil, err
	}
	if err := l.exportGo(ctx, all, o); err != nil {
		return nil, err
	}
	tw := tar.NewWriter(w)
	head := fmt.Appendf(nil, "%s%s\n", inputsPrefix, hashBytes(rawLock))
	if err := writeRegular(ctx, tw, inputsHead, tree.Bytes(head), int64(len(head))); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		size, ok := sizes[name]
		if !ok {
			if size, err = contentSize(all[name]); err != nil {
				return nil, err
			}
		}
		if err := writeRegular(ctx, tw, name, all[name], size); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return left, tw.Close()
}

// exportStore adds what the store holds for a lock, and returns what it lacks and no build reads.
func exportStore(ctx context.Context, all map[string]tree.Content, sizes map[string]int64, k *lock.Lock, store *lock.Store) (left []lock.Hash, err error) {
	for _, obj := range objects(k) {
		if !store.Has(obj.SHA256, obj.Size) {
			if !proof(k, obj) {
				return nil, fmt.Errorf("input %s is not in the store", obj.SHA256)
			}
			if !slices.Contains(left, obj.SHA256) {
				left = append(left, obj.SHA256)
			}
			continue
		}
		name := inputsStore + obj.SHA256.String()
		all[name], sizes[name] = checked{ctx, store, obj}, obj.Size
	}
	return left, nil
}

// proof says whether an object of a lock only shows where others come from.
func proof(k *lock.Lock, o lock.Object) bool {
	return slices.ContainsFunc(k.Suites, func(s lock.Suite) bool {
		return s.InRelease == o || s.Keyring != nil && *s.Keyring == o || slices.ContainsFunc(s.Indexes, func(i lock.Index) bool { return i.Object == o })
	})
}

// objects lists what the store holds for a lock, each once.
func objects(k *lock.Lock) []lock.Object {
	var all []lock.Object
	for _, p := range k.Packages {
		all = append(all, p.Object)
	}
	for _, o := range k.OCI {
		if o.Image != "" { // the blobs of a layout are in the source archive
			all = append(all, o.Objects()...)
		}
	}
	for _, m := range k.Models {
		all = append(all, m.Object)
	}
	for _, s := range k.Suites {
		all = append(all, s.InRelease)
		if s.Keyring != nil {
			all = append(all, *s.Keyring)
		}
		for _, i := range s.Indexes {
			all = append(all, i.Object)
		}
	}
	return all
}

// checked is a Content: a file of the store, whose reader fails at its end when the bytes are wrong.
type checked struct {
	ctx   context.Context
	store *lock.Store
	obj   lock.Object
}

func (c checked) Open() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.store.Copy(c.ctx, w, c.obj)) }()
	return r, nil
}

func contentSize(c tree.Content) (int64, error) {
	switch c := c.(type) {
	case tree.Bytes:
		return int64(len(c)), nil
	case onDisk:
		fi, err := os.Stat(string(c))
		if err != nil {
			return 0, err
		}
		return fi.Size(), nil
	}
	return 0, fmt.Errorf("content of unknown size: %T", c)
}

func writeRegular(ctx context.Context, tw *tar.Writer, name string, c tree.Content, size int64) error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err = io.Copy(tw, ctxReader{ctx, r})
	return err
}

func (l *Local) exportSources(ctx context.Context, all map[string]tree.Content, rawLock []byte, tmp string) error {
	name := filepath.Join(tmp, inputsTar)
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.WriteArchive(ctx, f, rawLock); err != nil {
		return err
	}
	all[inputsTar] = onDisk(name)
	return f.Close()
}

// exportGo finds out what the go command needs by letting it work with an empty module cache.
func (l *Local) exportGo(ctx context.Context, all map[string]tree.Content, o ExportOptions) error {
	for _, g := range l.Spec.Programs() {
		c, err := l.command(ctx, g)
		if err != nil {
			return err
		}
		cache := filepath.Join(o.Tmp, "modcache")
		if err := c.Collect(ctx, l.disk(g.Module), g.Package, cache); err != nil {
			return fmt.Errorf("go source %s: %w", g.Package, err)
		}
		if err := addProxy(all, filepath.Join(cache, "cache", "download")); err != nil {
			return err
		}
		if !o.Toolchain {
			continue
		}
		ds, err := c.Download(ctx, "", gosrc.ToolchainModule+"@"+gosrc.ToolchainVersion(c.Toolchain, c.Platform))
		if err != nil {
			return err
		}
		for _, d := range ds {
			base := inputsProxy + d.Path + "/@v/" + d.Version
			all[base+".info"], all[base+".mod"], all[base+".zip"] = versionInfo(d.Version), onDisk(d.GoMod), onDisk(d.Zip)
		}
	}
	return nil
}

// addProxy adds the files of a module cache's download directory that a proxy serves.
func addProxy(all map[string]tree.Content, dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) && file == dir {
			return fs.SkipDir // a program without modules
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "sumdb" {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		name := inputsProxy + filepath.ToSlash(rel)
		switch path.Ext(name) {
		case ".mod", ".zip":
			all[name] = onDisk(file)
			version := strings.TrimSuffix(path.Base(name), path.Ext(name))
			all[strings.TrimSuffix(name, path.Ext(name))+".info"] = versionInfo(version)
		}
		return nil
	})
}

// versionInfo is the .info file of a version, without the time and origin that differ between proxies.
func versionInfo(version string) tree.Content {
	b, _ := json.Marshal(struct{ Version string }{version}) // a string cannot fail
	return tree.Bytes(append(bytes.TrimSpace(b), '\n'))
}
