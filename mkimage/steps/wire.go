package steps

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"tally/mkimage/tree"
)

// The two sides of a step, tally and the init of its namespaces, are one program and speak over two pipes.
// The request, on the init's descriptor 3, is a message and then the build root as a tar stream; the pipe
// stays open after it, and its end is the end of the step, however tally died. The report, on descriptor
// 4, is a message and, when the command succeeded, the outputs as a tar stream. A message is its length
// (4 bytes, little-endian) and JSON.

const (
	requestFD   = 3
	reportFD    = 4
	maxMessage  = 8 << 20
	childName   = "tally-step" // argv[0] of the init
	tarOverhead = 64 << 20     // of headers and padding in the outputs
)

// A request says what to do.
type request struct {
	Step  Step   `json:"step"`
	Mount string `json:"mount"` // an empty directory of the host, to mount on
	Vary  bool   `json:"vary"`  // see Options.Vary
	Probe bool   `json:"probe"` // build the root and stop
}

// A report says how it went.
type report struct {
	Failure string `json:"failure,omitempty"` // what kept the step from running or its outputs from being taken
	Status  int    `json:"status"`            // exit status of the command
	Signal  string `json:"signal,omitempty"`  // that killed it
}

func writeMessage(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

func readMessage(r io.Reader, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n > maxMessage {
		return fmt.Errorf("message of %d bytes, want at most %d", n, maxMessage)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// writeRoot writes a completed tree as the tar stream of a request. Owners and extended attributes stay
// behind: in the step's namespace there is one user, and it owns all. Device nodes stay behind too. With
// reverse, the entries of each directory come in reverse order.
func writeRoot(ctx context.Context, w io.Writer, t *tree.Tree, epoch int64, reverse bool) error {
	entries := t.Entries()
	if reverse {
		slices.Reverse(entries)
		// Parents still come first, and a file before the hard links to it.
		slices.SortStableFunc(entries, func(a, b *tree.Entry) int { return rank(a) - rank(b) })
	}
	tw := tar.NewWriter(w)
	buf := make([]byte, 256<<10)
	for _, late := range []bool{false, true} {
		for _, e := range entries {
			if e.Path == "" || reserved(e.Path) || (e.Kind == tree.HardLink) != late || e.Kind >= tree.CharDev {
				continue
			}
			if err := writeEntry(ctx, tw, e, epoch, buf); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// rank is the depth of a directory, and more than that of any for what is none.
func rank(e *tree.Entry) int {
	if e.Kind != tree.Dir {
		return tree.MaxPath
	}
	n := 0
	for _, c := range e.Path {
		if c == '/' {
			n++
		}
	}
	return n
}

func writeEntry(ctx context.Context, tw *tar.Writer, e *tree.Entry, epoch int64, buf []byte) error {
	h := &tar.Header{Name: e.Path, Mode: int64(e.Mode), Size: e.Size, ModTime: time.Unix(e.Time(epoch), 0), Linkname: e.Link}
	switch e.Kind {
	case tree.Dir:
		h.Typeflag = tar.TypeDir
	case tree.Symlink:
		h.Typeflag = tar.TypeSymlink
	case tree.HardLink:
		h.Typeflag = tar.TypeLink
	default:
		h.Typeflag = tar.TypeReg
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("path %q from %s: %w", e.Path, e.Source, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	return e.CopyTo(ctx, tw, buf)
}
