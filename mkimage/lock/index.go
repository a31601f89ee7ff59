package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"tally/internal/xz"
	"tally/mkimage/deb"
)

// An Indexer reads package indexes: the only part of tally that does.
type Indexer struct {
	Fetcher      *Fetcher
	Keys         deb.Keyring
	Now          time.Time // holds dates of the index against the clock
	Arch         string    // amd64
	AllowExpired bool      // take an index whose Valid-Until has passed: an old snapshot, a stale mirror
}

// ErrNoMirror says that there is no place to read an index from.
var ErrNoMirror = errors.New("no mirror is configured")

// maxIndex is the largest unpacked Packages file read, in bytes.
const maxIndex = 1 << 30

// A suiteIndex is one read suite.
type suiteIndex struct {
	info     Suite
	packages map[string][]*deb.Package // by component
}

// read gets a suite's signed index and package lists from the first mirror that has them.
func (x *Indexer) read(ctx context.Context, suite string, components []string) (*suiteIndex, error) {
	mirrors := mirrorsFor(x.Fetcher.Places.Mirrors, archiveOf(suite))
	if len(mirrors) == 0 {
		return nil, fmt.Errorf("suite %s: %w for archive %s", suite, ErrNoMirror, archiveOf(suite))
	}
	if x.Fetcher.Places.Offline {
		return nil, fmt.Errorf("suite %s: offline: an index can only be read from a mirror", suite)
	}
	var errs []error
	for _, m := range mirrors {
		idx, err := x.readFrom(ctx, m+"/dists/"+suite, suite, components)
		if err == nil {
			return idx, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %w", m, err))
	}
	return nil, fmt.Errorf("suite %s: %w", suite, errors.Join(errs...))
}

func (x *Indexer) readFrom(ctx context.Context, base, suite string, components []string) (*suiteIndex, error) {
	data, err := x.small(ctx, base+"/InRelease", deb.MaxInRelease)
	if err != nil {
		return nil, fmt.Errorf("InRelease: %w", err)
	}
	rel, err := deb.VerifyInRelease(data, x.Keys, x.Now)
	if err != nil {
		return nil, err
	}
	if err := x.current(rel, suite); err != nil {
		return nil, fmt.Errorf("InRelease: %w", err)
	}
	object, err := x.Fetcher.Store.Put(data)
	if err != nil {
		return nil, err
	}
	idx := &suiteIndex{packages: map[string][]*deb.Package{}, info: Suite{Name: suite, Archive: archiveOf(suite), InRelease: object, Signers: rel.Signers,
		Date: rel.Date.Format(time.RFC3339), Snapshot: rel.Date.UTC().Format(SnapshotTime)}}
	if !rel.ValidUntil.IsZero() {
		idx.info.ValidUntil = rel.ValidUntil.Format(time.RFC3339)
	}
	for _, c := range components {
		if err := x.component(ctx, idx, base, c, rel); err != nil {
			return nil, err
		}
	}
	return idx, nil
}

// current refuses an index of another suite, of the future or of the past.
func (x *Indexer) current(rel *deb.Release, suite string) error {
	if suite != rel.Codename && suite != rel.Suite {
		return fmt.Errorf("of suite %.80q (%.80q), want %s", rel.Codename, rel.Suite, suite)
	}
	if rel.Date.After(x.Now.Add(24 * time.Hour)) {
		return fmt.Errorf("dated %s, in the future: is the clock right?", rel.Date.Format(time.RFC3339))
	}
	if !x.AllowExpired && !rel.ValidUntil.IsZero() && x.Now.After(rel.ValidUntil) {
		return fmt.Errorf("expired at %s", rel.ValidUntil.Format(time.RFC3339))
	}
	return nil
}

// component reads the package list of one component, by the hash the signed index gives it.
func (x *Indexer) component(ctx context.Context, idx *suiteIndex, base, component string, rel *deb.Release) error {
	name := component + "/binary-" + x.Arch + "/Packages"
	packed, ok := rel.Files[name+".xz"]
	plain, ok2 := rel.Files[name]
	if !ok || !ok2 || plain.Size > maxIndex || packed.Size > maxIndex {
		return fmt.Errorf("InRelease: lists no %s.xz of at most %d bytes", name, maxIndex)
	}
	object := Object{packed.SHA256, packed.Size}
	if !x.Fetcher.Store.Has(object.SHA256, object.Size) {
		// By hash first: the address does not change its meaning while a mirror is updated.
		urls := []string{base + "/" + path.Dir(name) + "/by-hash/SHA256/" + object.SHA256.String(), base + "/" + name + ".xz"}
		bar := x.Fetcher.bar("fetching the index of "+idx.info.Name+" "+component, object.Size)
		err := x.Fetcher.locate(ctx, "package list "+idx.info.Name+"/"+component, object, urls, bar)
		bar.End()
		if err != nil {
			return err
		}
	}
	data, err := x.Fetcher.Store.Read(object)
	if err != nil {
		return err
	}
	r, err := xz.NewReader(bytes.NewReader(data), xz.MaxDict)
	if err != nil {
		return fmt.Errorf("%s.xz: %w", name, err)
	}
	ps, err := deb.ParseIndex(io.LimitReader(ctxReader{ctx, r}, plain.Size))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range ps {
		p.Suite = idx.info.Name
	}
	idx.packages[component] = ps
	idx.info.Indexes = append(idx.info.Indexes, Index{component, object})
	return nil
}

// small gets a file whose hash is not known beforehand.
func (x *Indexer) small(ctx context.Context, url string, limit int64) ([]byte, error) {
	for i := 0; ; i++ {
		data, err := x.smallOnce(ctx, url, limit)
		var permanent permanentError
		if err == nil || errors.As(err, &permanent) || i == attempts-1 || ctx.Err() != nil {
			return data, err
		}
		if err := x.Fetcher.Sleep(ctx, min(time.Second<<i, maxPause)); err != nil {
			return nil, err
		}
	}
}

func (x *Indexer) smallOnce(ctx context.Context, url string, limit int64) ([]byte, error) {
	ctx, alive, stop := x.Fetcher.watch(ctx)
	defer stop()
	resp, err := x.Fetcher.request(ctx, url, 0, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(ctxReader{ctx, alive(resp.Body)}, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = permanentError{fmt.Errorf("more than %d bytes", limit)}
	}
	return data, err
}

// suites reads every suite with all the components that anybody wants of it, sorted by name.
func (x *Indexer) suites(ctx context.Context, wanted map[string][]string) (map[string]*suiteIndex, error) {
	var names []string
	for name := range wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	all := map[string]*suiteIndex{}
	for _, name := range names {
		components := slices.Clone(wanted[name])
		slices.Sort(components)
		idx, err := x.read(ctx, name, slices.Compact(components))
		if err != nil {
			return nil, err
		}
		all[name] = idx
	}
	return all, nil
}
