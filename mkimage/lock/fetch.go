package lock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"tally/mkimage/spec"
)

// Places are where inputs are looked for, in this order: the store (which `tally inputs import` and
// `build --inputs` fill), then each mirror by pool path, then each snapshot archive by timestamp and pool
// path.
type Places struct {
	Offline   bool                // the store alone
	Mirrors   []string            // base URLs of Debian mirrors: below them are dists and pool
	Archives  map[string][]string // the same of archives that are not Debian's, by the names that specs give them
	Snapshots []string            // base URLs of snapshot archives of Debian: below them is ARCHIVE/TIMESTAMP/pool
}

// A Doer is the network door of this package; *http.Client is one.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// A Fetcher gets bytes into a store: one connection, one file at a time, taken up where an earlier attempt
// stopped, with back-off. All fields but Progress and Registry are required.
type Fetcher struct {
	Store    *Store
	Places   Places
	Client   Doer
	Sleep    func(context.Context, time.Duration) error // the clock's door
	Now      func() time.Time                           // of what nobody wants any more; nil: it stays
	Stall    time.Duration                              // an answer that brings next to nothing for so long is given up; 0: a minute
	Progress func(label string, total int64) Progress   // may be nil; total in bytes
	Registry Registry                                   // may be nil: no container registry is asked
	Log      *slog.Logger
}

// A Progress is told of bytes as they come.
type Progress interface {
	io.Writer
	End()
}

// A GoneError says that an input is in none of the places.
type GoneError struct {
	Name   string // e.g. "package ovmf 2025.02-8"
	SHA256 Hash
	Looked []string // each place with what it answered, in order
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("%s (SHA-256 %s) is in none of the places looked at: %s", e.Name, e.SHA256, strings.Join(e.Looked, "; "))
}

// All gets everything of l that is not local and not in the store.
func (f *Fetcher) All(ctx context.Context, l *Lock) error {
	f.Store.sweep()
	for _, get := range []func(context.Context, *Lock) error{f.Packages, f.Images, f.ModelFiles} {
		if err := get(ctx, l); err != nil {
			return err
		}
	}
	if f.Now != nil { // by now every part of l has become a file
		f.Store.sweepParts(f.Now())
	}
	return nil
}

// Packages gets every package of l that is not in the store. On return without error all are there.
func (f *Fetcher) Packages(ctx context.Context, l *Lock) error {
	var missing []Package
	var total int64
	for _, p := range l.Packages {
		if !f.Store.Has(p.SHA256, p.Size) {
			missing, total = append(missing, p), total+p.Size
		}
	}
	if len(missing) == 0 {
		return nil
	}
	bar := f.bar(fmt.Sprintf("fetching %d packages", len(missing)), total)
	defer bar.End()
	for _, p := range missing {
		if err := f.locate(ctx, "package "+p.Name+" "+p.Version, p.Object, f.Places.urls(l.suite(p.Suite), "/"+p.Path), bar); err != nil {
			return err
		}
	}
	return nil
}

// Indexes gets the signed indexes of l that are not in the store, where a place still has them: a mirror
// has only today's, a snapshot archive all. One that is gone is no error, since no build reads it.
func (f *Fetcher) Indexes(ctx context.Context, l *Lock) error {
	for _, s := range l.Suites {
		dists := "/dists/" + s.dist() + "/"
		wanted := map[string]Object{"InRelease": s.InRelease}
		for _, i := range s.Indexes {
			wanted[i.Component+"/binary-"+l.Arch+"/Packages.xz"] = i.Object
		}
		for name, o := range wanted {
			if f.Store.Has(o.SHA256, o.Size) {
				continue
			}
			urls := f.Places.urls(&s, dists+name)
			bar := f.bar("fetching the index of "+s.Name, o.Size)
			err := f.locate(ctx, "index "+name+" of "+s.Name, o, urls, bar)
			bar.End()
			var gone *GoneError
			if err != nil && !errors.As(err, &gone) {
				return err
			}
		}
	}
	return nil
}

