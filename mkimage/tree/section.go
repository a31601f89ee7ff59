package tree

import (
	"crypto/sha256"
	"io"
	"os"
)

// A Section is a Content: Size bytes from byte Offset on of the file at Path.
type Section struct {
	Path         string
	Offset, Size int64
}

// Open returns a reader over the bytes. What the file has not is missing at the end.
func (s Section) Open() (io.ReadCloser, error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, s.Offset, s.Size), f}, nil
}

// Location names the file for messages.
func (s Section) Location() string { return "in " + s.Path }

// Locate hashes the contents of the File e, which lie in the file at path where f, which is that file, now
// is, and which r reads to their end: as a tar.Reader over f does. They become a Section.
func (e *Entry) Locate(r io.Reader, f io.Seeker, path string) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	h.Sum(e.Digest[:0])
	e.Data = Section{path, at, e.Size}
	return nil
}
