// Package erofs writes a tree as an EROFS image: layout v1, uncompressed, 4096-byte blocks.
package erofs

import (
	"context"
	"errors"
	"io"

	"tally/mkimage/tree"
)

// BlockSize is the block size of layout v1 in bytes; every image is a multiple of it.
const BlockSize = 4096

// Options are the inputs of an image besides its tree.
type Options struct {
	Epoch int64  // seconds since 1970: build time, and the latest modification time an inode may have
	Label string // volume name, at most 16 bytes, no NUL; may be empty
}

// An Image is a layout that has been decided and not yet written. It holds memory in proportion to the
// number of entries, never to their contents.
type Image struct{ size int64 }

// Plan decides the place of every byte of t. It calls t.Complete and reads no file contents.
func Plan(t *tree.Tree, o Options) (*Image, error) { return nil, errors.New("erofs: not written yet") }

// Size is the size of the image in bytes, a multiple of BlockSize.
func (m *Image) Size() int64 { return m.size }

// WriteTo streams the image to w, reading each file once and in image order. Contents that have not the
// declared size (tree.ErrSize) or SHA-256 (tree.ErrDigest) are an error.
func (m *Image) WriteTo(ctx context.Context, w io.Writer) (int64, error) {
	return 0, errors.New("erofs: not written yet")
}
