package main

import (
	"path/filepath"
	"strings"

	"tally/internal/cli"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
)

// A specArg is a spec as a command line names it, with the lock that goes with it.
type specArg struct {
	file    string
	variant string // "" when none is named
	lock    string
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
	a := specArg{c.Args().First(), c.String("variant"), c.String(lockFlag)}
	name := lock.FileName
	if c.IsSet("variant") {
		if err := spec.CheckVariant(a.variant); err != nil {
			return a, usagef("--variant: %v", err)
		}
		base, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
		name = base + "." + a.variant + ext
	}
	if a.lock == "" {
		a.lock = filepath.Join(filepath.Dir(a.file), name)
	}
	return a, nil
}

// lockCommand is the command that a hint says to run.
func (a specArg) lockCommand() string {
	word, more := shellWord(a.file), ""
	if a.variant != "" {
		more = " --variant " + a.variant
	}
	if word != a.file {
		return "tally lock " + word + more // its quotes are enough
	}
	return "'tally lock " + a.file + more + "'"
}

// read reads the lock; the hints tell how to make one. What was not asked for by name is then what the lock is of.
func (a *specArg) read() (*lock.Lock, []byte, error) {
	raw, err := readSmall(a.lock, lock.MaxLock)
	var k *lock.Lock
	if err == nil {
		k, err = lock.Parse(raw, a.lock)
	}
	switch {
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
