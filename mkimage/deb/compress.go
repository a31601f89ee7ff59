package deb

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"tally/internal/xz"
)

// maxWindow bounds what a decompressor may allocate, in bytes.
const maxWindow = 128 << 20

// decompress returns a reader for a member by the ending of its name: .tar, .tar.gz, .tar.xz, .tar.zst.
func decompress(name, base string, r io.Reader) (io.ReadCloser, error) {
	switch name {
	case base:
		return io.NopCloser(r), nil
	case base + ".gz":
		return gzip.NewReader(r)
	case base + ".xz":
		x, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case base + ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("member %.40q: unknown compression, want %s with nothing, .gz, .xz or .zst behind it", name, base)
}
