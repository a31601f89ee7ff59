package pe

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

const (
	headSize  = 64 << 10 // bytes read to find the headers in
	chunkSize = 64 << 10 // of the rest, at a time: it is hashed while a core's cache holds it
)

// A File is an image that is read as it is hashed.
type File struct {
	r    io.ReaderAt
	size int64
	head []byte // the first bytes, with all headers
}

// OpenFile reads the first bytes of an image of size bytes.
func OpenFile(r io.ReaderAt, size int64) (*File, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("PE image: %d bytes, want at most %d", size, MaxSize)
	}
	f := &File{r: r, size: size}
	err := f.load(min(size, headSize))
	if err == nil {
		if _, perr := parse(f.head, size); errors.As(perr, new(shortError)) {
			err = f.load(size)
		}
	}
	return f, err
}

func (f *File) load(n int64) error {
	f.head = make([]byte, n)
	return f.read(f.head, 0)
}

func (f *File) read(b []byte, off int64) error {
	if n, err := f.r.ReadAt(b, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("PE image: byte %d of %d: %w", off+int64(n), f.size, err)
	}
	return nil
}

// Head returns a copy of the first bytes: of an image of 64 KiB or more, at least so many.
func (f *File) Head() []byte { return slices.Clone(f.head) }

// ForX64 is [Image.ForX64].
func (f *File) ForX64() error {
	im, err := parse(f.head, f.size)
	if err != nil {
		return err
	}
	return im.ForX64()
}

// Authenticode feeds each of hs with the digest of the image whose first bytes are the head of the same number,
// and says whether any of them is signed. Heads that agree in what the digest covers share one pass over the file.
func (f *File) Authenticode(heads [][]byte, hs []hash.Hash) (signed bool, err error) {
	if len(heads) != len(hs) || len(hs) == 0 {
		return false, errors.New("PE image: as many hashes as heads")
	}
	images := make([]*Image, len(heads))
	for i, h := range heads {
		if len(h) != len(f.head) {
			return false, fmt.Errorf("PE image: head of %d bytes, want %d", len(h), len(f.head))
		}
		if images[i], err = parse(h, f.size); err != nil {
			return false, err
		}
		signed = signed || images[i].Signed()
	}
	spans := images[0].spans()
	for _, im := range images[1:] {
		if !slices.Equal(spans, im.spans()) {
			return signed, f.apart(images, hs)
		}
	}
	return signed, f.feed(spans, images, hs)
}

// apart is a pass for each image.
func (f *File) apart(images []*Image, hs []hash.Hash) error {
	for i, im := range images {
		if err := f.feed(im.spans(), images[i:i+1], hs[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// feed is one pass over the spans, which all images share.
func (f *File) feed(spans []span, images []*Image, hs []hash.Hash) error {
	buf := make([]byte, chunkSize)
	for _, s := range spans {
		if inHead := min(s.n, int64(len(f.head))-s.off); inHead > 0 {
			for i, im := range images {
				hs[i].Write(im.b[s.off:][:inHead])
			}
			s.off, s.n = s.off+inHead, s.n-inHead
		}
		for s.n > 0 {
			part := buf[:min(s.n, chunkSize)]
			if err := f.read(part, s.off); err != nil {
				return err
			}
			for _, h := range hs {
				h.Write(part)
			}
			s.off, s.n = s.off+int64(len(part)), s.n-int64(len(part))
		}
	}
	return nil
}
