package lock

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ulikunitz/xz"

	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

// An Indexer reads package indexes: the only part of tally that does.
type Indexer struct {
	Fetcher *Fetcher
	Keys    deb.Keyring
	Now     time.Time
	Arch    string // amd64
}

// maxIndex is the largest unpacked Packages file read, in bytes.
const maxIndex = 1 << 30

// A suiteIndex is one read suite.
type suiteIndex struct {
	info     Suite
	packages []*deb.Package
}

// read gets a suite's signed index and its package lists from the first mirror that has them.
func (x *Indexer) read(ctx context.Context, s spec.Suite) (*suiteIndex, error) {
	archive := "debian"
	if strings.HasSuffix(s.Name, "-security") {
		archive = "debian-security"
	}
	mirrors := mirrorsFor(x.Fetcher.Places.Mirrors, archive)
	if len(mirrors) == 0 {
		return nil, fmt.Errorf("suite %s: no mirror is configured for archive %s: give --mirror URL", s.Name, archive)
	}
	var errs []error
	for _, m := range mirrors {
		idx, err := x.readFrom(ctx, m+"/dists/"+s.Name, archive, s)
		if err == nil {
			return idx, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("suite %s: %w", s.Name, errors.Join(errs...))
}

func (x *Indexer) readFrom(ctx context.Context, base, archive string, s spec.Suite) (*suiteIndex, error) {
	data, err := x.small(ctx, base+"/InRelease", deb.MaxInRelease)
	if err != nil {
		return nil, err
	}
	rel, err := deb.VerifyInRelease(data, x.Keys, x.Now)
	if err != nil {
		return nil, err
	}
	if s.Name != rel.Codename && s.Name != rel.Suite {
		return nil, fmt.Errorf("InRelease is of suite %s (%s), want %s", rel.Suite, rel.Codename, s.Name)
	}
	if rel.Date.After(x.Now.Add(24 * time.Hour)) {
		return nil, fmt.Errorf("InRelease is dated %s, in the future: is the clock right?", rel.Date.Format(time.RFC3339))
	}
	if !rel.ValidUntil.IsZero() && x.Now.After(rel.ValidUntil) {
		return nil, fmt.Errorf("InRelease expired at %s", rel.ValidUntil.Format(time.RFC3339))
	}
	h, err := x.Fetcher.Store.Put(data)
	if err != nil {
		return nil, err
	}
	idx := &suiteIndex{info: Suite{Name: s.Name, Archive: archive, Date: rel.Date.Format(time.RFC3339), Snapshot: rel.Date.Format("20060102T150405Z"),
		InRelease: h, Signers: rel.Signers, Components: s.Components}}
	if !rel.ValidUntil.IsZero() {
		idx.info.ValidUntil = rel.ValidUntil.Format(time.RFC3339)
	}
	for _, c := range s.Components {
		if err := x.component(ctx, idx, base, c, rel); err != nil {
			return nil, err
		}
	}
	return idx, nil
}

// component reads the package list of one component, by the hash the signed index gives it.
func (x *Indexer) component(ctx context.Context, idx *suiteIndex, base, component string, rel *deb.Release) error {
	name := component + "/binary-" + x.Arch + "/Packages"
	packed, ok := rel.Files[name+".xz"]
	plain, ok2 := rel.Files[name]
	if !ok || !ok2 {
		return fmt.Errorf("InRelease lists no %s.xz", name)
	}
	if !x.Fetcher.Store.Has(packed.SHA256, packed.Size) {
		if err := x.Fetcher.Get(ctx, base+"/"+name+".xz", packed.SHA256, packed.Size); err != nil {
			return fmt.Errorf("%s.xz: %w", name, err)
		}
	}
	data, err := x.Fetcher.Store.Read(packed.SHA256)
	if err != nil {
		return err
	}
	r, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s.xz: %w", name, err)
	}
	if plain.Size > maxIndex {
		return fmt.Errorf("%s: %d bytes, want at most %d", name, plain.Size, maxIndex)
	}
	ps, err := deb.ParseIndex(io.LimitReader(ctxReader{ctx, r}, plain.Size))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range ps {
		p.Suite = idx.info.Name
	}
	idx.packages = append(idx.packages, ps...)
	return nil
}

// small gets a file whose hash is not known beforehand.
func (x *Indexer) small(ctx context.Context, url string, limit int64) ([]byte, error) {
	if x.Fetcher.Places.Offline {
		return nil, errors.New("offline: an index can only be read from a mirror")
	}
	var err error
	for i := range attempts {
		if i > 0 {
			if err := x.Fetcher.Sleep(ctx, time.Second<<(i-1)); err != nil {
				return nil, err
			}
		}
		var body io.ReadCloser
		if body, _, err = x.Fetcher.open(ctx, url, 0); err != nil {
			if errors.Is(err, errPermanent) {
				break
			}
			continue
		}
		var data []byte
		data, err = io.ReadAll(io.LimitReader(ctxReader{ctx, body}, limit+1))
		body.Close()
		if err == nil && int64(len(data)) > limit {
			return nil, fmt.Errorf("%s: more than %d bytes", url, limit)
		}
		if err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", url, err)
}

// Debian pins every package that s names, with all it depends on.
func (x *Indexer) Debian(ctx context.Context, s *spec.Spec, l *Lock) error {
	var all []*deb.Package
	for _, suite := range s.Suites {
		idx, err := x.read(ctx, suite)
		if err != nil {
			return err
		}
		l.Suites = append(l.Suites, idx.info)
		all = append(all, idx.packages...)
	}
	c := &chooser{arch: x.Arch, all: all, lock: l, byKey: map[string]int{}}
	if err := c.spec(s); err != nil {
		return err
	}
	slices.SortFunc(l.Suites, func(a, b Suite) int { return cmp.Compare(a.Name, b.Name) })
	for i := range l.Packages {
		slices.Sort(l.Packages[i].For)
		l.Packages[i].For = slices.Compact(l.Packages[i].For)
	}
	slices.SortFunc(l.Packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return nil
}

// A chooser turns the names of a spec into packages of the lock.
type chooser struct {
	arch  string
	all   []*deb.Package
	lock  *Lock
	byKey map[string]int
}

func (c *chooser) add(p *deb.Package, user string) {
	key := p.Name + "\x00" + string(p.Version)
	i, ok := c.byKey[key]
	if !ok {
		i = len(c.lock.Packages)
		c.byKey[key] = i
		c.lock.Packages = append(c.lock.Packages, Package{Name: p.Name, Version: string(p.Version), Arch: p.Arch, Suite: p.Suite, Path: p.Filename, SHA256: p.SHA256, Size: p.Size})
	}
	c.lock.Packages[i].For = append(c.lock.Packages[i].For, user)
}

func (c *chooser) spec(s *spec.Spec) error {
	resolver := deb.NewResolver(c.all, c.arch)
	for i, src := range s.Root {
		if src.Debian == nil {
			continue
		}
		names := slices.Clone(src.Debian.Packages)
		if src.Debian.Base {
			names = append(resolver.Base(), names...)
		}
		ps, err := resolver.Resolve(names)
		if err != nil {
			return err
		}
		for _, p := range ps {
			c.add(p, fmt.Sprintf("root.%d", i))
		}
	}
	kernel, err := c.kernel(s.Kernel)
	if err != nil {
		return err
	}
	c.add(kernel, "kernel")
	files := map[string]*spec.PackageFile{"stub": &s.Stub}
	for _, f := range s.Firmware {
		if f.Package != nil {
			files["firmware."+f.Name] = f.Package
		}
	}
	for _, user := range slices.Sorted(maps.Keys(files)) {
		p, err := c.one(files[user].Suite, files[user].Package)
		if err != nil {
			return err
		}
		c.add(p, user)
	}
	return nil
}

// one returns the highest version of a package in a suite.
func (c *chooser) one(suite, name string) (*deb.Package, error) {
	var best *deb.Package
	for _, p := range c.all {
		if p.Name == name && p.Suite == suite && (p.Arch == c.arch || p.Arch == "all") && (best == nil || p.Version.Compare(best.Version) > 0) {
			best = p
		}
	}
	if best == nil {
		return nil, fmt.Errorf("package %s is not in suite %s for %s", name, suite, c.arch)
	}
	return best, nil
}

// kernel follows a metapackage to the one linux-image-* it depends on.
func (c *chooser) kernel(k spec.Kernel) (*deb.Package, error) {
	p, err := c.one(k.Suite, k.Package)
	if err != nil {
		return nil, err
	}
	var image *deb.Relation
	for _, alts := range p.Depends {
		if len(alts) == 1 && strings.HasPrefix(alts[0].Name, "linux-image-") && alts[0].Op == "=" {
			if image != nil {
				return nil, fmt.Errorf("package %s depends on two kernels, %s and %s", p.Name, image.Name, alts[0].Name)
			}
			image = &alts[0]
		}
	}
	if image == nil {
		return p, nil
	}
	return c.one(k.Suite, image.Name)
}

// Client is an HTTP client for downloads: one connection a host.
func Client() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 1, ResponseHeaderTimeout: 60 * time.Second}}
}

// Sleep waits for d on the machine's clock.
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
