package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/mkimage"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
	"tally/release/rebuild"
)

// commit is passed in by the linker (-X main.commit=...): rebuild statements name it.
var commit string

const attestHelp = "With --attest the result is signed: a statement (tag:tallystick,2026:rebuild/v1, see release/SPEC.md) that names every subject, the\n" +
	"digests of spec, lock and sources, the commit of tally, and of each input whether its chain to a signed index was checked now (index) or only\n" +
	"its hash (hash). With --log it is logged too, in the release's log or in one of your own, and with --registry attached\n" +
	"to the release in a container registry besides, where 'tally release fetch' and stock cosign find it. That the rebuild differs is signed only with\n" +
	"--mismatch: clients that name you then refuse the release.\n" +
	"Policies name a rebuilder by key, or with --keyless by identity (as 'tally release sign'); there the token is asked for at each signature.\n\n"

func attestFlags() []cli.Flag {
	return append(append(passwordFlags(), keylessFlags()...),
		&cli.BoolFlag{Name: "attest", Usage: "sign a statement that the release was reproduced"},
		&cli.BoolFlag{Name: "mismatch", Usage: "with --attest: sign one that it was not, too"},
		&cli.StringFlag{Name: "key", Usage: "with --attest: the rebuilder's signing key, a `FILE` or NAME://ID"},
		&cli.StringFlag{Name: "log", Usage: "with --attest: log the statement in the log `DIR`"},
		&cli.StringFlag{Name: "log-key", Usage: "the log's private key `FILE` (default: DIR.key)"},
		&cli.StringFlag{Name: "registry", Usage: "with --log: also attach the statement to the release in the container registry's repository `HOST/PATH`"},
		&cli.StringFlag{Name: "tally-commit", Usage: "the `COMMIT` this tally was built from, in hex (default: what it was built with)"})
}

// An attester signs what came of a rebuild.
type attester struct {
	seal      sealer
	tally     release.TallyBuild
	mismatch  bool
	log, file string // either may be empty, not both
	logKey    string
	registry  string // HOST/PATH or empty
}

// newAttester reads the flags, before anything is built; without --attest it returns nil.
func newAttester(c *cli.Context, e *env) (*attester, error) {
	if !c.IsSet("follow") && (c.IsSet("once") || c.IsSet("every")) {
		return nil, usagef("--once goes with --follow, and so does --every")
	}
	if !c.Bool("attest") {
		for _, name := range append([]string{"mismatch", "key", "log", "log-key", "registry", "tally-commit", "keyless"}, keylessFlagNames...) {
			if c.IsSet(name) {
				return nil, usagef("--%s goes with --attest", name)
			}
		}
		return nil, nil
	}
	if err := checkSigner(c); err != nil {
		return nil, err
	}
	a := &attester{mismatch: c.Bool("mismatch"), log: strings.TrimRight(c.String("log"), "/"), file: c.String("o"), registry: c.String("registry")}
	a.logKey = firstOf(c.String("log-key"), a.log+".key")
	if a.log == "" && a.file == "" {
		return nil, usagef("--attest wants -o FILE, --log DIR or both")
	}
	if a.registry != "" && a.log == "" {
		return nil, usagef("--registry goes with --log: nobody counts a statement that is in no log")
	}
	if c.IsSet("lock") {
		return nil, usagef("--attest is about the release's own lock: it excludes --lock")
	}
	a.tally = release.TallyBuild{Version: version, Commit: firstOf(c.String("tally-commit"), commit, builtFrom())}
	if n := len(a.tally.Commit); n != 40 && n != 64 || strings.Trim(a.tally.Commit, "0123456789abcdef") != "" {
		return nil, usagef("commit of tally %.80q: want 40 or 64 hex digits: say them with --tally-commit", a.tally.Commit)
	}
	var err error
	a.seal, err = newSealer(c, e)
	return a, err
}

// builtFrom is the commit that the go command noted, if it did and nothing was changed since.
func builtFrom() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if set["vcs.modified"] != "false" {
		return ""
	}
	return set["vcs.revision"]
}

// attest signs the result of a rebuild in out, logs and writes it.
func (a *attester) attest(c *cli.Context, e *env, t *target, r *rebuild.Report, out string) error {
	if !r.Reproduced && !a.mismatch {
		e.logf("nothing was signed: the rebuild differs, and --mismatch was not given")
		return nil
	}
	data, err := os.ReadFile(filepath.Join(out, release.Manifest))
	if err != nil {
		return err
	}
	m, err := mkimage.ParseManifest(data)
	if err != nil {
		return err
	}
	index, err := t.chain(c, e)
	if err != nil {
		return err
	}
	s, err := rebuild.Statement(t.statement, t.payload, r, m, index, a.tally)
	if err != nil {
		return err
	}
	payload, err := s.Marshal()
	if err != nil {
		return err
	}
	b, who, err := a.seal(payload)
	if err != nil {
		return err
	}
	r.Attestation = &rebuild.Attestation{Result: s.Predicate.Result, Bundle: a.file, Payload: release.PayloadDigest(b), KeyID: who.key.ID(), Identity: who.identity}
	return a.store(c.Context, e, b, who, r.Attestation)
}

// store logs the bundle, where a log is named, and writes it to the file.
func (a *attester) store(ctx context.Context, e *env, b *release.Bundle, who signer, answer *rebuild.Attestation) error {
	data, err := b.Marshal()
	if err != nil {
		return err
	}
	if a.log != "" {
		l, err := tlog.Open(ctx, a.log, a.logKey, time.Now, e.logger())
		if err != nil {
			return err
		}
		var p *publish.Published
		if err = finishBegun(ctx, e, l, data); err == nil {
			p, err = publish.Rebuild(ctx, l, data, who.key)
		}
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		answer.Log, answer.Index, data = l.Key().Origin(), &p.Index, p.Bundle
	}
	if a.registry != "" {
		if answer.Referrer, err = registryAt(a.registry).Rebuild(ctx, data, who.key); err != nil {
			return withHint(fmt.Errorf("%w (logged in %s at index %d; no file was written)", err, answer.Log, *answer.Index), "the same command again attaches what was logged")
		}
	}
	if a.file == "" {
		return nil
	}
	return atomicfile.WriteFile(a.file, data, 0o644)
}

// chain checks which of the lock's packages a signed index vouches for. An index that cannot be had any more leaves
// its packages to their hashes; one that contradicts the lock is an error.
func (t *target) chain(c *cli.Context, e *env) (map[string]bool, error) {
	k, err := lock.Parse(t.lockRaw, "image.lock")
	if err != nil {
		return nil, err
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return nil, err
	}
	if err := f.Indexes(c.Context, k); err != nil {
		e.logf("not every signed index can be had: %v", err)
	}
	keys, err := deb.DebianKeyring()
	if err != nil {
		return nil, err
	}
	unchecked, err := lock.Chain(c.Context, k, f.Store, keys)
	if err != nil {
		return nil, verdict(exitUnverified, "index", "%w", err)
	}
	index := map[string]bool{}
	for _, p := range k.Packages {
		if !slices.Contains(unchecked, p.Suite) {
			index[rebuild.Key(mkimage.Input{Kind: "package", Name: p.Name, Version: p.Version})] = true
		}
	}
	return index, nil
}
