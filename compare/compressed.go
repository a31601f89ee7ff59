package compare

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"tally/internal/xz"
)

// Limits on what is decompressed, in bytes and in layers of compression, and on containers within each other: a disk
// in an archive holds a UKI, which holds an initrd, and so on.
const (
	maxUnpacked = 256 << 20
	maxLayers   = 3
	maxNested   = 10
)

// compression names how something is compressed, by its magic number; "" for anything else.
func compression(s source) string {
	b := make([]byte, 6)
	n, _ := s.ReadAt(b, 0)
	switch b = b[:n]; {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b, 8}):
		return "gzip"
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case bytes.HasPrefix(b, []byte("\xfd7zXZ\x00")):
		return "xz"
	}
	return ""
}

// unpack decompresses s into memory.
func unpack(s source, how string) (source, error) {
	var r io.Reader
	var err error
	in := io.NewSectionReader(s, 0, s.Size())
	switch how {
	case "gzip":
		r, err = gzip.NewReader(in)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked)); err == nil {
			defer d.Close()
			r = d
		}
	case "xz":
		r, err = xz.NewReader(in, xz.MaxDict)
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err == nil && len(b) > maxUnpacked {
		err = fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	return newSource(b), err
}

// unpackBoth decompresses two things that are compressed alike. ok is false when they are not, or cannot be read:
// then their bytes must do.
func (c *comparer) unpackBoth(a, b source) (x, y source, ok bool) {
	how := compression(a)
	if how == "" || how != compression(b) || c.layer >= maxLayers {
		return nil, nil, false
	}
	x, err := unpack(a, how)
	if err != nil {
		return nil, nil, false
	}
	y, err = unpack(b, how)
	return x, y, err == nil
}

// compressed explains two compressed things by what is in them; done is false when their bytes must do.
func (c *comparer) compressed(d Difference, a, b source, inner func(x, y source) error) (done bool, err error) {
	x, y, ok := c.unpackBoth(a, b)
	if !ok {
		return false, nil
	}
	same, err := equal(c.ctx, x, y)
	if err != nil {
		return false, err
	}
	if same {
		cause, where, err := c.byteCause(a, b)
		if cause == "" {
			cause = "equal contents, compressed in another way (program, level, threads)"
		}
		c.add(d, "compression", c.digestText(a), c.digestText(b)+where, cause)
		return true, err
	}
	c.layer++
	defer func() { c.layer-- }()
	return true, inner(x, y)
}
