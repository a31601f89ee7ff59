package lock

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Change is one difference between two locks.
type Change struct {
	Kind   string  `json:"kind"` // lock, toolchain, suite, package, file, dir, oci, model, go or module
	Name   string  `json:"name"`
	How    string  `json:"change"` // added, removed or changed
	Fields []Field `json:"fields"` // those that differ; all of what was added or removed
}

// A Field is one property of an input in both locks.
type Field struct {
	Name string `json:"field"` // as in the lock
	A    string `json:"a"`     // "" when only the second lock has it
	B    string `json:"b"`     // "" when only the first lock has it
}

// Diff lists what distinguishes b from a, by kind and name. Two locks without a difference have equal bytes:
// every field of a lock but its digest is compared.
func Diff(a, b *Lock) []Change {
	var all []Change
	as, bs := a.inputs(), b.inputs()
	for _, kind := range []string{"lock", "toolchain", "suite", "package", "file", "dir", "oci", "model", "go", "module"} {
		names := map[string]bool{}
		for _, m := range []map[identity][]properties{as, bs} {
			for id := range m {
				if id.kind == kind {
					names[id.name] = true
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			id := identity{kind, name}
			all = append(all, compare(id, as[id], bs[id])...)
		}
	}
	return all
}

// An identity is by what an input of one lock is found in another.
type identity struct{ kind, name string }

// properties are an input as fields with values, in the lock's order.
type properties [][2]string

// inputs lists everything in l. One name may have several versions.
func (l *Lock) inputs() map[identity][]properties {
	all := map[identity][]properties{}
	add := func(kind, name string, p ...[2]string) {
		all[identity{kind, name}] = append(all[identity{kind, name}], p)
	}
	object := func(o Object) (sum, size [2]string) {
		return [2]string{"sha256", o.SHA256.String()}, [2]string{"size", strconv.FormatInt(o.Size, 10)}
	}
	add("lock", "spec", [2]string{"spec_sha256", l.Spec.String()}, [2]string{"variant", l.Variant}, [2]string{"arch", l.Arch})
	for _, t := range l.Toolchains {
		add("toolchain", t.Version+" "+t.Platform, [2]string{"sum", t.Sum})
	}
	for i := range l.Suites {
		add("suite", l.Suites[i].Name, l.Suites[i].properties()...)
	}
	for _, p := range l.Packages {
		sum, size := object(p.Object)
		add("package", p.Name+" "+p.Arch, [2]string{"version", p.Version}, [2]string{"suite", p.Suite}, [2]string{"path", p.Path}, sum, size, [2]string{"for", strings.Join(p.For, " ")})
	}
	for _, f := range l.Files {
		sum, size := object(f.Object)
		add("file", f.Path, sum, size)
	}
	for _, d := range l.Dirs {
		add("dir", d.Path, [2]string{"tree_sha256", d.Tree.String()}, [2]string{"entries", strconv.Itoa(d.Count)})
	}
	for _, o := range l.OCI {
		add("oci", o.For, o.properties()...)
	}
	for _, m := range l.Models {
		sum, size := object(m.Object)
		add("model", m.For+" "+m.Name, [2]string{"url", m.URL}, sum, size)
	}
	for _, g := range l.Go {
		add("go", g.Module+" "+g.Package, [2]string{"toolchain", g.Toolchain}, [2]string{"source_sha256", g.Source.String()}, [2]string{"std_sha256", g.Standard.String()})
	}
	for _, m := range l.Modules {
		add("module", m.Path, [2]string{"version", m.Version}, [2]string{"sum", m.Sum})
	}
	return all
}

func (o *OCI) properties() properties {
	all := properties{{"repository", o.Image}, {"layout", o.Layout}}
	for i, d := range o.Documents {
		all = append(all, [2]string{"document " + strconv.Itoa(i), d.String()})
	}
	for i, l := range o.Layers {
		all = append(all, [2]string{"layer " + strconv.Itoa(i), fmt.Sprintf("%s %s, diff ID %s", l.MediaType, l.Object, l.DiffID)})
	}
	return all
}

func (s *Suite) properties() properties {
	all := properties{{"archive", s.Archive}, {"suite", s.dist()}, {"priority", strconv.Itoa(s.Priority)}, {"valid_until_policy", s.Policy},
		{"date", s.Date}, {"valid_until", s.ValidUntil}, {"snapshot", s.Snapshot}, {"signers", strings.Join(s.Signers, " ")}, {"inrelease", s.InRelease.String()}}
	if s.Keyring != nil {
		all = append(all, [2]string{"keyring", s.Keyring.String()})
	}
	for _, i := range s.Indexes {
		all = append(all, [2]string{"index " + i.Component, i.Object.String()})
	}
	return all
}

func (o Object) String() string { return fmt.Sprintf("%s (%d bytes)", o.SHA256, o.Size) }

// compare pairs what both locks have under one identity: what is equal goes; one against one is a change;
// anything else was removed and added.
func compare(id identity, a, b []properties) []Change {
	same := func(p properties) func(properties) bool {
		return func(q properties) bool { return slices.Equal(p, q) }
	}
	var gone, came []properties
	for _, p := range a {
		if !slices.ContainsFunc(b, same(p)) {
			gone = append(gone, p)
		}
	}
	for _, p := range b {
		if !slices.ContainsFunc(a, same(p)) {
			came = append(came, p)
		}
	}
	if len(gone) == 1 && len(came) == 1 {
		return []Change{{id.kind, id.name, "changed", fields(gone[0], came[0])}}
	}
	var all []Change
	for _, p := range gone {
		all = append(all, Change{id.kind, id.name, "removed", fields(p, nil)})
	}
	for _, p := range came {
		all = append(all, Change{id.kind, id.name, "added", fields(nil, p)})
	}
	return all
}

// fields lists the properties whose values differ.
func fields(a, b properties) []Field {
	var all []Field
	at := func(name string) *Field {
		for i := range all {
			if all[i].Name == name {
				return &all[i]
			}
		}
		all = append(all, Field{Name: name})
		return &all[len(all)-1]
	}
	for _, p := range a {
		at(p[0]).A = p[1]
	}
	for _, p := range b {
		at(p[0]).B = p[1]
	}
	return slices.DeleteFunc(all, func(f Field) bool { return f.A == f.B })
}
