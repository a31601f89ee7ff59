package lock

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

// VarsPackage and VarsFile are Debian's blank variable store for 4 MiB firmware, which `vars: blank` puts
// over a firmware's own.
const (
	VarsPackage = "ovmf"
	VarsFile    = "usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Debian pins in l every package that s names, with all that those of the root depend on, and the suites
// they come from.
func (x *Indexer) Debian(ctx context.Context, s *spec.Spec, l *Lock) error {
	c := &chooser{arch: x.Arch, lock: l, byKey: map[string]int{}, resolvers: map[string]*deb.Resolver{}}
	c.want(s)
	if err := c.readSuites(ctx, x, s); err != nil {
		return err
	}
	for _, w := range c.wants {
		if err := c.choose(w); err != nil {
			return fmt.Errorf("%s: %w", w.user, err)
		}
	}
	c.finish(c.infos())
	return nil
}

// readSuites reads the indexes of all that c wants.
func (c *chooser) readSuites(ctx context.Context, x *Indexer, s *spec.Spec) (err error) {
	wanted := map[string][]string{}
	for _, w := range c.wants {
		for _, suite := range w.suites {
			wanted[suite] = append(wanted[suite], w.components...)
		}
	}
	c.lock.Suites, c.lock.Packages = []Suite{}, []Package{}
	c.suites, err = x.suites(ctx, s, wanted)
	return err
}

// infos lists the suites that were read.
func (c *chooser) infos() []Suite {
	all := []Suite{}
	for _, idx := range c.suites {
		all = append(all, idx.info)
	}
	return all
}

// finish puts the lists of the lock in order.
func (c *chooser) finish(suites []Suite) {
	l := c.lock
	l.Suites = suites
	slices.SortFunc(l.Suites, func(a, b Suite) int { return cmp.Compare(a.Name, b.Name) })
	for i := range l.Packages {
		slices.Sort(l.Packages[i].For)
		l.Packages[i].For = slices.Compact(l.Packages[i].For)
	}
	slices.SortFunc(l.Packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Arch, b.Arch))
	})
}

// A want is what one place of the spec asks for.
type want struct {
	user               string // see Package.For
	suites, components []string
	names              []string
	pins               map[string]string // package to suite
	base, closure      bool
	kernel             bool
}

// A chooser turns the names of a spec into packages of the lock.
type chooser struct {
	arch      string
	lock      *Lock
	suites    map[string]*suiteIndex
	wants     []want
	byKey     map[string]int // index into lock.Packages
	resolvers map[string]*deb.Resolver
}

// want lists what s asks for.
func (c *chooser) want(s *spec.Spec) {
	one := func(user string, p *spec.Package) {
		if p != nil {
			c.wants = append(c.wants, want{user: user, suites: p.Suites, components: p.Components, names: []string{p.Package}, kernel: user == "kernel"})
		}
	}
	for i, src := range s.Root {
		if d := src.Debian; d != nil {
			c.wants = append(c.wants, want{user: s.SourceName(i), suites: d.Suites, components: d.Components, names: d.Packages, pins: pins(d), base: d.Base, closure: true})
		}
	}
	for i := range s.Steps {
		d := &s.Steps[i].Root
		c.wants = append(c.wants, want{user: "step." + s.Steps[i].Name, suites: d.Suites, components: d.Components, names: d.Packages, pins: pins(d), base: d.Base, closure: true})
	}
	one("kernel", &s.Kernel.Debian)
	one("stub", s.Stub.Debian)
	for i := range s.Firmware {
		f := &s.Firmware[i]
		one("firmware."+f.Name, f.Debian)
		if f.Vars == "blank" {
			k := s.Kernel.Debian
			one("vars", &spec.Package{Suites: k.Suites, Components: k.Components, Package: VarsPackage})
		}
	}
}

// pins maps each pinned package to its suite.
func pins(d *spec.Debian) map[string]string {
	all := map[string]string{}
	for _, p := range d.Pins {
		for _, name := range p.Packages {
			all[name] = p.Suite
		}
	}
	return all
}

// pinned is the priority of a package that a pin takes: apt's "even if not the newest", above every suite's.
const pinned = 1000

func (c *chooser) choose(w want) error {
	all := c.visible(w)
	r := c.resolver(w, all)
	if !w.closure {
		p := r.Candidate(w.names[0])
		if p == nil {
			return fmt.Errorf("package %s is in none of its suites for %s", w.names[0], c.arch)
		}
		ps, err := []*deb.Package{p}, error(nil)
		if w.kernel {
			ps, err = kernel(all, p)
		}
		return c.addAll(ps, w.user, err)
	}
	ps, err := c.closure(r, w)
	return c.addAll(ps, w.user, err)
}

// addAll adds what was chosen, unless that ended in an error.
func (c *chooser) addAll(ps []*deb.Package, user string, err error) error {
	for i := 0; i < len(ps) && err == nil; i++ {
		err = c.add(ps[i], user)
	}
	return err
}

// closure resolves what w names with all that it needs.
func (c *chooser) closure(r *deb.Resolver, w want) ([]*deb.Package, error) {
	for _, name := range slices.Sorted(maps.Keys(w.pins)) {
		if p := r.Candidate(name); p == nil || !strings.HasPrefix(p.Suite+"@", w.pins[name]+"@") {
			return nil, fmt.Errorf("package %s is pinned to suite %s, which has none for %s", name, w.pins[name], c.arch)
		}
	}
	names := slices.Clone(w.names)
	if w.base {
		names = append(r.Base(), names...)
	}
	return r.Resolve(names)
}

// priority is that of p for w.
func (c *chooser) priority(w want, p *deb.Package) int {
	if w.pins[p.Name] == p.Suite {
		return pinned
	}
	return c.suites[p.Suite].info.Priority
}

// resolver returns the resolver for what w sees, made once for all that see the same.
func (c *chooser) resolver(w want, all []*deb.Package) *deb.Resolver {
	key := fmt.Sprint(w.suites, w.components, w.pins)
	if c.resolvers[key] == nil {
		c.resolvers[key] = deb.NewResolver(all, c.arch, func(p *deb.Package) int { return c.priority(w, p) })
	}
	return c.resolvers[key]
}

// visible lists the packages of the suites and components of w, in their order.
func (c *chooser) visible(w want) []*deb.Package {
	var all []*deb.Package
	for _, suite := range w.suites {
		for _, component := range w.components {
			all = append(all, c.suites[suite].packages[component]...)
		}
	}
	return all
}

func (c *chooser) add(p *deb.Package, user string) error {
	key := key(p.Name, string(p.Version), p.Arch)
	if i, ok := c.byKey[key]; ok {
		if c.lock.Packages[i].SHA256 != p.SHA256 {
			return fmt.Errorf("package %s %s: suites %s and %s have different files of that version", p.Name, p.Version, c.lock.Packages[i].Suite, p.Suite)
		}
		c.lock.Packages[i].For = append(c.lock.Packages[i].For, user)
		return nil
	}
	c.byKey[key] = len(c.lock.Packages)
	c.lock.Packages = append(c.lock.Packages, Package{Name: p.Name, Version: string(p.Version), Arch: p.Arch, Suite: p.Suite, Path: p.Filename,
		Object: Object{p.SHA256, p.Size}, For: []string{user}})
	return nil
}
