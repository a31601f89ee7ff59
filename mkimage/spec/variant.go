package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tally/internal/pattern"
	"tally/internal/strictyaml"
)

// A Variant is one of the images that a spec describes. They have one machine: only sources, steps and the
// configuration differ.
type Variant struct {
	Name   string  `yaml:"name,required"`
	Config *Config `yaml:"config"` // in place of the spec's
}

const maxVariants = 16

// variantForm is the form of a variant's name. It goes into names of files: image.NAME.lock.
var variantForm = pattern.New(`^[a-z0-9][a-z0-9-]{0,31}$`)

// CheckVariant wants the name of a variant.
func CheckVariant(name string) error {
	if !variantForm.MatchString(name) {
		return fmt.Errorf("variant %.80q: want lower-case letters, digits and hyphens, at most 32", name)
	}
	return nil
}

// A NoVariantError says that a spec lacks the variant asked for, and that nothing else is wrong with it.
type NoVariantError struct{ error }

// Unwrap returns the error with its place in the document.
func (e *NoVariantError) Unwrap() error { return e.error }

// choose returns the variant of s with the given name, after a check of every one: a mistake in one that is never
// built would wait for whoever builds it. s is the document as it stands.
func (s *Spec) choose(variant, file string, at strictyaml.Positions) (*Spec, error) {
	fail := func(path, format string, args ...any) error { return at.Error(file, path, format, args...) }
	if err := (checker{s: s, fail: fail}).checkVariants(); err != nil {
		return nil, err
	}
	if len(s.Variants) == 0 {
		if err := (checker{s: s, fail: fail}).check(); err != nil {
			return nil, err
		}
		if variant != "" {
			return nil, &NoVariantError{fail("", "variant %.80q: this spec has none", variant)}
		}
		return s, nil
	}
	var chosen *Spec
	for i, v := range s.Variants {
		one, places := s.variant(i)
		c := checker{s: one, fail: func(path, format string, args ...any) error { return fail(places.of(path), format, args...) }}
		if err := c.check(); err != nil {
			return nil, err
		}
		if v.Name == variant || variant == "" && i == 0 {
			chosen = one
		}
	}
	if chosen == nil {
		return nil, &NoVariantError{fail("variants", "variant %.80q: want one of %s", variant, strings.Join(s.variantNames(), ", "))}
	}
	return chosen, nil
}

func (s *Spec) variantNames() []string {
	var all []string
	for _, v := range s.Variants {
		all = append(all, v.Name)
	}
	return all
}

// places say where in the document the items of a variant's lists stand, and its configuration.
type places struct {
	lists  map[string][]int
	config string // "" when it is the spec's
}

// of returns a path of the document for one of the variant: root.1.dir is root.2.dir when the variant lacks root.1.
func (p places) of(path string) string {
	list, rest, _ := strings.Cut(path, ".")
	if list == "config" && p.config != "" {
		return p.config + "." + rest
	}
	index, rest, more := strings.Cut(rest, ".")
	i, err := strconv.Atoi(index)
	if err != nil || i >= len(p.lists[list]) {
		return path
	}
	path = fmt.Sprintf("%s.%d", list, p.lists[list][i])
	if more {
		path += "." + rest
	}
	return path
}

// variant returns variant i alone, a spec as if the others were not there.
func (s *Spec) variant(i int) (*Spec, places) {
	v, one, p := s.Variants[i], *s, places{lists: map[string][]int{}}
	one.Variant, one.Variants = v.Name, nil
	if i > 0 {
		one.Name += "-" + v.Name
	}
	if v.Config != nil {
		one.Config, p.config = v.Config, fmt.Sprintf("variants.%d.config", i)
	}
	in := func(only []string) bool { return only == nil || slices.Contains(only, v.Name) }
	one.Root, p.lists["root"] = pick(s.Root, func(src Source) bool { return in(src.Only) })
	one.Steps, p.lists["steps"] = pick(s.Steps, func(step Step) bool { return in(step.Only) })
	one.Places = p.lists["root"]
	for i := range one.Root {
		one.Root[i].Only = nil
	}
	for i := range one.Steps {
		one.Steps[i].Only = nil
	}
	// What no variant names is kept, so that each refuses it.
	all, named := s.suiteNames(), one.suiteNames()
	one.Suites, p.lists["suites"] = pick(s.Suites, func(u Suite) bool {
		return slices.Contains(named, u.Name) || !slices.Contains(all, u.Name)
	})
	return &one, p
}

// pick returns the items that are wanted, and their places.
func pick[T any](list []T, want func(T) bool) (picked []T, at []int) {
	for i, x := range list {
		if want(x) {
			picked, at = append(picked, x), append(at, i)
		}
	}
	return picked, at
}

// checkVariants checks what distinguishes the variants.
func (c checker) checkVariants() error {
	if n := len(c.s.Variants); n > maxVariants || n == 0 && c.s.Variants != nil {
		return c.fail("variants", "variants: %d, want 1 to %d, or leave the key out", n, maxVariants)
	}
	names := c.s.variantNames()
	if err := c.together(); len(names) > 0 && err != nil {
		return err
	}
	for i, name := range names {
		at := fmt.Sprintf("variants.%d.name", i)
		if err := CheckVariant(name); err != nil {
			return c.fail(at, "%v", err)
		}
		if slices.Contains(names[:i], name) {
			return c.fail(at, "variant %q: twice", name)
		}
	}
	for i, src := range c.s.Root {
		if err := c.only(fmt.Sprintf("root.%d.only", i), src.Only, names); err != nil {
			return err
		}
	}
	for i, step := range c.s.Steps {
		if err := c.only(fmt.Sprintf("steps.%d.only", i), step.Only, names); err != nil {
			return err
		}
	}
	return nil
}

// together holds what the document has to the limits, which each variant could keep for itself.
func (c checker) together() error {
	for _, l := range []struct {
		list string
		n    int
		most int
	}{{"root", len(c.s.Root), maxSources}, {"steps", len(c.s.Steps), maxSteps}, {"suites", len(c.s.Suites), maxList}} {
		if l.n > l.most {
			return c.fail(l.list, "%s: %d, want at most %d of all variants together", l.list, l.n, l.most)
		}
	}
	return nil
}

// only checks the variants that something is for; nil is for all.
func (c checker) only(at string, only, names []string) error {
	switch {
	case only == nil:
		return nil
	case len(names) == 0:
		return c.fail(at, "only: this spec has no variants")
	case len(only) == 0:
		return c.fail(at, "only: names no variant: leave the key out when it is for all")
	}
	for i, name := range only {
		if !slices.Contains(names, name) || slices.Contains(only[:i], name) {
			return c.fail(fmt.Sprintf("%s.%d", at, i), "only: variant %.80q: want some of %s, each once", name, strings.Join(names, ", "))
		}
	}
	return nil
}
