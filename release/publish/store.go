package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
	"tally/release"
	"tally/release/sign"
)

// lookup finds an earlier publication, or returns nil.
func lookup(dir, name string) (*Published, error) {
	text, err := os.ReadFile(filepath.Join(dir, releaseDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	leaf, err := release.ParseDigest(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return nil, fmt.Errorf("publish: %s/%s: %w", releaseDir, name, err)
	}
	p := &Published{Leaf: leaf, Path: BundlePath(leaf), Already: true}
	if p.Bundle, err = os.ReadFile(filepath.Join(dir, p.Path)); err != nil {
		return nil, err
	}
	b, err := release.ParseBundle(p.Bundle)
	if err != nil {
		return nil, err
	}
	if b.Entry == nil {
		return nil, fmt.Errorf("publish: %s: has no log entry", p.Path)
	}
	p.Index, p.Size = b.Entry.Index, b.Entry.TreeSize
	return p, nil
}

// store copies a file to its place by digest, hashing what it writes.
func store(ctx context.Context, dir, path string, f sign.File) error {
	dst := filepath.Join(dir, digestDir, f.Digest.String())
	if _, err := os.Lstat(dst); err == nil {
		return nil // a name appears only after its content was hashed and synced
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := atomicfile.Create(dst, 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	got, err := sign.HashCopy(ctx, out, in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if got != f.Digest {
		return fmt.Errorf("%s: SHA-256 %s, want %s: the file changed meanwhile", path, got, f.Digest)
	}
	return out.Commit()
}

// OpenByDigest opens a published file for someone who holds a bundle: dirs are tried in order, each as a
// by-digest directory itself, as a directory that has one, and as the sibling of one (a bundle lies in
// DIR/bundles). The content is not checked here; see sign.HashCopy. An absent digest is fs.ErrNotExist,
// naming where it was looked for.
func OpenByDigest(d release.Digest, dirs ...string) (io.ReadCloser, error) {
	var tried []string
	for _, dir := range dirs {
		for _, place := range []string{dir, filepath.Join(dir, digestDir), filepath.Join(dir, "..", digestDir)} {
			f, err := os.Open(filepath.Join(place, d.String()))
			if err == nil {
				return f, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			tried = append(tried, place)
		}
	}
	return nil, fmt.Errorf("file with SHA-256 %s: not in %s: %w", d, strings.Join(tried, ", "), fs.ErrNotExist)
}
