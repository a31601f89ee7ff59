package lock

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"tally/internal/xz"
	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

// An Indexer reads package indexes: the only part of tally that does.
type Indexer struct {
	Fetcher  *Fetcher
	Keys     deb.Keyring                       // Debian's
	Now      time.Time                         // holds dates of the index against the clock
	Arch     string                            // amd64
	ReadFile func(path string) ([]byte, error) // reads a keyring that the spec names; may be nil when it names none
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

// ErrExpired is returned, wrapped, for an index whose Valid-Until has passed.
var ErrExpired = errors.New("expired")

// read gets a suite's signed index and package lists from the first mirror that has them.
func (x *Indexer) read(ctx context.Context, u spec.Suite, components []string) (*suiteIndex, error) {
	mirrors := x.Fetcher.Places.mirrorsFor(u.Archive)
	if len(mirrors) == 0 {
		return nil, fmt.Errorf("suite %s: %w for archive %s", u.Name, ErrNoMirror, u.Archive)
	}
	if x.Fetcher.Places.Offline {
		return nil, fmt.Errorf("suite %s: offline: an index can only be read from a mirror", u.Name)
	}
	keys, keyring, err := x.keys(u)
	if err != nil {
		return nil, fmt.Errorf("suite %s: %w", u.Name, err)
	}
	var errs []error
	for _, m := range mirrors {
		idx, err := x.readFrom(ctx, m+"/dists/"+u.Suite, u, keys, components)
		if err == nil {
			idx.info.Keyring = keyring
			return idx, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %w", m, err))
	}
	return nil, fmt.Errorf("suite %s: %w", u.Name, errors.Join(errs...))
}

// keys returns who may sign a suite. A keyring of the spec goes to the store, where Chain finds it.
func (x *Indexer) keys(u spec.Suite) (deb.Keyring, *Object, error) {
	if u.Debian() {
		return x.Keys, nil, nil
	}
	data, err := x.ReadFile(u.Keyring)
	if err != nil {
		return deb.Keyring{}, nil, err
	}
	keys, err := deb.ReadKeyring(data)
	if err != nil {
		return keys, nil, fmt.Errorf("file %q: %w", u.Keyring, err)
	}
	o, err := x.Fetcher.Store.Put(data)
	return keys, &o, err
}

func (x *Indexer) readFrom(ctx context.Context, base string, u spec.Suite, keys deb.Keyring, components []string) (*suiteIndex, error) {
	data, err := x.small(ctx, base+"/InRelease", deb.MaxInRelease)
	if err != nil {
		return nil, fmt.Errorf("InRelease: %w", err)
	}
	rel, err := deb.VerifyInRelease(data, keys, x.Now)
	if err != nil {
		return nil, err
	}
	if err := x.current(rel, u); err != nil {
		return nil, fmt.Errorf("InRelease: %w", err)
	}
	object, err := x.Fetcher.Store.Put(data)
	if err != nil {
		return nil, err
	}
	idx := &suiteIndex{packages: map[string][]*deb.Package{}, info: Suite{Name: u.Name, Archive: u.Archive, InRelease: object, Signers: rel.Signers,
		Priority: cmp.Or(int(u.Priority), rel.Priority), Policy: u.ValidUntil,
		Date: rel.Date.Format(time.RFC3339), Snapshot: rel.Date.UTC().Format(SnapshotTime), ValidUntil: formatEnd(rel)}}
	if u.Suite != u.Name {
		idx.info.Dist = u.Suite
	}
	for _, c := range components {
		if err := x.component(ctx, idx, base, c, rel); err != nil {
			return nil, err
		}
	}
	return idx, nil
}

// formatEnd is the end of an index's validity as the lock has it.
func formatEnd(rel *deb.Release) string {
	if rel.ValidUntil.IsZero() {
		return ""
	}
	return rel.ValidUntil.Format(time.RFC3339)
}

// current refuses an index of another suite, of the future or, unless the spec welcomes it, of the past.
func (x *Indexer) current(rel *deb.Release, u spec.Suite) error {
	if u.Suite != rel.Codename && u.Suite != rel.Suite {
		return fmt.Errorf("of suite %.80q (%.80q), want %s", rel.Codename, rel.Suite, u.Suite)
	}
	if rel.Date.After(x.Now.Add(24 * time.Hour)) {
		return fmt.Errorf("dated %s, in the future: is the clock right?", rel.Date.Format(time.RFC3339))
	}
	if u.ValidUntil != spec.Ignore && !rel.ValidUntil.IsZero() && x.Now.After(rel.ValidUntil) {
		return fmt.Errorf("%w at %s, and the spec does not say valid-until: ignore for suite %s", ErrExpired, formatEnd(rel), u.Name)
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
	ps, size, err := parseIndex(ctx, data)
	if err == nil && size != plain.Size {
		err = fmt.Errorf("unpacks to %d bytes, InRelease says %d", size, plain.Size)
	}
	if err != nil {
		return fmt.Errorf("%s.xz: %w", name, err)
	}
	for _, p := range ps {
		p.Suite = idx.info.Name
	}
	idx.packages[component] = ps
	idx.info.Indexes = append(idx.info.Indexes, Index{component, object})
	return nil
}

// parseIndex reads a packed package list to its end, and says how many bytes it unpacks to.
func parseIndex(ctx context.Context, packed []byte) ([]*deb.Package, int64, error) {
	r, err := xz.NewReader(bytes.NewReader(packed), xz.MaxDict)
	if err != nil {
		return nil, 0, err
	}
	in := &io.LimitedReader{R: ctxReader{ctx, r}, N: maxIndex + 1}
	ps, err := deb.ParseIndex(in)
	if err == nil && in.N == 0 {
		err = fmt.Errorf("unpacks to more than %d bytes", maxIndex)
	}
	return ps, maxIndex + 1 - in.N, err
}

// small gets a file whose hash is not known beforehand.
func (x *Indexer) small(ctx context.Context, url string, limit int64) ([]byte, error) {
	for i := 0; ; i++ {
		data, err := x.smallOnce(ctx, url, limit)
		if err == nil || last(i, err) || ctx.Err() != nil {
			return data, err
		}
		pause := min(time.Second<<i, maxPause)
		x.Fetcher.Log.Info("download interrupted, trying again", "url", url, "error", err, "pause", pause)
		if err := x.Fetcher.Sleep(ctx, pause); err != nil {
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
func (x *Indexer) suites(ctx context.Context, s *spec.Spec, wanted map[string][]string) (map[string]*suiteIndex, error) {
	var names []string
	for name := range wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	all := map[string]*suiteIndex{}
	for _, name := range names {
		components := slices.Clone(wanted[name])
		slices.Sort(components)
		idx, err := x.read(ctx, s.SuiteNamed(name), slices.Compact(components))
		if err != nil {
			return nil, err
		}
		all[name] = idx
	}
	return all, nil
}
