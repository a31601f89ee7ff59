//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	modelsFile = "etc/tally/models" // below the root
	modelsHead = "tally.models/v1"

	maxModelsFile = 64 << 10 // bytes
	maxModels     = 16
	maxModelName  = 64
)

// A model is one volume that the root names.
type model struct {
	Name   string  // for messages and the device's name
	Mount  string  // directory of the root, without a leading slash
	Volume cmdline // root hash and hash tree
	Parts  partUUIDs
}

// readModels reads the list of the root mounted at root. No file is no models.
func readModels(root string) ([]model, error) {
	name := filepath.Join(root, modelsFile)
	fi, err := os.Lstat(name) // a link would lead into the initramfs
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("is no regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxModelsFile+1))
	if err != nil {
		return nil, err
	}
	return parseModels(string(b))
}

// parseModels reads
//
//	tally.models/v1
//	NAME MOUNT roothash=HEX tally.verity=1,sha256,4096,4096,DATABLOCKS,HASHSTART,SALT|- tally.partitions=DATA,HASH
//
// one line a volume (mkimage, "Model volumes"). It is as strict as parseCmdline, though the root hash of the image covers it.
func parseModels(s string) ([]model, error) {
	if len(s) > maxModelsFile {
		return nil, fmt.Errorf("more than %d bytes", maxModelsFile)
	}
	body, ok := strings.CutPrefix(s, modelsHead+"\n")
	if !ok || !strings.HasSuffix(s, "\n") {
		return nil, fmt.Errorf("starts with %.40q, want the line %s, and whole lines", s, modelsHead)
	}
	var all []model
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		m, err := parseModel(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		for _, o := range all {
			if o.Name == m.Name || o.Mount == m.Mount || o.Volume.RootHash == m.Volume.RootHash || o.Parts.meet(m.Parts) {
				return nil, fmt.Errorf("line %d: name, mount point, root hash or PARTUUID of %s again", i+2, o.Name)
			}
		}
		if all = append(all, m); len(all) > maxModels {
			return nil, fmt.Errorf("more than %d models", maxModels)
		}
	}
	return all, nil
}

func parseModel(line string) (m model, err error) {
	f := strings.Split(line, " ")
	if len(f) != 5 {
		return m, fmt.Errorf("%.80q: %d words, want NAME MOUNT roothash=… tally.verity=… tally.partitions=…", line, len(f))
	}
	m.Name, m.Mount = f[0], f[1]
	if !plainName(m.Name) {
		return m, fmt.Errorf("name %.80q: want lower-case letters, digits, dots and hyphens", m.Name)
	}
	if m.Mount == "" || filepath.IsAbs(m.Mount) || filepath.Clean(m.Mount) != m.Mount || m.Mount == "." || m.Mount == ".." || strings.HasPrefix(m.Mount, "../") {
		return m, fmt.Errorf("mount point %.80q: want a clean path below the root", m.Mount)
	}
	for i, p := range []struct {
		key   string
		parse func(string) error
	}{
		{"roothash", m.Volume.parseRootHash},
		{"tally.verity", m.Volume.parseVerity},
		{"tally.partitions", func(v string) (err error) { m.Parts, err = parsePartUUIDs(v); return err }},
	} {
		word, value, ok := strings.Cut(f[2+i], "=")
		if !ok || word != p.key {
			return m, fmt.Errorf("word %.80q: want %s=", f[2+i], p.key)
		}
		if err := p.parse(value); err != nil {
			return m, fmt.Errorf("%s: %w", p.key, err)
		}
	}
	return m, nil
}

// meet says whether a partition would be used twice.
func (p partUUIDs) meet(o partUUIDs) bool {
	return p.Data == o.Data || p.Data == o.Hash || p.Hash == o.Data || p.Hash == o.Hash
}

func plainName(s string) bool {
	if s == "" || len(s) > maxModelName || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// mountModels opens every volume that the root at root names and mounts it read-only, for data alone.
func mountModels(root string) error {
	all, err := readModels(root)
	if err != nil {
		return fmt.Errorf("/%s: %w", modelsFile, err)
	}
	for _, m := range all {
		dev, err := openVolume("tally-model-"+m.Name, m.Volume, m.Parts)
		if err != nil {
			return fmt.Errorf("model %s: %w", m.Name, err)
		}
		const flags = syscall.MS_RDONLY | syscall.MS_NODEV | syscall.MS_NOSUID | syscall.MS_NOEXEC
		if err := syscall.Mount(dev, filepath.Join(root, m.Mount), "erofs", flags, ""); err != nil {
			return fmt.Errorf("model %s: mount on /%s: %w", m.Name, m.Mount, err)
		}
		say("model %s on /%s, root hash %s", m.Name, m.Mount, m.Volume.RootHash)
	}
	return nil
}
