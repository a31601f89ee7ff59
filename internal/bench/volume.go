package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"

	"tally/mkimage"
	"tally/mkimage/tree"
)

// volumeLimit is for three SHA-256 of every byte (source, hash tree, volume) on two cores beside one of them
// on one: 1.5 is what hashing alone would cost; the rest is for reading and writing 4 GiB each.
var volumeLimit = target{ratio: 2.5, rss: 40 << 10}

// volume writes a model volume of one file of 4 GiB, beside the floor: the one SHA-256 over all of the volume
// that its artefact needs cannot be divided, and what it covers has to be read.
func (b *bench) volume() error {
	const name, size = "weights", 4 << 30
	if err := b.fill(name, size/4); err != nil {
		return err
	}
	defer os.Remove(b.path(name))
	// The rest is a hole, so that the memory of a small machine does.
	if err := os.Truncate(b.path(name), size); err != nil {
		return err
	}
	h := sha256.New()
	if n, err := hashStream(b.path(name), h); err != nil || n != size {
		return errors.Join(err, errors.New("cannot read it back"))
	}
	data, err := json.Marshal(treeFile{Path: b.path(name), Size: size, Digest: [32]byte(h.Sum(nil))})
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path("weights.json"), data, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	remove := func() error { return os.RemoveAll(b.path("volume.raw")) }
	defer remove()
	ms, err := b.race(min(3, b.runs), command{[]string{self, "-write-volume", "weights.json"}, remove}, cmd(self, "-floor-stream", name))
	if err != nil {
		return err
	}
	b.beside("model volume 4 GiB (3 of them a hole), one pass", ms[0], ms[1], "SHA-256 alone, one core", volumeLimit)
	return nil
}

// writeVolume is what the row times, in a process of its own: it writes the file that list describes as tally
// build does.
func writeVolume(ctx context.Context, list, out string) (err error) {
	data, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var file treeFile
	if err := json.Unmarshal(data, &file); err != nil {
		return err
	}
	in := mkimage.ModelInput{Name: "bench", Mount: "bench", Tree: tree.New()}
	e := tree.Entry{Path: "weights", Kind: tree.File, Mode: 0o644, Size: file.Size, Digest: file.Digest, Data: onDisk(file.Path), Source: "bench"}
	if err := in.Tree.Add(e); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, _, err = mkimage.WriteVolume(ctx, f, in, 1767225600)
	return err
}

// hashStream is the floor of an artefact's digest: one goroutine reads a file and writes it to h. It returns
// the number of bytes.
func hashStream(name string, h io.Writer) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// Not io.Copy, which would find shorter ways: this one reads and hashes.
	var total int64
	for buf := make([]byte, 512<<10); ; {
		n, err := f.Read(buf)
		total += int64(n)
		if _, werr := h.Write(buf[:n]); werr != nil {
			return total, werr
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}
