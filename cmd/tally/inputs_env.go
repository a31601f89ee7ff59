package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"tally/internal/aptconf"
	"tally/internal/strictyaml"
	"tally/mkimage/lock"
)

// fetchFlags say where inputs are kept and looked for.
func fetchFlags() []cli.Flag {
	return []cli.Flag{
		cacheFlag(),
		&cli.StringSliceFlag{Name: "mirror", Usage: "look for packages on the Debian mirror `URL` first (default: the user's setting, then the machine's apt configuration)"},
		&cli.StringSliceFlag{Name: "snapshot", Usage: "look in the snapshot archive `URL` last (below it: debian/TIMESTAMP/pool)"},
		&cli.BoolFlag{Name: "offline", Usage: "use the cache alone"},
	}
}

func cacheFlag() cli.Flag {
	return &cli.StringFlag{Name: "cache", Usage: "keep inputs in `DIR` (default: tally in the user's cache directory)"}
}

// settings is the user's own file, tally/config.yaml in the user's configuration directory.
type settings struct {
	Mirrors   []string `yaml:"mirrors"`
	Snapshots []string `yaml:"snapshots"`
}

func readSettings() (settings, error) {
	var s settings
	dir, err := os.UserConfigDir()
	if err != nil {
		return s, nil // no home, no settings
	}
	file := filepath.Join(dir, "tally", "config.yaml")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	return s, strictyaml.Unmarshal(data, file, &s)
}

// openStore returns the cache.
func openStore(c *cli.Context) (*lock.Store, error) {
	dir := c.String("cache")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("%w: give --cache DIR", err)
		}
		dir = filepath.Join(user, "tally")
	}
	return lock.NewStore(dir), nil
}

// newFetcher puts the places in their order: flag, user setting, apt.
func newFetcher(c *cli.Context, e *env) (*lock.Fetcher, error) {
	store, err := openStore(c)
	if err != nil {
		return nil, err
	}
	s, err := readSettings()
	if err != nil {
		return nil, err
	}
	mirrors := append(c.StringSlice("mirror"), s.Mirrors...)
	mirrors = append(mirrors, aptconf.Mirrors(os.DirFS("/etc/apt"))...)
	return &lock.Fetcher{
		Store:    store,
		Places:   lock.Places{Offline: c.Bool("offline"), Mirrors: mirrors, Snapshots: append(c.StringSlice("snapshot"), s.Snapshots...)},
		Client:   lock.Client(),
		Sleep:    lock.Sleep,
		Progress: func(label string, total int64) lock.Progress { return e.startProgress(label, total) },
		Log:      e.logger(),
	}, nil
}

// explainGone adds what the user can do about an input that is gone.
func explainGone(err error, spec string) error {
	var gone *lock.GoneError
	if errors.As(err, &gone) {
		return withHint(err, "pin what there is today with 'tally lock %s', or bring the file: 'tally inputs import', --mirror, --snapshot", spec)
	}
	return err
}
