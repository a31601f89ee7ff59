package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"tally/internal/atomicfile"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/source"
)

func lockCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "resolve and pin every input of a spec",
		ArgsUsage: "SPEC",
		Description: "Writes image.lock beside SPEC. The only command that reads a package index: it verifies the suite's InRelease\n" +
			"signature against the pinned Debian archive keys, the package lists by the hashes that gives, and pins each package by\n" +
			"SHA-256, size, pool path and snapshot timestamp; local files, directories and Go sources by content.\n\n" +
			"--json prints the lock itself (tally.lock/v1, mkimage/lock).",
		Flags:  append([]cli.Flag{&cli.StringFlag{Name: "o", Usage: "write the lock to `FILE`"}}, fetchFlags()...),
		Action: func(c *cli.Context) error { return runLock(c, e) },
	}
}

func runLock(c *cli.Context, e *env) error {
	if err := wantArgs(c, "SPEC"); err != nil {
		return err
	}
	l, err := source.Open(c.Args().First(), os.Environ())
	if err != nil {
		return err
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return err
	}
	keys, err := deb.DebianKeyring()
	if err != nil {
		return err
	}
	k := &lock.Lock{Arch: "amd64"}
	x := &lock.Indexer{Fetcher: f, Keys: keys, Now: time.Now(), Arch: k.Arch}
	if err := x.Debian(c.Context, l.Spec, k); err != nil {
		return err
	}
	if err := l.Pin(c.Context, k); err != nil {
		return err
	}
	data, err := k.Marshal()
	if err != nil {
		return err
	}
	out := c.String("o")
	if out == "" {
		out = lockBeside(c.Args().First())
	}
	if err := atomicfile.WriteFile(out, data, 0o644); err != nil {
		return err
	}
	if e.json {
		e.printf("%s", data)
		return nil
	}
	for _, s := range k.Suites {
		e.printf("suite %s of %s, signed by %d archive keys\n", s.Name, s.Date, len(s.Signers))
	}
	e.printf("%d packages, %d files, %d directories, %d Go programs with %d modules, %s\n", len(k.Packages), len(k.Files), len(k.Dirs), len(k.Go), len(k.Modules), k.Toolchain)
	e.printf("%s\n", out)
	return nil
}

// lockBeside is the lock that goes with a spec when none is named.
func lockBeside(spec string) string { return filepath.Join(filepath.Dir(spec), "image.lock") }
