package erofs

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"tally/mkimage/tree"
)

// A sink is where the image goes: buffered, and it knows its offset.
type sink struct {
	ctx context.Context
	w   *bufio.Writer
	off int64
	buf []byte // for copying contents
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.off += int64(n)
	return n, err
}

var zeros [BlockSize]byte

// padTo writes zeros up to the offset. Slots and blocks are never more than a block apart.
func (s *sink) padTo(off int64) error {
	if off < s.off || off-s.off >= BlockSize {
		return fmt.Errorf("erofs: layout: at offset %d, want less than a block before %d", s.off, off)
	}
	_, err := s.Write(zeros[:off-s.off])
	return err
}

// WriteTo streams the image to w, reading each file once and in image order, and returns the bytes
// written. Contents that have not the declared size (tree.ErrSize) or SHA-256 (tree.ErrDigest) are an
// error; what w has taken by then is no image.
func (m *Image) WriteTo(ctx context.Context, w io.Writer) (int64, error) {
	// What is longer than the first buffer is not copied into it: large files go straight from the second.
	s := &sink{ctx: ctx, w: bufio.NewWriterSize(w, 128<<10), buf: make([]byte, 512<<10)}
	for _, step := range []func(*sink) error{m.writeMeta, m.writeDirs, m.writeFiles} {
		if err := step(s); err != nil {
			return s.off, err
		}
	}
	if err := s.w.Flush(); err != nil {
		return s.off, err
	}
	if s.off != m.Size() {
		return s.off, fmt.Errorf("erofs: wrote %d bytes, planned %d", s.off, m.Size())
	}
	return s.off, nil
}

func (m *Image) writeMeta(s *sink) error {
	if _, err := s.Write(m.superblock()); err != nil {
		return err
	}
	for _, n := range m.nodes {
		if err := s.padTo(n.off); err != nil {
			return err
		}
		s.Write(n.inode(m.opts.Epoch)) // a bufio.Writer keeps its error: Flush reports it
		if _, err := s.Write(n.xattrs); err != nil {
			return err
		}
		if n.inline == 0 {
			continue
		}
		if err := n.writeContent(s, true); err != nil {
			return err
		}
	}
	if err := s.padTo(m.meta); err != nil {
		return err
	}
	return s.padTo(roundUp(m.meta, BlockSize))
}

func (m *Image) writeDirs(s *sink) error {
	for _, n := range m.nodes {
		if n.e.Kind != tree.Dir || n.blocks == 0 {
			continue
		}
		if err := n.writeContent(s, false); err != nil {
			return err
		}
	}
	return nil
}

func (m *Image) writeFiles(s *sink) error {
	for _, n := range m.nodes {
		switch {
		case n.e.Kind == tree.File && n.size == 0:
			// Nothing to write, but a file that claims to be empty is still read and checked.
			if err := n.e.CopyTo(s.ctx, io.Discard, s.buf); err != nil {
				return fmt.Errorf("erofs: %w", err)
			}
			continue
		case n.e.Kind == tree.Dir || n.blocks == 0:
			continue
		}
		if err := n.writeContent(s, false); err != nil {
			return err
		}
		if err := s.padTo(roundUp(s.off, BlockSize)); err != nil {
			return err
		}
	}
	return nil
}

// writeContent writes the inline tail or the whole blocks of n; files and symlinks have one or the other.
func (n *node) writeContent(s *sink, tail bool) error {
	switch n.e.Kind {
	case tree.Dir:
		return n.dirBytes(tail, func(b []byte) error { _, err := s.Write(b); return err })
	case tree.Symlink:
		_, err := s.Write([]byte(n.e.Link))
		return err
	}
	if err := n.e.CopyTo(s.ctx, s, s.buf); err != nil {
		return fmt.Errorf("erofs: %w", err)
	}
	return nil
}
