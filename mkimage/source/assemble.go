package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/xz"
	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/sbom"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// An assembler turns a checked lock into mkimage.Inputs.
type assembler struct {
	*Local // what was unpacked from the source archive
	lock   *lock.Lock
	store  *lock.Store
	tmp    string
	jobs   int
	n      int // of temporary files
	in     mkimage.Inputs

	modules []tree.Entry // of the kernel, made by steps, by file name
}

// Assemble writes the source archive, builds the Go programs from it, unpacks the packages and reads the
// files that k pins. Check must have been called, and everything must be in the store
// (lock.Fetcher.Packages). The result refers to files below tmp, an empty directory of the caller's, and
// to the store: both must stay until the image is built. jobs is the number of packages unpacked at a time.
func (l *Local) Assemble(ctx context.Context, k *lock.Lock, rawLock []byte, store *lock.Store, tmp string, jobs int) (mkimage.Inputs, error) {
	copied, err := l.unpackArchive(ctx, rawLock, tmp)
	if err != nil {
		return mkimage.Inputs{}, err
	}
	s := l.Spec
	a := &assembler{Local: copied, lock: k, store: store, tmp: tmp, jobs: max(1, jobs)}
	a.in = mkimage.Inputs{Name: s.Name, Version: s.Version, Epoch: s.Epoch, Cmdline: s.Cmdline, Platforms: s.Platforms, Modules: s.Modules, Outputs: s.Outputs,
		Root: tree.New(), KernelTree: tree.New(), Spec: l.Raw, Lock: rawLock, Sources: onDisk(filepath.Join(tmp, "sources.tar"))}
	for _, step := range []func(context.Context) error{a.init, a.root, a.steps, a.config, a.kernel, a.kernelModules, a.stub, a.firmware} {
		if err := step(ctx); err != nil {
			return mkimage.Inputs{}, err
		}
	}
	a.list()
	return a.in, nil
}

// program builds one Go program.
func (a *assembler) program(ctx context.Context, g *spec.Go) ([]byte, error) {
	c, err := a.command(ctx, g)
	if err != nil {
		return nil, err
	}
	out := a.temporary()
	if err := c.Build(ctx, a.disk(g.Module), g.Package, out); err != nil {
		return nil, err
	}
	defer os.Remove(out)
	return os.ReadFile(out)
}

// temporary returns the name of a file that nobody has yet.
func (a *assembler) temporary() string {
	a.n++
	return filepath.Join(a.tmp, fmt.Sprintf("file-%d", a.n))
}

