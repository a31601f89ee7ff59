package oci

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what a zstd frame may make its reader keep, in bytes; `zstd --long` uses as much.
const maxWindow = 128 << 20

// unpack writes the uncompressed archive of l, whose blob is r, to w: at most limit bytes. Blob and archive
// are checked: on error w has taken bytes that must not be used.
func (l Layer) unpack(ctx context.Context, w io.Writer, r io.Reader, limit int64) error {
	in := &counted{ctx: ctx, r: r, h: sha256.New(), limit: l.Size}
	z, err := l.decompress(in)
	if err != nil {
		return err
	}
	defer z.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(z, limit+1))
	if err == nil && n > limit {
		return fmt.Errorf("unpacks to more than %d bytes", limit)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in) // what the decompressor left unread belongs to the digest
	}
	if err != nil {
		return err
	}
	if got := Digest(in.h.Sum(nil)); in.n != l.Size || got != l.Digest {
		return fmt.Errorf("%d bytes with %s, want %d with %s", in.n, got, l.Size, l.Digest)
	}
	if got := Digest(sum.Sum(nil)); got != l.DiffID {
		return fmt.Errorf("unpacks to %s, want the diff ID %s", got, l.DiffID)
	}
	return nil
}

func (l Layer) decompress(r io.Reader) (io.ReadCloser, error) {
	how, ok := compressions[l.MediaType]
	switch {
	case !ok:
		return nil, fmt.Errorf("media type %.100q is not known", l.MediaType)
	case how == "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(r, 64<<10))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.MediaType, err)
		}
		return z, nil
	case how == "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.MediaType, err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// counted hashes and counts what is read and stops with ctx and behind limit bytes.
type counted struct {
	ctx   context.Context
	r     io.Reader
	h     hash.Hash
	n     int64
	limit int64
}

func (c *counted) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.h.Write(b[:n])
	if c.n += int64(n); c.n > c.limit {
		return 0, fmt.Errorf("more than %d bytes", c.limit)
	}
	return n, err
}

// unpackTo unpacks l into the file name and returns it open, at its start.
func (l Layer) unpackTo(ctx context.Context, name string, r io.Reader, limit int64) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = l.unpack(ctx, w, r, limit)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
