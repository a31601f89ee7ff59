package source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"tally/mkimage/lock"
)

// A digest names a list of files by content: SHA-256 over a title, a subject and, for each file, one line
// of hash and quoted name.
type digest struct{ h hash.Hash }

func newDigest(title, subject string) digest {
	d := digest{sha256.New()}
	fmt.Fprintf(d.h, "%s\n%q\n", title, subject)
	return d
}

func (d digest) add(name string, o lock.Object) { fmt.Fprintf(d.h, "%s %q\n", o.SHA256, name) }

func (d digest) sum() lock.Hash { return lock.Hash(d.h.Sum(nil)) }

// A StaleError says that a local input is not what the lock pinned.
type StaleError struct {
	What     string // e.g. "go source ./cmd/init"
	Was, Now string // hash in the lock and of the input; "" where there is none
}

func (e *StaleError) Error() string {
	switch {
	case e.Was == "":
		return e.What + " is not in the lock"
	case e.Now == "":
		return e.What + " is in the lock, but the spec does not name it"
	}
	return fmt.Sprintf("%s is not what the lock pinned: it is %s now, was %s", e.What, e.Now, e.Was)
}

// Check compares every local input with the lock and names the first that differs in a StaleError. The
// toolchain is compared where the lock knows this machine's platform; elsewhere the standard library's
// source is, and the go command has checked the release against the checksum database.
func (l *Local) Check(ctx context.Context, k *lock.Lock) error {
	if now := lock.Hash(sha256.Sum256(l.Raw)); now != k.Spec {
		return &StaleError{"the spec", k.Spec.String(), now.String()}
	}
	if l.Spec.Variant != k.Variant {
		return &StaleError{"the variant", k.Variant, l.Spec.Variant}
	}
	if err := l.checkToolchains(ctx, k); err != nil {
		return err
	}
	var now lock.Lock
	if err := l.Pin(ctx, &now); err != nil {
		return err
	}
	if err := l.checkImages(&now, k); err != nil {
		return err
	}
	if err := l.checkModels(k); err != nil {
		return err
	}
	for _, f := range []func() *StaleError{
		func() *StaleError {
			return firstDiff("file ", now.Files, k.Files, func(f lock.File) (string, string) { return f.Path, f.SHA256.String() })
		},
		func() *StaleError {
			return firstDiff("directory ", now.Dirs, k.Dirs, func(d lock.Dir) (string, string) { return d.Path, d.Tree.String() })
		},
		func() *StaleError {
			return firstDiff("module ", now.Modules, k.Modules, func(m lock.Module) (string, string) { return m.Path, m.Version + " " + m.Sum })
		},
		func() *StaleError {
			return firstDiff("go source ", now.Go, k.Go, func(g lock.Go) (string, string) { return g.Package, g.Source.String() })
		},
		func() *StaleError {
			return firstDiff("standard library of ", now.Go, k.Go, func(g lock.Go) (string, string) { return g.Package, g.Toolchain + " " + g.Standard.String() })
		},
	} {
		if e := f(); e != nil {
			return e
		}
	}
	return nil
}

// checkToolchains makes sure of the pinned release before anything is listed or built with it.
func (l *Local) checkToolchains(ctx context.Context, k *lock.Lock) error {
	for _, g := range l.Spec.Programs() {
		c, err := l.command(ctx, g)
		if err != nil {
			return fmt.Errorf("go source %s: %w", g.Package, err)
		}
		known := false
		for _, t := range k.Toolchains {
			known = known || t.Version == c.Toolchain
			if t.Version != c.Toolchain || t.Platform != c.Platform {
				continue
			}
			if err := c.Verify(ctx, t.Sum); err != nil {
				return err
			}
		}
		if !known {
			return &StaleError{What: "toolchain " + c.Toolchain}
		}
	}
	return nil
}

// firstDiff returns the first input whose value is not the same in both lists.
func firstDiff[T comparable](kind string, now, was []T, key func(T) (name, value string)) *StaleError {
	find := func(list []T, name string) string {
		i := slices.IndexFunc(list, func(x T) bool { n, _ := key(x); return n == name })
		if i < 0 {
			return ""
		}
		_, value := key(list[i])
		return value
	}
	for _, x := range now {
		name, value := key(x)
		if old := find(was, name); old != value {
			return &StaleError{kind + name, old, value}
		}
	}
	for _, x := range was {
		if name, value := key(x); find(now, name) == "" {
			return &StaleError{kind + name, value, ""}
		}
	}
	return nil
}
