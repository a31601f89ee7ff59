package oci

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A Layout is a directory in the OCI image layout (image-layout.md). Its index.json is not read: images are
// named by digest.
type Layout string

// The files of a layout that are read besides blobs.
const LayoutFile = "oci-layout"

// BlobPath is the path of a blob below the layout, slash-separated.
func BlobPath(d Digest) string { return "blobs/sha256/" + hex.EncodeToString(d[:]) }

// Path is where a blob lies.
func (l Layout) Path(d Digest) string {
	return filepath.Join(string(l), filepath.FromSlash(BlobPath(d)))
}

// Check wants a layout of version 1.
func (l Layout) Check() error {
	data, err := readAtMost(filepath.Join(string(l), LayoutFile), 4096)
	if err != nil {
		return err
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%s: %w", LayoutFile, err)
	}
	if v.Version != "1.0.0" {
		return fmt.Errorf("%s: imageLayoutVersion %.40q: want 1.0.0", LayoutFile, v.Version)
	}
	return nil
}

// Get is a Getter.
func (l Layout) Get(ctx context.Context, b Blob) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := readAtMost(l.Path(b.Digest), MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is not in the layout: %w", b.Digest, err)
	}
	return data, err
}

// Open returns the bytes of a blob, unchecked.
func (l Layout) Open(b Blob) (io.ReadCloser, error) { return os.Open(l.Path(b.Digest)) }

// readAtMost reads a regular file of at most limit bytes.
func readAtMost(name string, limit int64) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return data, err
}
