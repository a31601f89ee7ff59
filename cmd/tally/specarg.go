package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"tally/internal/cli"
	"tally/mkimage/lock"
	"tally/mkimage/source"
	"tally/mkimage/spec"
)

// A specArg is a spec as a command line names it, with the lock that goes with it.
type specArg struct {
	file     string
	variant  string // "" when none is named
	lock     string
	released bool // they are a release's, unpacked: nobody can make its lock anew
}

// specFlags say which lock of a spec is meant.
func specFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lock", Usage: "use the lock `FILE` (default: image.lock beside SPEC)"},
		&cli.StringFlag{Name: "variant", Usage: "want the variant `NAME` of SPEC, whose lock is image.NAME.lock (default: what the lock is of)"},
	}
}

// specArgOf reads SPEC, --variant and the flag that names the lock.
func specArgOf(c *cli.Context, lockFlag string) (specArg, error) {
	a := specArg{file: c.Args().First(), variant: c.String("variant"), lock: c.String(lockFlag)}
	if c.IsSet("variant") {
		if err := spec.CheckVariant(a.variant); err != nil {
			return a, usagef("--variant: %v", err)
		}
	}
	a.lock = cmp.Or(a.lock, lockBeside(a.file, a.variant))
	return a, nil
}

// lockBeside is the lock that goes with a spec when none is named.
func lockBeside(spec, variant string) string {
	name := lock.FileName
	if variant != "" {
		ext := filepath.Ext(name)
		name = strings.TrimSuffix(name, ext) + "." + variant + ext
	}
	return filepath.Join(filepath.Dir(spec), name)
}

// lockCommand is the command that a hint says to run: it makes the lock that a names.
func (a specArg) lockCommand() string {
	plain, typed := "tally lock "+a.file, "tally lock "+shellWord(a.file)
	if a.variant != "" {
		plain, typed = plain+" --variant "+a.variant, typed+" --variant "+a.variant
	}
	if a.lock != lockBeside(a.file, a.variant) {
		plain, typed = plain+" -o "+a.lock, typed+" -o "+shellWord(a.lock)
	}
	if plain != typed {
		return typed // its quotes are enough
	}
	return "'" + plain + "'"
}

// open opens the spec and reads the lock. A variant that was not asked for by name is then what the lock is of.
func (a *specArg) open(environ []string) (*source.Local, *lock.Lock, []byte, error) {
	asked := a.variant
	k, raw, noLock := a.read()
	l, err := openSpec(a.file, a.variant, environ)
	if errors.As(err, new(*spec.NoVariantError)) && a.variant != asked {
		without := *a
		without.variant = ""
		err = explainStale(fmt.Errorf("%s: %w", a.lock, &source.StaleError{What: "variant " + a.variant, Was: a.variant}), without)
	}
	return l, k, raw, cmp.Or(err, noLock) // a mistake in the spec comes first: with one, no lock can be made
}

// read reads the lock; the hints tell how to make one.
func (a *specArg) read() (*lock.Lock, []byte, error) {
	raw, err := readSmall(a.lock, lock.MaxLock)
	var k *lock.Lock
	if err == nil {
		k, err = lock.Parse(raw, a.lock)
	}
	switch {
	case err != nil && a.released:
		return nil, nil, err
	case err != nil:
		return nil, nil, withHint(err, "make it with %s", a.lockCommand())
	case a.variant != "" && k.Variant == "":
		return nil, nil, usagef("--variant %s: %s is of a spec without variants", a.variant, a.lock)
	case a.variant != "" && k.Variant != a.variant:
		return nil, nil, usagef("--variant %s: %s is of variant %s", a.variant, a.lock, k.Variant)
	}
	a.variant = k.Variant
	return k, raw, nil
}
