package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
)

// firstKey is the key that LOG itself gives, when it is asked for the first time, and that one from then on. It is
// remembered for the place, which cannot choose another name for itself, and for the log's name, which may have several places.
func firstKey(c *cli.Context, src tlog.Source) (release.LogKey, error) {
	data, err := src.Read(c.Context, tlog.VKeyFile, 4096)
	if err != nil {
		return release.LogKey{}, err
	}
	k, err := release.ParseLogKey(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return k, fmt.Errorf("%s: %s: %w", src, tlog.VKeyFile, err)
	}
	place, err := placePin(src)
	if err != nil {
		return k, err
	}
	var absent []string
	for _, name := range []string{place, k.Origin() + ".vkey"} {
		pin := filepath.Join(c.String("state"), name)
		old, err := readSmall(pin, 4096)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, pin)
		case err != nil:
			return k, err
		case strings.TrimSuffix(string(old), "\n") != k.String():
			return k, verdict(exitUnverified, string(release.BadLog), "%s: gives the key %s, and %s remembers %s", src, k, pin, strings.TrimSuffix(string(old), "\n"))
		}
	}
	if err := os.MkdirAll(c.String("state"), 0o700); err != nil {
		return k, err
	}
	for _, pin := range absent {
		if err := atomicfile.WriteFile(pin, []byte(k.String()+"\n"), 0o600); err != nil {
			return k, err
		}
	}
	return k, nil
}

// placePin is the file that remembers the key of a place. No log has such a name.
func placePin(src tlog.Source) (string, error) {
	place := src.String()
	if !strings.Contains(place, "://") {
		var err error
		if place, err = filepath.Abs(place); err != nil {
			return "", err
		}
	}
	id := sha256.Sum256([]byte(place))
	return fmt.Sprintf("log_%x.vkey", id[:8]), nil
}
