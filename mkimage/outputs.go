package mkimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"tally/mkimage/cpio"
	"tally/mkimage/kmod"
	"tally/mkimage/sbom"
	"tally/mkimage/tree"
)

// buildInitrd makes the initrd: init, the modules it loads and the empty directories it mounts on.
func (b *builder) buildInitrd(ctx context.Context) error {
	release, err := kmod.Release(b.in.KernelTree)
	if err != nil {
		return err
	}
	b.release = release
	mods, err := kmod.Closure(b.in.KernelTree, release, b.in.Modules)
	if err != nil {
		return err
	}
	t := tree.New()
	if err := t.Add(tree.NewFile("init", 0o755, b.in.Init, "init")); err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "root", "sys"} {
		if err := t.Add(tree.Entry{Path: dir, Kind: tree.Dir, Mode: 0o755, Source: "init"}); err != nil {
			return err
		}
	}
	// As packaged: the kernel unpacks them itself (CONFIG_MODULE_DECOMPRESS), and the initrd stays small.
	if err := kmod.InstallPacked(t, mods); err != nil {
		return err
	}
	var buf bytes.Buffer
	if _, err := cpio.Write(ctx, &buf, t, b.in.Epoch); err != nil {
		return err
	}
	b.initrd = buf.Bytes()
	return errors.Join(b.write("initrd", "initrd", b.initrd), b.write("vmlinuz", "kernel", b.in.Kernel))
}

// copyInputs puts what a release needs beside the image: firmware, spec, lock and sources.
func (b *builder) copyInputs(ctx context.Context) error {
	if err := os.Mkdir(filepath.Join(b.dir, "firmware"), 0o755); err != nil {
		return err
	}
	for _, f := range b.in.Firmware {
		name := "firmware/" + f.Name + ".fd"
		if err := b.write(name, "firmware", f.Data); err != nil {
			return err
		}
		b.m.Firmware = append(b.m.Firmware, Firmware{Name: f.Name, File: name, Vars: f.Vars})
	}
	if err := b.write("image.yaml", "spec", b.in.Spec); err != nil {
		return err
	}
	if err := b.write("image.lock", "lock", b.in.Lock); err != nil {
		return err
	}
	return b.copySources(ctx)
}

func (b *builder) copySources(ctx context.Context) error {
	r, err := b.in.Sources.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(filepath.Join(b.dir, "sources.tar"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n := &counter{}
	if err := copyCtx(ctx, io.MultiWriter(f, h, n), r); err != nil {
		return err
	}
	b.m.Artifacts = append(b.m.Artifacts, Artifact{Name: "sources.tar", Role: "sources", SHA256: Digest(h.Sum(nil)), Size: n.n})
	return f.Close()
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

// write puts one artefact into the directory and the manifest. The mode is the same under any umask.
func (b *builder) write(name, role string, data []byte) error {
	path := filepath.Join(b.dir, filepath.FromSlash(name))
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	b.m.Artifacts = append(b.m.Artifacts, Artifact{Name: name, Role: role, SHA256: sha256.Sum256(data), Size: int64(len(data))})
	return os.Chmod(path, 0o644)
}

// writeSBOM lists the inputs in the form of package sbom.
func (b *builder) writeSBOM(context.Context) error {
	im := sbom.Image{Name: b.in.Name, Version: b.in.Version, Epoch: b.in.Epoch, Disk: b.m.Artifact("disk.raw").SHA256}
	for _, in := range b.in.List {
		im.Components = append(im.Components, sbom.Component{Kind: in.Kind, Name: in.Name, Version: in.Version, SHA256: in.SHA256, PURL: in.PURL, UsedBy: in.UsedBy})
	}
	data, err := sbom.Marshal(im)
	if err != nil {
		return err
	}
	return b.write(sbom.FileName, "sbom", data)
}

func (b *builder) writeManifest(context.Context) error {
	m := &b.m
	if p := b.in.Config; p != "" {
		e := b.root.Get(p)
		if e == nil || e.Kind != tree.File {
			return fmt.Errorf("config %q: is no file of the root", p)
		}
		m.Config = &Config{Path: p, SHA256: e.Digest, Wires: b.in.Wires}
	}
	m.Schema, m.Name, m.Version, m.Epoch, m.Layout = ManifestSchema, b.in.Name, b.in.Version, b.in.Epoch, LayoutVersion
	m.Platforms, m.Inputs, m.Steps, m.Omitted = b.in.Platforms, b.in.List, b.in.Steps, b.in.Omitted
	if m.Platforms == nil {
		m.Platforms = json.RawMessage("[]")
	}
	sort.Slice(m.Artifacts, func(i, j int) bool { return m.Artifacts[i].Name < m.Artifacts[j].Name })
	for name, ref := range map[string]*Ref{"image.yaml": &m.Spec, "image.lock": &m.Lock, "sources.tar": &m.Sources} {
		ref.SHA256 = m.Artifact(name).SHA256
	}
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	if _, err := ParseManifest(data); err != nil {
		return fmt.Errorf("the manifest just made cannot be read: %w", err)
	}
	path := filepath.Join(b.dir, ManifestFile)
	return errors.Join(os.WriteFile(path, data, 0o644), os.Chmod(path, 0o644), os.Chmod(filepath.Join(b.dir, "disk.raw"), 0o644), os.Chmod(filepath.Join(b.dir, "sources.tar"), 0o644), os.Chmod(filepath.Join(b.dir, "firmware"), 0o755))
}
