// Package cpio writes a tree as a newc cpio archive, the form the Linux kernel unpacks as initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
//
// Layout v1: every entry but the root in bytewise order of the paths, upper-case hexadecimal, inode
// numbers from 1 in order of first appearance, times clamped to 0..epoch, device numbers of the file
// system zero, no checksum. Names of one file (hard links) share the inode number and nlink; the first
// in order carries the contents, the others are empty: the kernel links them to the first. The archive
// ends in TRAILER!!! with link count 1 and zeros up to a multiple of 512 bytes. No compression.
package cpio

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"

	"tally/mkimage/tree"
)

const (
	blockSize = 512
	trailer   = "TRAILER!!!"
)

// A writer counts what it has written, for padding.
type writer struct {
	w *bufio.Writer
	n int64
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}

// pad writes zeros up to a multiple of unit. A bufio.Writer keeps its error, so Flush reports it.
func (w *writer) pad(unit int64) {
	var zeros [blockSize]byte
	w.Write(zeros[:(unit-w.n%unit)%unit])
}

// A header is what varies in a newc header.
type header struct {
	name                       string
	ino, mode, uid, gid, nlink uint32
	mtime, size                int64
	major, minor               uint32
}

// write writes the header and the name. The kernel reads fields of eight hexadecimal digits.
func (h header) write(w *writer) {
	fmt.Fprintf(w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		h.ino, h.mode, h.uid, h.gid, h.nlink, h.mtime, h.size, 0, 0, h.major, h.minor, len(h.name)+1, 0, h.name)
	w.pad(4)
}

// Write streams t to w as one uncompressed newc archive and returns its size in bytes, a multiple of 512.
// It calls t.Complete. Contents that have not the declared size (tree.ErrSize) or SHA-256
// (tree.ErrDigest) are an error; extended attributes are one too, because newc has none.
func Write(ctx context.Context, w io.Writer, t *tree.Tree, epoch int64) (int64, error) {
	if epoch < 0 || epoch > math.MaxUint32 {
		return 0, fmt.Errorf("cpio: epoch %d: want 0 to %d", epoch, uint32(math.MaxUint32))
	}
	if err := t.Complete(); err != nil {
		return 0, fmt.Errorf("cpio: %w", err)
	}
	out := &writer{w: bufio.NewWriterSize(w, 256<<10)}
	a := &archive{ctx: ctx, t: t, w: out, epoch: epoch, inos: map[string]uint32{}, links: links(t), buf: make([]byte, 64<<10)}
	for _, e := range t.Entries() {
		if e.Path == "" {
			continue
		}
		if err := a.add(e); err != nil {
			return out.n, fmt.Errorf("cpio: %w", err)
		}
	}
	header{name: trailer, nlink: 1}.write(out)
	out.pad(blockSize)
	return out.n, out.w.Flush()
}

type archive struct {
	ctx   context.Context
	t     *tree.Tree
	w     *writer
	epoch int64
	inos  map[string]uint32 // of files, by path of the File
	links map[string]uint32 // link counts of directories and files, by path
	next  uint32
	buf   []byte
}

// links counts the names of every file, and for every directory itself, its name and its subdirectories.
func links(t *tree.Tree) map[string]uint32 {
	n := map[string]uint32{}
	for _, e := range t.Entries() {
		switch e.Kind {
		case tree.HardLink:
			n[e.Link]++
		case tree.Dir:
			n[e.Path] += 2
			n[tree.Parent(e.Path)]++
		default:
			n[e.Path]++
		}
	}
	return n
}

func (a *archive) add(e *tree.Entry) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	file := e
	if e.Kind == tree.HardLink {
		file = a.t.Get(e.Link)
	}
	if err := check(e, file); err != nil {
		return err
	}
	ino, seen := a.inos[file.Path]
	if !seen {
		a.next++
		ino = a.next
		a.inos[file.Path] = ino
	}
	h := header{name: e.Path, ino: ino, mode: modeType(file.Kind) | file.Mode, uid: file.UID, gid: file.GID,
		nlink: a.links[file.Path], mtime: file.Time(a.epoch)}
	if file.Kind == tree.CharDev || file.Kind == tree.BlockDev {
		h.major, h.minor = file.Major, file.Minor
	}
	switch {
	case file.Kind == tree.Symlink:
		h.size = int64(len(file.Link))
		h.write(a.w)
		io.WriteString(a.w, file.Link)
	case file.Kind == tree.File && !seen:
		h.size = file.Size
		h.write(a.w)
		if err := file.CopyTo(a.ctx, a.w, a.buf); err != nil {
			return err
		}
	default:
		h.write(a.w)
	}
	a.w.pad(4)
	return nil
}

// check says what of an entry, or of the file that it is a name of, the format cannot hold.
func check(e, file *tree.Entry) error {
	switch {
	case len(file.Xattrs) > 0:
		return fmt.Errorf("path %q from %s: extended attributes, which this format cannot hold", file.Path, file.Source)
	case e.Path == trailer:
		return fmt.Errorf("path %q from %s: the name that ends an archive", e.Path, e.Source)
	case file.Kind == tree.File && file.Size > math.MaxUint32:
		return fmt.Errorf("path %q from %s: %d bytes, want less than 4 GiB", file.Path, file.Source, file.Size)
	}
	return nil
}

// modeType is the S_IFMT part of a mode.
func modeType(k tree.Kind) uint32 {
	return map[tree.Kind]uint32{
		tree.FIFO: 0o010000, tree.CharDev: 0o020000, tree.Dir: 0o040000,
		tree.BlockDev: 0o060000, tree.File: 0o100000, tree.Symlink: 0o120000,
	}[k]
}
