package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
	"tally/mkimage/tree"
)

// A cache keeps outputs by Key: KEY.tar and, written after it, KEY.sha256 with its hash in hex. A file
// that has not that hash, or that does not read as the step's outputs, counts as absent: the step runs again.
type cache struct{ dir string }

func (c cache) name(k Key, ext string) string {
	return filepath.Join(c.dir, hex.EncodeToString(k[:])+ext)
}

// load returns what is kept under k, or nil.
func (c cache) load(ctx context.Context, s *Step, k Key) *tree.Tree {
	want, err := os.ReadFile(c.name(k, ".sha256"))
	if err != nil {
		return nil
	}
	got, err := hashFile(ctx, c.name(k, ".tar"))
	if err != nil || got != strings.TrimSpace(string(want)) {
		return nil
	}
	t, err := readOutputs(ctx, s, c.name(k, ".tar"))
	if err != nil {
		return nil
	}
	return t
}

// save keeps the outputs in file under k.
func (c cache) save(ctx context.Context, k Key, file string) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := atomicfile.Create(c.name(k, ".tar"), 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), ctxReader{ctx, in}); err != nil {
		return err
	}
	// The old hash must not vouch for the new file, nor the other way round, whenever this stops.
	if err := os.Remove(c.name(k, ".sha256")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	return atomicfile.WriteFile(c.name(k, ".sha256"), fmt.Appendf(nil, "%x\n", h.Sum(nil)), 0o644)
}

func hashFile(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, ctxReader{ctx, f})
	return hex.EncodeToString(h.Sum(nil)), err
}