func (a *assembler) init(ctx context.Context) (err error) {
	if g := a.Spec.Init.Go; g != nil {
		a.in.Init, err = a.program(ctx, g)
	} else {
		a.in.Init, err = a.localFile(ctx, a.Spec.Init.File)
	}
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// mountPoints are directories every root needs and version control cannot hold empty.
var mountPoints = []tree.Entry{
	{Path: "dev", Kind: tree.Dir, Mode: 0o755}, {Path: "proc", Kind: tree.Dir, Mode: 0o555}, {Path: "run", Kind: tree.Dir, Mode: 0o755},
	{Path: "sys", Kind: tree.Dir, Mode: 0o555}, {Path: "tmp", Kind: tree.Dir, Mode: 0o1777},
}

func (a *assembler) root(ctx context.Context) error {
	for i, src := range a.Spec.Root {
		name := a.Spec.SourceName(i)
		if err := a.source(ctx, a.in.Root, name, src); err != nil {
			return fmt.Errorf("root source %s: %w", strings.TrimPrefix(name, "root."), err)
		}
	}
	for _, d := range a.Spec.Devices {
		kind := tree.CharDev
		if d.Type == "block" {
			kind = tree.BlockDev
		}
		if err := a.in.Root.Add(tree.Entry{Path: d.Path, Kind: kind, Mode: d.Mode, Major: d.Major, Minor: d.Minor, Source: "devices of the spec"}); err != nil {
			return err
		}
	}
	for _, e := range mountPoints {
		if a.in.Root.Get(e.Path) == nil {
			e.Source = "tally"
			if err := a.in.Root.Add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// source adds one source to the tree to: the root, or the build root of a step.
func (a *assembler) source(ctx context.Context, to *tree.Tree, user string, src spec.Source) error {
	switch {
	case src.Debian != nil:
		return a.debian(ctx, user, src.Debian.Scripts == "ignore", src.Debian.Omit, to)
	case src.OCI != nil:
		t, err := a.image(ctx, user, src.OCI)
		return graft(to, t, err, place{src.OCI.Target, src.OCI.Replace}, src.OCI.Override)
	case src.Dir != nil:
		t, err := a.tree(ctx, src.Dir.Path)
		if err == nil {
			t, err = owned(t, src.Dir.UID, src.Dir.GID)
		}
		return graft(to, t, err, place{src.Dir.Target, src.Dir.Replace}, src.Dir.Override)
	case src.Tar != nil:
		t, err := a.tarball(ctx, src.Tar)
		return graft(to, t, err, place{src.Tar.Target, src.Tar.Replace}, src.Tar.Override)
	case src.File != nil:
		e, err := a.fileEntry(ctx, src.File)
		if err != nil {
			return fmt.Errorf("file %q: %w", src.File.Path, err)
		}
		return a.add(to, e, src.File.Replace)
	case src.Model != nil:
		return a.model(user, src.Model)
	}
	data, err := a.program(ctx, src.Go)
	if err != nil {
		return err
	}
	e := tree.NewFile(src.Go.Target, 0o755, data, "go "+src.Go.Package)
	e.UID, e.GID = src.Go.UID, src.Go.GID
	set(&e.Mode, src.Go.Mode)
	return a.add(to, e, src.Go.Replace)
}

// add adds a file of the maintainer's, dated to the epoch.
func (a *assembler) add(to *tree.Tree, e tree.Entry, replace bool) error {
	e.MTime = a.Spec.Epoch
	t := tree.New()
	if err := t.Add(e); err != nil {
		return err
	}
	return addTree(to, t, place{"", replace})
}

// fileEntry describes a file of the root; its contents stay on disk.
func (a *assembler) fileEntry(ctx context.Context, f *spec.File) (e tree.Entry, err error) {
	name := a.disk(f.Path)
	if f.Decompress != "" {
		name = a.temporary()
		w, err := os.Create(name)
		if err != nil {
			return e, err
		}
		if err := errors.Join(a.expand(ctx, w, f.Path, f.Decompress), w.Close()); err != nil {
			return e, err
		}
	}
	o, err := hashFile(ctx, name)
	if err != nil {
		return e, err
	}
	e = tree.Entry{Path: f.Target, Kind: tree.File, Mode: 0o644, UID: f.UID, GID: f.GID, Size: o.Size, Digest: o.SHA256, Data: onDisk(name), Source: "file " + f.Path}
	if f.Executable {
		e.Mode = 0o755
	}
	set(&e.Mode, f.Mode)
	return e, nil
}

// localFile reads a file and undoes the compression that the spec names.
func (a *assembler) localFile(ctx context.Context, f *spec.File) ([]byte, error) {
	var b bytes.Buffer
	if err := a.expand(ctx, &b, f.Path, f.Decompress); err != nil {
		return nil, fmt.Errorf("file %q: %w", f.Path, err)
	}
	return b.Bytes(), nil
}

// expand writes a local file to w, decompressed.
func (a *assembler) expand(ctx context.Context, w io.Writer, p, decompress string) error {
	in, err := os.Open(a.disk(p))
	if err != nil {
		return err
	}
	defer in.Close()
	var r io.Reader = ctxReader{ctx, in}
	if decompress == "xz" {
		if r, err = xz.NewReader(r, xz.MaxDict); err != nil {
			return err
		}
	}
	n, err := io.Copy(w, io.LimitReader(r, maxLocal+1))
	if err == nil && n > maxLocal {
		err = fmt.Errorf("unpacks to more than %d bytes", int64(maxLocal))
	}
	return err
}

// list names every input for the manifest.
func (a *assembler) list() {
	add := func(kind, name, version string, sum [32]byte, size int64, verified string) *mkimage.Input {
		a.in.List = append(a.in.List, mkimage.Input{Kind: kind, Name: name, Version: version, SHA256: sum, Size: size, Verified: verified})
		return &a.in.List[len(a.in.List)-1]
	}
	for _, p := range a.lock.Packages {
		in := add("package", p.Name, p.Version, p.SHA256, p.Size, "index")
		in.PURL, in.UsedBy = sbom.DebianPURL(p.Name, p.Version, p.Arch, p.Suite), p.For
	}
	for _, f := range a.lock.Files {
		add("file", f.Path, "", f.SHA256, f.Size, "hash")
	}
	for _, d := range a.lock.Dirs {
		add("dir", d.Path, "", d.Tree, 0, "hash")
	}
	for _, o := range a.lock.OCI {
		var size int64
		for _, b := range o.Objects() {
			size += b.Size
		}
		add("oci", o.Name(), "", o.Digest(), size, "hash").PURL = sbom.OCIPURL(o.Name(), o.Image, o.Digest())
	}
	for _, m := range a.lock.Models {
		add("model", m.Name, "", m.SHA256, m.Size, "hash")
	}
	for _, g := range a.lock.Go {
		add("go", g.Package, g.Toolchain, g.Source, 0, "hash")
	}
	for _, m := range a.lock.Modules {
		add("module", m.Path, m.Version, h1(m.Sum), 0, "hash").PURL = sbom.GoPURL(m.Path, m.Version)
	}
	for _, t := range a.lock.Toolchains {
		add("toolchain", t.Version, t.Platform, h1(t.Sum), 0, "hash").PURL = sbom.GoPURL("golang.org/toolchain", "v0.0.1-"+t.Version+"."+t.Platform)
	}
}

// h1 returns the SHA-256 in a go.sum checksum, whose form lock.Parse has checked.
func h1(sum string) (b [32]byte) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
	if err == nil {
		copy(b[:], raw)
	}
	return b
}
