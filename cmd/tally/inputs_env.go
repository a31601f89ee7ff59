package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"tally/internal/aptconf"
	"tally/internal/cli"
	"tally/internal/strictyaml"
	"tally/mkimage/lock"
	"tally/mkimage/registry"
	"tally/mkimage/spec"
)

// fetchFlags say where inputs are kept and looked for.
func fetchFlags() []cli.Flag {
	return []cli.Flag{
		cacheFlag(),
		&cli.StringSliceFlag{Name: "mirror", Usage: "look for packages on the Debian mirror `URL` first, or for those of another archive on NAME=URL (default: the user's setting, then the machine's apt configuration)"},
		&cli.StringSliceFlag{Name: "snapshot", Usage: "look in the snapshot archive `URL` last (below it: debian/TIMESTAMP/pool)"},
		&cli.BoolFlag{Name: "offline", Usage: "use the cache alone"},
	}
}

func cacheFlag() cli.Flag {
	return &cli.StringFlag{Name: "cache", Usage: "keep inputs in `DIR` (default: tally in the user's cache directory)"}
}

// settings is the user's own file, tally/config.yaml in the user's configuration directory.
type settings struct {
	Mirrors   []string  `yaml:"mirrors"`
	Archives  []archive `yaml:"archives"`
	Snapshots []string  `yaml:"snapshots"`
}

// An archive is where an archive that is not Debian's can be found.
type archive struct {
	Name    string   `yaml:"name,required"` // as specs name it
	Mirrors []string `yaml:"mirrors,required"`
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
	client := lock.Client()
	return &lock.Fetcher{
		Store:    store,
		Places:   places(c, s, os.DirFS("/etc/apt")),
		Client:   client,
		Registry: registry.New(authn.DefaultKeychain, client.Transport).Repository,
		Sleep:    lock.Sleep,
		Now:      time.Now,
		Progress: func(label string, total int64) lock.Progress { return e.startProgress(label, total) },
		Log:      e.logger(),
	}, nil
}

// places gathers where inputs may be. apt's configuration of an archive NAME that is not Debian's is
// sources.list.d/NAME.list or NAME.sources.
func places(c *cli.Context, s settings, etcAPT fs.FS) lock.Places {
	p := lock.Places{Offline: c.Bool("offline"), Archives: map[string][]string{}, Snapshots: append(c.StringSlice("snapshot"), s.Snapshots...)}
	add := func(name string, urls ...string) {
		if (spec.Suite{Archive: name}).Debian() {
			p.Mirrors = append(p.Mirrors, urls...)
		} else {
			p.Archives[name] = append(p.Archives[name], urls...)
		}
	}
	for _, m := range c.StringSlice("mirror") {
		if name, url, ok := strings.Cut(m, "="); ok && !strings.ContainsAny(name, ":/") {
			add(name, url)
		} else {
			p.Mirrors = append(p.Mirrors, m)
		}
	}
	for _, a := range s.Archives {
		add(a.Name, a.Mirrors...)
	}
	p.Mirrors = append(append(p.Mirrors, s.Mirrors...), aptconf.Mirrors(etcAPT)...)
	for name, urls := range aptconf.Named(etcAPT) {
		p.Archives[name] = append(p.Archives[name], urls...)
	}
	return p
}

// explainGone adds what the user can do about an input that is gone.
func explainGone(err error, a specArg) error {
	var gone *lock.GoneError
	switch {
	case !errors.As(err, &gone):
	case a.released:
		return withHint(err, "bring the file (--inputs, --mirror, --snapshot), or build with a lock of what there is today: --lock")
	default:
		return withHint(err, "pin what there is today with %s, or bring the file: 'tally inputs import', --mirror, --snapshot", a.lockCommand())
	}
	return err
}
