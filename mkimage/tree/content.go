package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"tally/mkimage/internal/fanout"
)

// Bytes is a Content held in memory.
type Bytes []byte

// Open returns a reader over the bytes.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// NewFile returns a File entry with contents in memory, owner 0:0, time 0.
func NewFile(path string, mode uint32, data []byte, source string) Entry {
	return Entry{Path: path, Kind: File, Mode: mode, Size: int64(len(data)), Digest: sha256.Sum256(data), Data: Bytes(data), Source: source}
}

// AllowedXattr says whether sources take an extended attribute: file capabilities and what belongs to the
// user. Others are labels and lists that a kernel acts on by rules this project does not know.
func AllowedXattr(name string) bool {
	rest, user := strings.CutPrefix(name, "user.")
	return name == "security.capability" || user && rest != "" && utf8.ValidString(rest) && !strings.ContainsRune(rest, 0)
}

// A Located is a Content that lies in a file. What is wrong with the bytes is wrong with that file, so
// errors name it.
type Located interface {
	Location() string // e.g. a path in a cache, with what to do about it
}

// location is what an error says about where the contents of e lie.
func (e *Entry) location() string {
	if l, ok := e.Data.(Located); ok {
		return " (" + l.Location() + ")"
	}
	return ""
}

// What writers return, wrapped, when a Content is not what its entry says.
var (
	ErrSize   = errors.New("contents have not the declared size")
	ErrDigest = errors.New("contents have not the declared SHA-256")
)

// CopyTo writes the contents of the File e to w through buf and returns ErrSize or ErrDigest, wrapped,
// when they are not the declared ones. By then w has taken bytes that must not be used. They are read once;
// pieces of at least 64 KiB, when buf is that long, are hashed while w takes them.
func (e *Entry) CopyTo(ctx context.Context, w io.Writer, buf []byte) error {
	h := sha256.New()
	n := int64(0)
	if e.Data != nil {
		r, err := e.Data.Open()
		if err != nil {
			return fmt.Errorf("path %q from %s: %w", e.Path, e.Source, err)
		}
		defer r.Close()
		if n, err = copyExactly(ctx, fanout.Writer{w, h}, r, e.Size, buf); err != nil {
			return fmt.Errorf("path %q from %s: %w", e.Path, e.Source, err)
		}
	}
	if n != e.Size {
		return fmt.Errorf("path %q from %s: %w: %d bytes, want %d%s", e.Path, e.Source, ErrSize, n, e.Size, e.location())
	}
	if got := h.Sum(nil); !bytes.Equal(got, e.Digest[:]) {
		return fmt.Errorf("path %q from %s: %w: %x, want %x%s", e.Path, e.Source, ErrDigest, got, e.Digest, e.location())
	}
	return nil
}

// copyExactly copies at most size bytes and returns how many there were; one byte more than size is
// counted and not written.
func copyExactly(ctx context.Context, w io.Writer, r io.Reader, size int64, buf []byte) (int64, error) {
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if n+int64(k) > size {
			return size + 1, nil
		}
		n += int64(k)
		if _, err := w.Write(buf[:k]); err != nil {
			return n, err
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
