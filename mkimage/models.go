package mkimage

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tally/mkimage/disk"
	"tally/mkimage/erofs"
	"tally/mkimage/internal/fanout"
	"tally/mkimage/tree"
	"tally/verity"
)

// # Model volumes
//
// A model is files that are too large for the root, or that change at another pace. It becomes a volume of
// its own: OUT/models/NAME.raw, a disk with one EROFS and its hash tree (package disk, Volume), written in one
// pass (WriteVolume). What makes it part of the image is its root hash in the file /etc/tally/models of the root file
// system, which the root hash of the image covers. The file is text, a line each, sorted by name:
//
//	tally.models/v1
//	NAME MOUNT roothash=HEX tally.verity=1,sha256,4096,4096,DATABLOCKS,HASHSTART,SALT tally.partitions=DATA,HASH
//
// MOUNT is a directory of the root without a leading slash; the next two words are those of the kernel command
// line; DATA and HASH are the PARTUUIDs of the volume's partitions. By these cmd/init finds the volume; that it
// is the right one, dm-verity makes sure with the root hash. It opens what stands there, and nothing else,
// before anything of the root runs; a volume that is missing, there twice or not as measured stops the boot.

// ModelsFile is the path of that file in the root; modelsHead is its first line.
const (
	ModelsFile = "etc/tally/models"
	modelsHead = "tally.models/v1"
	maxModels  = 16
)

// A ModelInput is one model volume to build.
type ModelInput struct {
	Name  string     // lower-case letters, digits, dots and hyphens; unique
	Mount string     // directory of the root, in tree's form
	Tree  *tree.Tree // what is in the volume
}

// A Model is one model volume of a manifest.
type Model struct {
	Name   string       `json:"name"`
	File   string       `json:"file"`  // below OUT
	Mount  string       `json:"mount"` // directory of the root
	Verity VerityParams `json:"verity"`
}

// buildModels writes the volumes and puts their root hashes into the root's tree.
func (b *builder) buildModels(ctx context.Context) error {
	if e := b.root.Get(ModelsFile); e != nil {
		return fmt.Errorf("path %q from %s: this file is the build's to write", ModelsFile, e.Source)
	}
	if len(b.in.Models) == 0 {
		return nil
	}
	if err := b.in.checkModels(); err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "models")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	models := slices.Clone(b.in.Models)
	slices.SortFunc(models, func(x, y ModelInput) int { return strings.Compare(x.Name, y.Name) })
	var text bytes.Buffer
	fmt.Fprintln(&text, modelsHead)
	for _, in := range models {
		line, err := b.buildModel(ctx, in)
		if err != nil {
			return fmt.Errorf("model %s: %w", in.Name, err)
		}
		text.WriteString(line)
	}
	e := tree.NewFile(ModelsFile, 0o644, text.Bytes(), "models")
	e.MTime = b.in.Epoch
	return b.root.Add(e)
}

// checkModels looks at names and mount points; a missing mount point is made by mountPoints.
func (in *Inputs) checkModels() error {
	if n := len(in.Models); n > maxModels {
		return fmt.Errorf("models: %d, want at most %d", n, maxModels)
	}
	for i, m := range in.Models {
		others := in.Models[:i]
		switch {
		case !nameForm.MatchString(m.Name) || slices.ContainsFunc(others, func(o ModelInput) bool { return o.Name == m.Name }):
			return fmt.Errorf("model name %.80q: want a plain name, once", m.Name)
		case tree.CheckPath(m.Mount) != nil || strings.ContainsAny(m.Mount, " \n"):
			return fmt.Errorf("model %s: mount point %.200q: want a directory of the root, without spaces", m.Name, m.Mount)
		case slices.ContainsFunc(others, func(o ModelInput) bool {
			return o.Mount == m.Mount || strings.HasPrefix(o.Mount+"/", m.Mount+"/") || strings.HasPrefix(m.Mount+"/", o.Mount+"/")
		}):
			return fmt.Errorf("model %s: mount point %q: another model is there", m.Name, m.Mount)
		case m.Tree == nil:
			return fmt.Errorf("model %s: no files", m.Name)
		}
		for _, e := range in.Root.Entries() {
			if strings.HasPrefix(e.Path, m.Mount+"/") || e.Path == m.Mount && e.Kind != tree.Dir {
				return fmt.Errorf("model %s: mount point %q: %s already put %q there", m.Name, m.Mount, e.Source, e.Path)
			}
		}
	}
	return nil
}

// withModels returns the root's tree with the mount points in it; the caller's tree stays as it is.
func (in *Inputs) withModels() (*tree.Tree, error) {
	if len(in.Models) == 0 {
		return in.Root, nil
	}
	t := tree.New()
	for _, e := range in.Root.Entries() {
		if err := t.Replace(*e); err != nil {
			return nil, err
		}
	}
	for _, m := range in.Models {
		if t.Get(m.Mount) == nil {
			if err := t.Add(tree.Entry{Path: m.Mount, Kind: tree.Dir, Mode: 0o755, MTime: in.Epoch, Source: "model " + m.Name}); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// buildModel writes one volume and returns its line of ModelsFile.
func (b *builder) buildModel(ctx context.Context, in ModelInput) (line string, err error) {
	v, err := planVolume(in, b.in.Epoch)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(b.dir, filepath.FromSlash(v.file)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	defer f.Close()
	m, a, err := v.write(ctx, f)
	if err != nil {
		return "", err
	}
	b.m.Models, b.m.Artifacts = append(b.m.Models, m), append(b.m.Artifacts, a)
	line = fmt.Sprintf("%s %s roothash=%s tally.verity=%s tally.partitions=%s\n", m.Name, m.Mount, m.Verity.RootHash, m.Verity.word(), v.partitions())
	return line, errors.Join(f.Chmod(0o644), f.Close())
}

// writeVerity writes a file system and, in the same pass, its hash tree.
func writeVerity(ctx context.Context, f *os.File, image *erofs.Image, data, hash disk.Area, p verity.Params) (verity.RootHash, error) {
	w, err := verity.NewWriter(io.NewOffsetWriter(f, hash.Offset), p)
	if err != nil {
		return verity.RootHash{}, err
	}
	_, err = image.WriteTo(ctx, fanout.Writer{io.NewOffsetWriter(f, data.Offset), w})
	root, cerr := w.Close()
	if err != nil {
		return verity.RootHash{}, err
	}
	return root, cerr
}

func describe(p verity.Params, root verity.RootHash, hashSize int64) VerityParams {
	return VerityParams{Algorithm: "sha256", RootHash: Digest(root.Bytes()), Salt: hex.EncodeToString(p.Salt), UUID: verity.FormatUUID(p.UUID),
		DataBlockSize: verity.BlockSize, HashBlockSize: verity.BlockSize, DataBlocks: p.DataBlocks, HashStart: 1, HashSize: hashSize}
}

// word is the value of tally.verity on a command line.
func (v VerityParams) word() string {
	return fmt.Sprintf("1,%s,%d,%d,%d,%d,%s", v.Algorithm, v.DataBlockSize, v.HashBlockSize, v.DataBlocks, v.HashStart, v.Salt)
}
