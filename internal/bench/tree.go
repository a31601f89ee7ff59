package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tally/mkimage/erofs"
	"tally/mkimage/tree"
	"tally/verity"
)

// A treeFile is one file of the synthetic tree, as a build knows it after unpacking: with its digest.
type treeFile struct {
	Path   string
	Size   int64
	Digest [sha256.Size]byte
}

// The synthetic tree has as many files and bytes as a Debian system of 103 packages.
const (
	treeFiles = 6769
	treeBytes = 217_600_000
)

// treeSizes spreads the bytes over the files as such systems do: most files are small, a few hold most.
func treeSizes(r *rand.Rand) []int64 {
	sizes := make([]int64, treeFiles)
	weights, sum := make([]float64, treeFiles), 0.0
	for i := range weights {
		u := r.Float64()
		weights[i] = 1 / (0.002 + u*u)
		sum += weights[i]
	}
	left := int64(treeBytes)
	for i := range sizes {
		sizes[i] = min(left, int64(weights[i]/sum*treeBytes))
		left -= sizes[i]
	}
	sizes[0] += left
	return sizes
}

// fillTree writes the tree below dir and its list to the file list.
func fillTree(dir, list string) error {
	r := rand.New(rand.NewPCG(1, 2))
	bytes := rand.NewChaCha8([32]byte{2})
	var files []treeFile
	for i, size := range treeSizes(r) {
		f := treeFile{Path: fmt.Sprintf("d%03d/f%04d", i%500, i), Size: size}
		p := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		out, err := os.Create(p)
		if err != nil {
			return err
		}
		h := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(out, h), bytes, size); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
		h.Sum(f.Digest[:0])
		files = append(files, f)
	}
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return os.WriteFile(list, data, 0o600)
}

// onDisk is a file of the tree.
type onDisk string

func (o onDisk) Open() (io.ReadCloser, error) { return os.Open(string(o)) }

// writeTree is what the row times, in a process of its own: the list is read, and the file system and its
// hash tree are written in one pass, as tally build does.
func writeTree(ctx context.Context, dir, list, image, hashes string) (string, error) {
	data, err := os.ReadFile(list)
	if err != nil {
		return "", err
	}
	var files []treeFile
	if err := json.Unmarshal(data, &files); err != nil {
		return "", err
	}
	t := tree.New()
	for _, f := range files {
		if err := t.Add(tree.Entry{Path: f.Path, Kind: tree.File, Mode: 0o644, Size: f.Size, Digest: f.Digest, Data: onDisk(filepath.Join(dir, f.Path)), Source: "bench"}); err != nil {
			return "", err
		}
	}
	m, err := erofs.Plan(t, erofs.Options{})
	if err != nil {
		return "", err
	}
	out, err := os.Create(image)
	if err != nil {
		return "", err
	}
	defer out.Close()
	hash, err := os.Create(hashes)
	if err != nil {
		return "", err
	}
	defer hash.Close()
	w, err := verity.NewWriter(hash, verity.Params{DataBlocks: uint64(m.Size() / verity.BlockSize), Salt: make([]byte, 32)})
	if err != nil {
		return "", err
	}
	if _, err := m.WriteTo(ctx, io.MultiWriter(out, w)); err != nil {
		return "", err
	}
	root, err := w.Close()
	if err != nil {
		return "", err
	}
	return root.String(), errors.Join(out.Close(), hash.Close())
}

// erofs writes the file system of a 218 MB tree and its hash tree, beside mkfs.erofs and veritysetup on the
// same tree.
func (b *bench) erofs() error {
	for _, peer := range []string{"mkfs.erofs", "veritysetup"} {
		if _, err := exec.LookPath(peer); err != nil {
			return err
		}
	}
	dir, list := b.path("tree"), b.path("tree.json")
	defer os.RemoveAll(dir)
	if err := fillTree(dir, list); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	peers := "mkfs.erofs --quiet -T0 --all-root theirs.erofs tree && veritysetup format theirs.erofs theirs.hash"
	remove := func() error {
		for _, name := range []string{"ours.erofs", "ours.hash", "theirs.erofs", "theirs.hash"} {
			if err := os.RemoveAll(b.path(name)); err != nil {
				return err
			}
		}
		return nil
	}
	defer remove()
	ms, err := b.race(b.runs, command{[]string{self, "-write-tree", dir}, remove}, command{[]string{"sh", "-c", peers}, nil})
	if err != nil {
		return err
	}
	b.beside(fmt.Sprintf("EROFS + verity, %d files, %d MB", treeFiles, (treeBytes+500_000)/1_000_000), ms[0], ms[1], "mkfs.erofs + veritysetup", target{wall: 700 * time.Millisecond, rss: 40 << 10})
	return nil
}
