package lock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

// Update is Debian for a lock that exists: it chooses the packages called names anew from today's indexes, and
// of the others only those that the new versions cannot live with. Everything else keeps its version and its
// bytes. What today's index still lists moves to it; what it does not list stays with the index that did,
// under the suite's name and date: NAME@SNAPSHOT. That older index must be in the store or with one
// of the fetcher's places, since it says what the packages depend on.
func (x *Indexer) Update(ctx context.Context, s *spec.Spec, old *Lock, names []string, l *Lock) error {
	c := &chooser{arch: x.Arch, lock: l, byKey: map[string]int{}, resolvers: map[string]*deb.Resolver{}}
	c.want(s)
	if err := c.readSuites(ctx, x, s); err != nil {
		return err
	}
	u := &updater{chooser: c, old: old, kept: map[string]*deb.Package{}, free: map[string]bool{}}
	if err := u.keep(ctx, x.Fetcher); err != nil {
		return err
	}
	for _, name := range names {
		if !u.known(name) {
			return fmt.Errorf("package %s is neither in the lock nor named by the spec", name)
		}
		u.free[name] = true
	}
	for _, w := range c.wants {
		if err := u.update(w); err != nil {
			return fmt.Errorf("%s: %w", w.user, err)
		}
	}
	c.finish(u.suites())
	return nil
}

// An updater is one call of Update.
type updater struct {
	*chooser
	old  *Lock
	kept map[string]*deb.Package // by key of the old lock's package: what an index says about it
	free map[string]bool         // names that may change
}

func key(name, version, arch string) string { return name + "\x00" + version + "\x00" + arch }

func (p *Package) key() string { return key(p.Name, p.Version, p.Arch) }

// same says whether an index entry is the package of a lock.
func (p *Package) same(q *deb.Package) bool {
	return p.Path == q.Filename && p.key() == key(q.Name, string(q.Version), q.Arch) && p.Object == Object{q.SHA256, q.Size}
}

func (u *updater) known(name string) bool {
	return slices.ContainsFunc(u.old.Packages, func(p Package) bool { return p.Name == name }) ||
		slices.ContainsFunc(u.wants, func(w want) bool { return slices.Contains(w.names, name) })
}

// keep finds what an index says about every package of the old lock: today's, or the one it came from.
func (u *updater) keep(ctx context.Context, f *Fetcher) error {
	missing := map[string][]*Package{} // by suite
	for i := range u.old.Packages {
		p := &u.old.Packages[i]
		if q := u.listed(p); q != nil {
			u.kept[p.key()] = q
		} else {
			missing[p.Suite] = append(missing[p.Suite], p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := f.Indexes(ctx, u.old); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if err := u.keepOld(ctx, u.old.suite(name), f.Store, missing[name]); err != nil {
			return fmt.Errorf("suite %s: %w", name, err)
		}
	}
	return nil
}

// listed looks a package up in today's index of its suite.
func (u *updater) listed(p *Package) *deb.Package {
	name, _, _ := strings.Cut(p.Suite, "@")
	if idx := u.chooser.suites[name]; idx != nil {
		for _, component := range slices.Sorted(maps.Keys(idx.packages)) {
			for _, q := range idx.packages[component] {
				if q.Name == p.Name && p.same(q) {
					return q
				}
			}
		}
	}
	return nil
}

// keepOld looks packages up in the index they came from.
func (u *updater) keepOld(ctx context.Context, s *Suite, store *Store, ps []*Package) error {
	for _, idx := range s.Indexes {
		if !store.Has(idx.SHA256, idx.Size) {
			return fmt.Errorf("the index of %s, which says what package %s %s depends on, is in none of the places: a new lock needs no old index", s.Date, ps[0].Name, ps[0].Version)
		}
		all, err := readIndex(ctx, store, idx.Object)
		if err != nil {
			return err
		}
		for _, q := range all {
			for _, p := range ps {
				if p.same(q) {
					q.Suite = dated(s)
					u.kept[p.key()] = q
				}
			}
		}
	}
	for _, p := range ps {
		if u.kept[p.key()] == nil {
			return fmt.Errorf("package %s %s is not in its package lists as the lock has it", p.Name, p.Version)
		}
	}
	return nil
}

// readIndex reads a package list of the store.
func readIndex(ctx context.Context, store *Store, o Object) ([]*deb.Package, error) {
	data, err := store.Read(o)
	if err != nil {
		return nil, err
	}
	ps, _, err := parseIndex(ctx, data)
	return ps, err
}

// dated is the name of a suite whose packages are not in today's index.
func dated(s *Suite) string {
	name, _, _ := strings.Cut(s.Name, "@")
	return name + "@" + s.Snapshot
}

// suites lists the suites of the new lock: today's, and older ones that still have packages in it.
func (u *updater) suites() []Suite {
	all := u.chooser.infos()
	for _, s := range u.old.Suites {
		n := s
		n.Name, n.Dist = dated(&s), s.dist()
		if slices.ContainsFunc(u.lock.Packages, func(p Package) bool { return p.Suite == n.Name }) {
			all = append(all, n)
		}
	}
	return all
}

// update chooses for one place of the spec: what it had, unless a free name is among it.
func (u *updater) update(w want) error {
	had := u.old.PackagesFor(w.user)
	touched := slices.ContainsFunc(w.names, func(n string) bool { return u.free[n] })
	for _, p := range had {
		touched = touched || u.free[p.Name]
	}
	switch {
	case touched && !w.closure:
		return u.choose(w)
	case touched:
		return u.resolve(w, had)
	}
	for i := range had {
		if err := u.add(u.kept[had[i].key()], w.user); err != nil {
			return err
		}
	}
	return nil
}

// held is the priority of what is to stay as it is.
const held = 2000

// resolve resolves w with everything held that it had and that is not free. What a failure shows to be in the
// way is freed, until there is an answer.
func (u *updater) resolve(w want, had []Package) error {
	free := maps.Clone(u.free)
	for {
		hold := map[*deb.Package]bool{}
		all := u.visible(w)
		for i := range had {
			if p := u.kept[had[i].key()]; !free[p.Name] {
				hold[p] = true
				if strings.Contains(p.Suite, "@") { // the others are among those of today
					all = append(all, p)
				}
			}
		}
		r := deb.NewResolver(all, u.arch, func(p *deb.Package) int {
			if hold[p] {
				return held
			}
			return u.priority(w, p)
		})
		ps, err := u.closure(r, w)
		if err == nil {
			for _, p := range ps {
				if err := u.add(p, w.user); err != nil {
					return err
				}
			}
			return nil
		}
		if !release(err, free, hold) {
			return err
		}
	}
}

// release frees the held packages that an error names: those that are wanted in another version, or else the
// one that wants it. It says whether there was one.
func release(err error, free map[string]bool, hold map[*deb.Package]bool) bool {
	e := deb.Root(err)
	if e == nil {
		return false
	}
	holds := func(name string) bool {
		for p := range hold {
			if p.Name == name {
				return true
			}
		}
		return false
	}
	var names []string
	for _, a := range e.Alts {
		names = append(names, a.Name)
	}
	for _, some := range [][]string{append(names, e.Other), {e.By}} {
		found := false
		for _, name := range some {
			if holds(name) {
				free[name], found = true, true
			}
		}
		if found {
			return true
		}
	}
	return false
}
