package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Places are where inputs are looked for, in this order: the store, then each mirror by pool path, then
// each snapshot archive by timestamp and pool path.
type Places struct {
	Offline   bool     // the store alone
	Mirrors   []string // base URLs of Debian mirrors (below them: dists, pool)
	Snapshots []string // base URLs of snapshot archives (below them: TIMESTAMP/pool)
}

// A Fetcher gets bytes into a store: one connection, resuming, with back-off.
type Fetcher struct {
	Store    *Store
	Places   Places
	Client   *http.Client
	Sleep    func(context.Context, time.Duration) error // the clock's door
	Progress func(label string, total int64) Progress   // may be nil
	Log      *slog.Logger
}

// A Progress is told of bytes as they come.
type Progress interface {
	io.Writer
	End()
}

// attempts is how often one place is tried; the pause doubles from a second.
const attempts = 4

// A GoneError says that an input is in none of the places.
type GoneError struct {
	Name   string
	SHA256 Hash
	Looked []string // each place with what it answered
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("%s (SHA-256 %s) is in none of the places looked at: %s", e.Name, e.SHA256, strings.Join(e.Looked, "; "))
}

// Packages gets every package of l that is not in the store.
func (f *Fetcher) Packages(ctx context.Context, l *Lock) error {
	for _, p := range l.Packages {
		if f.Store.Has(p.SHA256, p.Size) {
			continue
		}
		if err := f.one(ctx, l, p); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fetcher) one(ctx context.Context, l *Lock, p Package) error {
	gone := &GoneError{Name: "package " + p.Name + " " + p.Version, SHA256: p.SHA256, Looked: []string{"the cache"}}
	if f.Places.Offline {
		gone.Looked = append(gone.Looked, "(offline: nowhere else)")
		return gone
	}
	s := l.suite(p.Suite)
	var urls []string
	for _, m := range mirrorsFor(f.Places.Mirrors, s.Archive) {
		urls = append(urls, m+"/"+p.Path)
	}
	for _, base := range f.Places.Snapshots {
		urls = append(urls, strings.TrimRight(base, "/")+"/"+s.Snapshot+"/"+p.Path)
	}
	for _, u := range urls {
		err := f.Get(ctx, u, p.SHA256, p.Size)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		gone.Looked = append(gone.Looked, fmt.Sprintf("%s: %v", u, err))
	}
	if len(urls) == 0 {
		gone.Looked = append(gone.Looked, "no mirror is configured")
	}
	return gone
}

// mirrorsFor picks the mirrors whose tree has an archive: security has its own.
func mirrorsFor(mirrors []string, archive string) []string {
	var all []string
	for _, m := range mirrors {
		m = strings.TrimRight(m, "/")
		if strings.HasSuffix(m, "-security") == (archive == "debian-security") {
			all = append(all, m)
		}
	}
	return all
}

// errPermanent marks an answer that trying again does not change.
var errPermanent = errors.New("")

// Get downloads one file into the store, from wherever an earlier attempt stopped.
func (f *Fetcher) Get(ctx context.Context, url string, want Hash, size int64) error {
	part := f.Store.Path(want) + ".part"
	if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
		return err
	}
	var err error
	for i := range attempts {
		if i > 0 {
			if err := f.Sleep(ctx, time.Second<<(i-1)); err != nil {
				return err
			}
		}
		if err = f.try(ctx, url, part, want, size); err == nil || ctx.Err() != nil || errors.Is(err, errPermanent) {
			return err
		}
		f.Log.Info("download: trying again", "error", err)
	}
	return err
}

func (f *Fetcher) try(ctx context.Context, url, part string, want Hash, size int64) error {
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	h := sha256.New()
	have, err := io.Copy(h, out)
	if err != nil {
		return err
	}
	if have > size {
		have = 0
	}
	body, from, err := f.open(ctx, url, have)
	if err != nil {
		return err
	}
	defer body.Close()
	if from != have || have == 0 {
		h.Reset()
	}
	if err := receive(ctx, out, h, body, from, size, f.progress(url, size)); err != nil {
		return err
	}
	if got := Hash(h.Sum(nil)); got != want {
		os.Remove(part)
		return fmt.Errorf("%wSHA-256 %s, want %s", errPermanent, got, want)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return os.Rename(part, f.Store.Path(want))
}

func (f *Fetcher) progress(url string, size int64) Progress {
	if f.Progress == nil {
		return nopProgress{io.Discard}
	}
	return f.Progress("fetching "+url[strings.LastIndexByte(url, '/')+1:], size)
}

type nopProgress struct{ io.Writer }

func (nopProgress) End() {}

// open asks for the file from byte have on, and returns where the answer starts.
func (f *Fetcher) open(ctx context.Context, url string, have int64) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%w%v", errPermanent, err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := f.Client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
		return resp.Body, have, nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close() // the part is the whole, or nonsense: the hash decides
		return io.NopCloser(strings.NewReader("")), have, nil
	}
	resp.Body.Close()
	err = fmt.Errorf("%s", resp.Status)
	if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
		err = fmt.Errorf("%w%s", errPermanent, resp.Status)
	}
	return nil, 0, err
}

// receive appends the body behind byte from; a body that is too long is an error, one that is too short
// too, but keeps what came.
func receive(ctx context.Context, out *os.File, h hash.Hash, body io.Reader, from, size int64, bar Progress) error {
	defer bar.End()
	if _, err := out.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if err := out.Truncate(from); err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(out, h, bar), io.LimitReader(ctxReader{ctx, body}, size-from+1))
	if err != nil {
		return err
	}
	switch got := from + n; {
	case got > size:
		out.Truncate(0)
		return fmt.Errorf("%wlonger than %d bytes", errPermanent, size)
	case got < size:
		return fmt.Errorf("ends after %d of %d bytes", got, size)
	}
	return nil
}
