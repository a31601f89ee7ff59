package steps

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tally/mkimage/tree"
)

// A Result is what a step made.
type Result struct {
	Key    Key
	Cached bool       // it comes from an earlier run
	Tree   *tree.Tree // by targets; contents lie in a file of the caller's directory or of the cache
}

// Digest names the outputs of r: mkimage/tree's digest of them.
func (r *Result) Digest(epoch int64) [sha256.Size]byte { return r.Tree.Digest(epoch) }

// readOutputs reads the tar file that the inside of a step wrote: a file, a directory or a symbolic link
// an entry, named by the index of its output and the path below that. What s does not declare is an
// error, and modes, owners and times are those of the declaration.
func readOutputs(ctx context.Context, s *Step, file string) (*tree.Tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := tree.New()
	seen := map[int]bool{}
	for tr := tar.NewReader(f); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("outputs: %w", err)
		}
		if t.Len() > maxFiles {
			return nil, fmt.Errorf("outputs: more than %d files", maxFiles)
		}
		e, index, err := s.outputEntry(h)
		if err != nil {
			return nil, err
		}
		seen[index] = true
		if e.Kind == tree.File {
			if err := e.Locate(ctxReader{ctx, tr}, f, file); err != nil {
				return nil, fmt.Errorf("output %q: %w", h.Name, err)
			}
		}
		if t.Get(e.Path) != nil {
			return nil, fmt.Errorf("output %q: twice", h.Name)
		}
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
	return t, s.complete(seen)
}

// complete wants every declared output, by index.
func (s *Step) complete(seen map[int]bool) error {
	for i, o := range s.Outputs {
		if !seen[i] {
			return fmt.Errorf("output %q: missing", o.Path)
		}
	}
	return nil
}

// outputEntry turns a header into the entry of the image and says which output it belongs to.
func (s *Step) outputEntry(h *tar.Header) (tree.Entry, int, error) {
	number, rest, below := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
	index := -1
	for i := range s.Outputs {
		if fmt.Sprint(i) == number {
			index = i
		}
	}
	if index < 0 || below && tree.CheckPath(rest) != nil {
		return tree.Entry{}, 0, fmt.Errorf("output %.200q: not one of the step's", h.Name)
	}
	o := s.Outputs[index]
	e := tree.Entry{Path: o.Target, UID: o.UID, GID: o.GID, MTime: s.Epoch, Source: "step " + s.Name}
	if below {
		e.Path += "/" + rest
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size, e.Mode = tree.File, h.Size, 0o644
		if h.Mode&0o100 != 0 {
			e.Mode = 0o755
		}
		if o.Mode != 0 && !below {
			e.Mode = o.Mode
		}
	case tar.TypeDir:
		e.Kind, e.Mode = tree.Dir, 0o755
	case tar.TypeSymlink:
		e.Kind, e.Mode, e.Link = tree.Symlink, 0o777, h.Linkname
	default:
		return e, index, fmt.Errorf("output %.200q: entry type %q, want files, directories and symbolic links", h.Name, h.Typeflag)
	}
	if o.Mode != 0 && !below && e.Kind != tree.File {
		return e, index, fmt.Errorf("output %q: is a %s: only a file can be given a mode", o.Path, e.Kind)
	}
	return e, index, nil
}

// A ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
