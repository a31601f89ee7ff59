package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage/oci"
	. "tally/mkimage/oci/ocitest"
	"tally/mkimage/tree"
)

// FuzzFlatten: two layers of any bytes give a tree that writers take, or one line.
func FuzzFlatten(f *testing.F) {
	f.Add(Tar(File("a", "1"), Link(tar.TypeLink, "b", "a"), Dir("d"), Link(tar.TypeSymlink, "d/l", "..")), Tar(File(".wh.a", ""), File("d/.wh..wh..opq", ""), File("d/x", "")))
	f.Add(Tar(Node(tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3})), []byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		blobs := map[oci.Digest][]byte{}
		var all []oci.Layer
		for _, b := range [][]byte{one, two} {
			d := oci.Digest(sha256.Sum256(b))
			blobs[d] = b
			all = append(all, oci.Layer{Blob: oci.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: int64(len(b))}, DiffID: d})
		}
		n := 0
		defer func() {
			for i := range n {
				os.Remove(filepath.Join(dir, fmt.Sprint(os.Getpid(), i+1)))
			}
		}()
		tr, err := oci.Flatten(ctx, all, oci.Options{Source: "fuzz",
			Open:    func(b oci.Blob) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blobs[b.Digest])), nil },
			Scratch: func() string { n++; return filepath.Join(dir, fmt.Sprint(os.Getpid(), n)) }})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if err := tr.Complete(); err != nil {
			t.Errorf("a tree that writers refuse: %v", err)
		}
		for _, e := range tr.Entries() {
			if e.Path != "" && tree.CheckPath(e.Path) != nil || e.Kind == tree.CharDev || e.Kind == tree.BlockDev || strings.Contains("/"+e.Path, "/.wh.") {
				t.Errorf("entry %q of kind %s got through", e.Path, e.Kind)
			}
			if e.Kind == tree.File {
				if err := e.CopyTo(ctx, io.Discard, make([]byte, 4096)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// FuzzResolve: an index and a manifest of any bytes give one line or an image within the limits.
func FuzzResolve(f *testing.F) {
	l := New(f.TempDir())
	d := l.Index(l.Image("amd64", Packed(Tar(), "gzip")))
	seed, err := os.ReadFile(oci.Layout(l.Dir).Path(d.ID()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		root := oci.Digest(sha256.Sum256(data))
		get := func(ctx context.Context, b oci.Blob) ([]byte, error) {
			if b.Digest == root {
				return data, nil
			}
			return oci.Layout(l.Dir).Get(ctx, b)
		}
		im, err := oci.Resolve(ctx, get, root, "amd64")
		if err == nil && (len(im.Layers) == 0 || len(im.Documents) < 2) {
			t.Errorf("%+v", im)
		}
	})
}
