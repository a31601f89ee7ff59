package mkimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
)

// ManifestFile is the manifest's name in a result.
const ManifestFile = "manifest.json"

// ErrForeign is of a directory that has a manifest.json which no build wrote, as browser extensions and web projects do.
var ErrForeign = errors.New("directory is no earlier result and would be lost")

// CreateResult starts filling the directory out, which must be absent, empty or an earlier result, of whatever layout.
func CreateResult(out string) (*atomicfile.Dir, error) {
	d, err := atomicfile.CreateDir(out, ManifestFile)
	if err != nil {
		return nil, err
	}
	if err := checkResult(filepath.Join(out, ManifestFile)); err != nil {
		d.Abort()
		return nil, err
	}
	return d, nil
}

// checkResult refuses a manifest, if there is one, that is not a result's.
func checkResult(name string) error {
	fi, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // then CreateDir has found an empty place
	}
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: is no regular file: %w", name, ErrForeign)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxManifest+1))
	if err != nil {
		return err
	}
	var m struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &m); len(data) > MaxManifest || err != nil || m.Schema != ManifestSchema {
		return fmt.Errorf("%s: schema %.64q, want %q: %w", name, m.Schema, ManifestSchema, ErrForeign)
	}
	return nil
}