// locate tries the addresses in order.
func (f *Fetcher) locate(ctx context.Context, name string, want Object, urls []string, bar io.Writer) error {
	gone := &GoneError{Name: name, SHA256: want.SHA256, Looked: []string{"the cache " + f.Store.dir}}
	if f.Places.Offline {
		gone.Looked = append(gone.Looked, "and nowhere else: offline")
		return gone
	}
	for _, u := range urls {
		err := f.get(ctx, u, want, bar)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isLocal(err) {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.Log.Debug("not found", "input", name, "url", u, "error", err)
		gone.Looked = append(gone.Looked, fmt.Sprintf("%s: %v", u, err))
	}
	if len(urls) == 0 {
		gone.Looked = append(gone.Looked, "no mirror is configured")
	}
	return gone
}

// urls lists the addresses that a file of a suite may have; path begins with a slash.
func (p Places) urls(s *Suite, path string) []string {
	var urls []string
	for _, m := range p.mirrorsFor(s.Archive) {
		urls = append(urls, m+path)
	}
	if s.Keyring != nil {
		return urls // snapshot archives are of Debian
	}
	for _, base := range p.Snapshots {
		for _, ts := range snapshotTimes(s.Snapshot) {
			urls = append(urls, strings.TrimRight(base, "/")+"/"+s.Archive+"/"+ts+path)
		}
	}
	return urls
}

// mirrorsFor lists the base URLs under which an archive's tree may be.
func (p Places) mirrorsFor(archive string) []string {
	if !(spec.Suite{Archive: archive}).Debian() {
		var all []string
		for _, m := range p.Archives[archive] {
			all = append(all, strings.TrimRight(m, "/"))
		}
		return all
	}
	return mirrorsFor(p.Mirrors, archive)
}

// mirrorsFor picks the base URLs under which one of Debian's archives may be: security has a tree of its own,
// usually beside the main one.
func mirrorsFor(mirrors []string, archive string) []string {
	var all, guesses []string
	for _, m := range mirrors {
		m = strings.TrimRight(m, "/")
		switch security := strings.HasSuffix(m, "-security"); {
		case security == (archive == "debian-security"):
			all = append(all, m)
		case !security:
			guesses = append(guesses, m+"-security")
		}
	}
	for _, g := range guesses {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}

// snapshotTimes lists the times to ask a snapshot archive for. It answers with its latest state at or
// before the time asked for, and it takes that state some hours after the index was signed: so the
// time of the index itself may be too early for what the index was the first to list.
func snapshotTimes(index string) []string {
	t, err := time.Parse(SnapshotTime, index)
	if err != nil {
		return nil // Parse refuses such a lock
	}
	var all []string
	for _, later := range []time.Duration{12 * time.Hour, 36 * time.Hour, 0} {
		all = append(all, t.Add(later).Format(SnapshotTime))
	}
	return all
}

func (f *Fetcher) bar(label string, total int64) Progress {
	if f.Progress == nil {
		return nopProgress{io.Discard}
	}
	return f.Progress(label, total)
}

type nopProgress struct{ io.Writer }

func (nopProgress) End() {}

// Client is an HTTP client for a Fetcher: one connection a host, the caller's proxy settings.
func Client() *http.Client {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 1, ResponseHeaderTimeout: time.Minute, TLSHandshakeTimeout: time.Minute}
	t.RegisterProtocol("file", files{http.NewFileTransport(http.Dir("/"))})
	return &http.Client{Transport: t}
}

// files reads what the caller names as a file, and not what a server redirects to: that is no file of its own.
type files struct{ http.RoundTripper }

func (f files) RoundTrip(r *http.Request) (*http.Response, error) {
	if from := r.Response; from != nil && from.Request.URL.Scheme != r.URL.Scheme {
		return nil, fmt.Errorf("%s redirects to a file of this machine, which is not read", from.Request.URL.Host)
	}
	return f.RoundTripper.RoundTrip(r)
}

// Sleep waits for d on the machine's clock, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
