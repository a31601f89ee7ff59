package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/source"
	"tally/mkimage/spec"
)

func lockCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "resolve and pin every input of a spec",
		ArgsUsage: "SPEC",
		Description: "Writes image.lock beside SPEC. The only command that reads a package index: it verifies the suite's InRelease\n" +
			"signature against the pinned Debian archive keys (or the keyring that SPEC names for an archive that is not Debian's),\n" +
			"the package lists by the hashes that gives, and pins each package by SHA-256, size, pool path and snapshot timestamp;\n" +
			"container images by every blob; local files, directories and Go sources by content; Go modules and the Go toolchain by the checksums of the module\n" +
			"system. The same index gives the same lock, byte for byte. An index whose Valid-Until has passed is refused, unless\n" +
			"SPEC says valid-until: ignore for that suite; the lock states the policy and the date.\n\n" +
			"A registry is asked with the credentials of the docker configuration (DOCKER_CONFIG or ~/.docker/config.json: auths,\n" +
			"credHelpers, credsStore), over TLS, and over plain HTTP on this machine alone.\n\n" +
			"A spec with variants is locked one variant at a time, and the lock names it: tally build then needs --lock FILE or\n" +
			"--variant NAME alone.\n\n" +
			"--update PACKAGE starts from the lock that is there: PACKAGE gets today's version, with it what that version needs,\n" +
			"and everything else stays as it is. Local inputs must be what the lock pins.\n\n" +
			"Where an archive that is not Debian's is, --mirror NAME=URL says, or archives (name, mirrors) in the user's settings,\n" +
			"or apt's sources.list.d/NAME.list or NAME.sources.\n\n" +
			"--json prints the lock itself (tally.lock/v1, mkimage/lock).\n\n" +
			"   tally lock image.yaml --mirror http://mirror.example/debian\n" +
			"   tally lock image.yaml --update openssl",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "write the lock to `FILE` (default: image.lock beside SPEC)"},
			&cli.StringFlag{Name: "variant", Usage: "pin the variant `NAME` of SPEC, in image.NAME.lock unless -o says where (default: the first, in image.lock)"},
			&cli.StringSliceFlag{Name: "update", Usage: "take today's version of `PACKAGE` into the lock that is there, and change no more than that needs"},
		}, fetchFlags()...),
		Action:      func(c *cli.Context) error { return runLock(c, e) },
		Subcommands: []*cli.Command{lockDiffCommand(e)},
	}
}

func runLock(c *cli.Context, e *env) error {
	if err := wantArgs(c, "SPEC"); err != nil {
		return err
	}
	a, err := specArgOf(c, "o")
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
	x := &lock.Indexer{Fetcher: f, Keys: keys, Now: time.Now(), Arch: "amd64"}
	k, err := makeLock(c.Context, x, a, c.StringSlice("update"))
	if errors.Is(err, lock.ErrNoMirror) {
		return withHint(err, "give --mirror URL (NAME=URL for an archive that is not Debian's), or name one in the user's settings or the machine's apt configuration")
	} else if err != nil {
		return err
	}
	data, err := k.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(a.lock, data, 0o644); err != nil {
		return err
	}
	if e.json {
		e.printf("%s", data)
		return nil
	}
	printLock(e, k, a.lock)
	return nil
}

// makeLock reads the spec and pins what it names: local inputs first, because a mistake there is found
// without the network. With names to update, it starts from the lock that is there.
func makeLock(ctx context.Context, x *lock.Indexer, a specArg, update []string) (k *lock.Lock, err error) {
	var l *source.Local
	var old *lock.Lock
	if len(update) > 0 {
		l, old, _, err = a.open(os.Environ())
	} else {
		l, err = openSpec(a.file, a.variant, os.Environ())
	}
	if err != nil {
		return nil, err
	}
	x.ReadFile = l.ReadFile
	l.GoProxy, l.Offline = x.Fetcher.Store.GoProxy(), x.Fetcher.Places.Offline
	if old != nil {
		return updateLock(ctx, x, l, a, old, update)
	}
	k = &lock.Lock{Arch: x.Arch}
	if err := l.Pin(ctx, k); err != nil {
		return nil, err
	}
	if err := x.Images(ctx, l.Spec, k); err != nil {
		return nil, explainDenied(err)
	}
	return k, x.Debian(ctx, l.Spec, k)
}

// explainDenied adds what the user can do about a registry that wants credentials.
func explainDenied(err error) error {
	var status *lock.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		return withHint(err, "log in with 'docker login', or name a directory with a docker config.json in DOCKER_CONFIG")
	}
	return err
}

func updateLock(ctx context.Context, x *lock.Indexer, l *source.Local, a specArg, old *lock.Lock, names []string) (*lock.Lock, error) {
	if err := l.Check(ctx, old); err != nil {
		return nil, withHint(err, "--update changes packages alone: pin everything as it is now with %s", a.lockCommand())
	}
	k := *old
	return &k, x.Update(ctx, l.Spec, old, names, &k)
}

func printLock(e *env, k *lock.Lock, out string) {
	for _, s := range k.Suites {
		e.printf("suite %s of %s, signed by %d archive key(s)%s\n", s.Name, s.Date, len(s.Signers), validity(s))
	}
	for _, t := range k.Toolchains {
		e.printf("toolchain %s for %s\n", t.Version, t.Platform)
	}
	for _, o := range k.OCI {
		e.printf("image %s with %d layers\n", o.Name(), len(o.Layers))
	}
	for _, m := range k.Models {
		e.printf("model file %s (%d bytes)\n", m.Name, m.Size)
	}
	e.printf("%d packages, %d files, %d directories, %d Go programs with %d modules\n", len(k.Packages), len(k.Files), len(k.Dirs), len(k.Go), len(k.Modules))
	e.printf("%s\n", out)
}

// validity says what the spec overlooks in an index.
func validity(s lock.Suite) string {
	if s.Policy == spec.Ignore && s.ValidUntil != "" {
		return ", valid until " + s.ValidUntil + ", which the spec ignores"
	}
	return ""
}
