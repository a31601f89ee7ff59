package deb

import (
	"cmp"
	"slices"
	"strings"
)

// A universe is what a resolution sees of the lists: every name that occurs in them, with the versions and
// the providers it has. Apt decides ties by the order in which it met things, so these orders are kept:
// names are numbered as they occur, providers are listed in the order of their packages.
//
// A name with an architecture, "perl:any" or "gcc:i386", is a name of its own, as in apt: packages that are
// Multi-Arch: allowed provide "perl:any", nobody provides a foreign one.
type universe struct {
	arch  string
	names []*name
	byKey map[string]*name
	known map[identity]*version
	twins map[string]int // packages of other architectures by name

	nowhere *name // stands for one that a field not checked names
}

type name struct {
	id        int // its place in universe.names
	text      string
	versions  []*version // the highest first, equal ones as they occur
	providers []provider
	candidate *version // what the priorities choose, or nil
	essential bool     // some version is
	important bool
	aliased   bool // "name:arch" of our own architecture occurs: it has this name's providers
}

// A version is one package of the lists; the same file in two suites is one version.
type version struct {
	*Package // as first met
	id       int
	pin      int // its priority
	of       *name
	chosen   *Package // the one of the highest priority
	provides []*name
}

type provider struct {
	*version
	as       Version // version of the provision; "" when unversioned
	implicit bool    // follows from the field Multi-Arch
}

// identity is what makes two packages the same version.
type identity struct {
	of     *name
	sha256 [32]byte
}

// newUniverse reads packages in their order. pin is the priority of one, candidate says which of those of a name is its
// candidate.
func newUniverse(packages []*Package, arch string, pin func(*Package) int, candidate func(*Package) bool) *universe {
	u := &universe{arch: arch, byKey: make(map[string]*name, 2*len(packages)), twins: map[string]int{}, known: make(map[identity]*version, len(packages))}
	count := 0
	for _, p := range packages {
		n := u.name(p.Name)
		v := u.known[identity{n, p.SHA256}]
		if v == nil || v.Version != p.Version {
			v = &version{Package: p, id: count, of: n, chosen: p}
			count++
			u.known[identity{n, p.SHA256}] = v
			n.versions = append(n.versions, v)
			u.relations(v)
		}
		n.essential = n.essential || p.Essential || p.Name == "apt" // itself counts as essential to apt
		n.important = n.important || p.Important || p.Name == "apt"
		v.pin = max(v.pin, pin(p))
		if candidate(p) {
			n.candidate, v.chosen = v, p
		}
	}
	for _, n := range u.names {
		slices.SortStableFunc(n.versions, func(a, b *version) int { return b.Version.Compare(a.Version) })
	}
	u.known = nil
	u.nowhere = &name{id: len(u.names)}
	return u
}

// name finds or makes the name of that text.
func (u *universe) name(text string) *name {
	text = u.native(text)
	if n := u.byKey[text]; n != nil {
		return n
	}
	n := u.insert(text, text)
	base, of, qualified := strings.Cut(text, ":")
	switch {
	case !qualified || of == "any":
	case of == u.arch:
		u.alias(n, u.name(base))
	case u.byKey[base+" "+of] == nil: // the package of that architecture has a place in the order, too
		u.insert(base+" "+of, base)
		u.twins[base]++
	}
	return n
}

// find is the name of that text, or nowhere.
func (u *universe) find(text string) *name { return cmp.Or(u.byKey[u.native(text)], u.nowhere) }

func (u *universe) native(text string) string {
	if base, ok := strings.CutSuffix(text, ":native"); ok {
		return base + ":" + u.arch
	}
	return text
}

func (u *universe) insert(key, text string) *name {
	n := &name{id: len(u.names), text: text}
	u.names = append(u.names, n)
	u.byKey[key] = n
	return n
}

// alias makes n, "base:arch", stand for base.
func (u *universe) alias(n, base *name) {
	base.aliased = true
	for _, p := range slices.Backward(base.providers) {
		if !p.implicit {
			n.provide(p.version, p.version.Version, true)
		}
	}
	for _, v := range base.versions {
		n.provide(v, v.Version, true)
	}
}

func (n *name) provide(v *version, as Version, implicit bool) {
	n.providers = append(n.providers, provider{v, as, implicit})
	v.provides = append(v.provides, n)
}

// relations makes the names in v's fields, in apt's order, and enters what v provides.
func (u *universe) relations(v *version) {
	for _, rs := range [][][]Relation{v.Depends, v.Conflicts} {
		for _, alts := range rs {
			for _, a := range alts {
				u.name(a.key())
			}
		}
	}
	for _, field := range v.weak {
		weakNames(field, func(text string) { u.name(text) })
	}
	u.provisions(v)
	if isKernel(v.Name) {
		u.name(kernels).provide(v, v.Version, true)
	}
}

// provisions enters what v provides, by its field Provides and by being Multi-Arch: allowed.
func (u *universe) provisions(v *version) {
	provide := func(text string, as Version, implicit bool) {
		if text != v.Name || as != "" && as != v.Version { // nothing provides itself
			u.name(text).provide(v, as, implicit)
		}
	}
	for _, r := range v.Provides {
		if r.arch != "" {
			if r.arch != "any" {
				provide(r.Name, r.Version, true)
			}
			provide(r.key(), r.Version, false)
			continue
		}
		if v.multiArch == "allowed" {
			provide(r.Name+":any", r.Version, true)
		}
		provide(r.Name, r.Version, false)
		if n := u.byKey[r.Name]; n != nil && n.aliased {
			provide(r.Name+":"+u.arch, r.Version, true)
		}
	}
	if v.multiArch == "allowed" {
		provide(v.Name+":any", v.Version, true)
	}
	if v.of.aliased {
		provide(v.Name+":"+u.arch, v.Version, true)
	}
}

// kernels is provided by every kernel, in apt's eyes. Nothing depends on it, but it has a place in the order.
const kernels = "$kernel"

func isKernel(name string) bool {
	for _, prefix := range []string{"linux-image-", "kfreebsd-image-", "gnumach-image-"} {
		release, ok := strings.CutPrefix(name, prefix)
		if ok && !strings.HasSuffix(name, "-dbg") && !strings.HasSuffix(name, "-dbgsym") {
			rest := strings.TrimLeft(release, "0123456789")
			return rest != release && strings.HasPrefix(rest, ".")
		}
	}
	return false
}

// key is the text of the name that r is about.
func (r Relation) key() string {
	if r.arch == "" {
		return r.Name
	}
	return strings.TrimSuffix(r.Name, ":"+r.arch) + ":" + r.arch
}

// weakNames lists the names in a dependency field; its form is not checked.
func weakNames(field string, add func(string)) {
	for field != "" {
		var one string
		if i := strings.IndexAny(field, ",|"); i >= 0 {
			one, field = field[:i], field[i+1:]
		} else {
			one, field = field, ""
		}
		one = strings.TrimSpace(one)
		if i := strings.IndexAny(one, " (\n\t"); i >= 0 {
			one = one[:i]
		}
		if one != "" {
			add(one)
		}
	}
}
