package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/internal/scratch"
	"tally/measure"
	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/source"
	"tally/release"
	"tally/release/rebuild"
	"tally/release/sign"
)

func rebuildCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "rebuild",
		Usage:     "build a release again, compare every byte, say so signed and logged",
		ArgsUsage: "BUNDLE|OUT",
		Description: "Takes spec, lock and sources by digest (from --from, from beside the bundle, or from OUT), fetches packages by the lock's\n" +
			"hashes, builds, computes the reference values again, and compares every subject of the release: MATCH, DIFFER, MISSING or\n" +
			"EXTRA (a file that was not released). Exit 3 when anything but MATCH is in the table; then the inputs that differ are named,\n" +
			"and what differs in the files is explained as 'tally compare' does, for those released files that are at hand. What the\n" +
			"statement itself says otherwise (input digests first, command line, verity parameters) stands above that.\n" +
			"With --policy the bundle is verified first (exit 4 or 5); without it only bytes are compared, and the answer says so. What a policy says of\n" +
			"rebuilders is left aside: this is one.\n\n" + attestHelp + followHelp +
			"--json prints tally.rebuild/v1: reproduced, reason, subjects (name, status, want, got), inputs (kind, name, was, is),\n" +
			"stated (field, was, is), explanation (an object tally.compare/v1: a is the release, b the rebuild), notes,\n" +
			"attestation (result, bundle, payload_sha256, key_id, identity, log, log_index, referrer).\n\n" +
			"   tally rebuild minimal.sigstore.json --from https://releases.example/ -o again\n" +
			"   tally rebuild minimal.sigstore.json --from pub --policy policy.yaml --attest --key rebuilder.key -o reproduced.sigstore.json --log mine\n" +
			"   tally rebuild --follow https://releases.example/ --policy policy.yaml --state st --attest --key rebuilder.key --log mine",
		Flags: append(append([]cli.Flag{
			&cli.StringSliceFlag{Name: "from", Usage: "look for files by digest in `DIR|URL` of a published directory, or oci://HOST/PATH, before the bundle's own directory"},
			&cli.StringFlag{Name: "o", Usage: "keep the rebuilt image in the directory `OUT`; with --attest: write the statement's bundle to the file OUT"},
			&cli.StringFlag{Name: "keep", Usage: "keep the rebuilt image in the directory `OUT`, with --attest too"},
			&cli.StringFlag{Name: "lock", Usage: "build with the lock `FILE` in place of the release's, when an input of that is gone; the answer names what differs"},
			&cli.StringFlag{Name: "inputs", Usage: "take the inputs in `FILE` (tally inputs export) into the cache first"},
			&cli.IntFlag{Name: "jobs", Value: min(runtime.NumCPU(), 4), Usage: "unpack `N` packages at a time"},
		}, append(policyFlags(), append(attestFlags(), followFlags()...)...)...), fetchFlags()...),
		Action: func(c *cli.Context) error { return runRebuild(c, e) },
	}
}

func runRebuild(c *cli.Context, e *env) error {
	if c.IsSet("follow") {
		return rebuildFollow(c, e)
	}
	if err := wantArgs(c, "BUNDLE|OUT"); err != nil {
		return err
	}
	a, err := newAttester(c, e)
	if err != nil {
		return err
	}
	t, err := rebuildTarget(c, e)
	if err != nil {
		return err
	}
	if a != nil && t.statement == nil {
		return usagef("--attest wants a release's BUNDLE: %s is an output directory", c.Args().First())
	}
	if a != nil && a.registry != "" && !t.has(release.OCIManifest) {
		return fmt.Errorf("%s: names no %s, so no registry has it and --registry has nowhere to attach to", c.Args().First(), release.OCIManifest)
	}
	r, err := t.rebuild(c, e, a)
	if r != nil && exitCode(err) == exitDiffers {
		if answer := printRebuild(e, t, r); exitCode(answer) != exitDiffers {
			return answer
		}
		return err
	} else if err != nil {
		return err
	}
	return printRebuild(e, t, r)
}

// rebuild builds the target again and compares; a, unless it is nil, then signs the result. What is to be kept appears
// when all is done. With a verdict there is a report, too.
func (t *target) rebuild(c *cli.Context, e *env, a *attester) (*rebuild.Report, error) {
	dir, err := scratch.New("", "tally-rebuild")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	out, keep := filepath.Join(dir.Path, "out"), func() error { return nil }
	if kept := keptDir(c, a); kept != "" {
		d, err := createResult(kept)
		if err != nil {
			return nil, err
		}
		defer d.Abort()
		out, keep = d.Path, d.Commit
	}
	if err := t.build(c, e, dir.Path, out); err != nil {
		return nil, err
	}
	r, err := t.compare(c, e, out)
	if err == nil && a != nil {
		err = a.attest(c, e, t, r, out)
	}
	if err != nil && exitCode(err) != exitDiffers {
		return nil, err
	}
	if err := keep(); err != nil {
		return nil, err
	}
	return r, err
}

// keptDir is where the rebuilt image is to stay; "" for nowhere.
func keptDir(c *cli.Context, a *attester) string {
	if dir := c.String("keep"); dir != "" || a != nil {
		return dir
	}
	return c.String("o")
}

// compare holds the rebuild in out against the release.
func (t *target) compare(c *cli.Context, e *env, out string) (*rebuild.Report, error) {
	r, err := rebuild.Compare(c.Context, t.subjects, os.DirFS(out))
	if err != nil {
		return nil, err
	}
	if r.Reproduced {
		if err = t.contradicted(out); err != nil {
			r.Reproduced, r.Reason, r.Notes = false, string(release.BadStatement), []string{err.Error()}
		}
		return r, err
	}
	r.Inputs = t.inputDiffs(out)
	store, err := openStore(c)
	if err != nil {
		return nil, err
	}
	return r, t.explain(c.Context, e, r, out, store)
}

// build makes the image in a directory of its own, from nothing but what the release names.
func (t *target) build(c *cli.Context, e *env, tmp, out string) error {
	archive, err := t.sourceArchive(c.Context, tmp)
	if err != nil {
		return err
	}
	defer archive.Close()
	lockFile, err := t.lockFile(c, tmp)
	if err != nil {
		return err
	}
	dir := filepath.Join(tmp, "sources")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	spec, err := source.Extract(c.Context, archive, dir)
	if err != nil {
		return err
	}
	if c.String("lock") != "" {
		if err := sameVariant(lockFile, lockBeside(spec, "")); err != nil {
			return err
		}
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return err
	}
	b := &build{env: e, fetcher: f, jobs: max(1, c.Int("jobs")), environ: os.Environ(), inputs: c.String("inputs"), steps: source.StepOptions{Fresh: true, Log: e.stepLog}}
	e.logf("building again from spec %s, lock %s, sources %s", short(t.spec), short(t.lock), short(t.sources))
	if _, err := b.run(c.Context, specArg{file: spec, lock: lockFile, released: true}, out); err != nil {
		return err
	}
	if !t.has(release.ReferenceValues) {
		return nil // an output that nobody measured: there are no values to compare with
	}
	if err := remeasure(c.Context, out); err != nil || !t.has(release.OCIManifest) {
		return err
	}
	return sign.WriteOCI(c.Context, out)
}

func (t *target) has(subject string) bool {
	return slices.ContainsFunc(t.subjects, func(s rebuild.Subject) bool { return s.Name == subject })
}

// lockFile is the lock to build with; the release's is written to tmp.
func (t *target) lockFile(c *cli.Context, tmp string) (string, error) {
	if name := c.String("lock"); name != "" {
		return name, nil
	}
	var err error
	if t.lockRaw, err = t.get(c.Context, "image.lock", t.lock, lock.MaxLock); err != nil {
		return "", err
	}
	name := filepath.Join(tmp, "image.lock")
	return name, os.WriteFile(name, t.lockRaw, 0o644)
}

// sameVariant refuses a lock of another image than the release's, whose own the sources have: what that needs they lack.
func sameVariant(file, own string) error {
	var variants [2]string
	for i, name := range []string{file, own} {
		raw, err := readSmall(name, lock.MaxLock)
		if err != nil {
			return err
		}
		k, err := lock.Parse(raw, name)
		if err != nil {
			return err
		}
		variants[i] = cmp.Or(k.Variant, "none")
	}
	if variants[0] != variants[1] {
		return usagef("--lock %s: variant %s, the release is of %s", file, variants[0], variants[1])
	}
	return nil
}

func short(d release.Digest) string { return d.String()[:12] }

// remeasure computes the reference values from the rebuilt bytes, by our own code: equal artefacts with
// unequal values are a difference too.
func remeasure(ctx context.Context, out string) error {
	rv, err := measure.Image(ctx, os.DirFS(out), nil)
	if err != nil {
		return err
	}
	data, err := rv.Marshal()
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(out, release.ReferenceValues), data, 0o644)
}

// inputDiffs compares the inputs of the released manifest, where it can be had, with the rebuilt one's.
func (t *target) inputDiffs(out string) []rebuild.InputDiff {
	was, err := t.get(context.Background(), "manifest.json", t.manifest, mkimage.MaxManifest)
	if err != nil {
		return []rebuild.InputDiff{}
	}
	is, err := os.ReadFile(filepath.Join(out, "manifest.json"))
	if err != nil {
		return []rebuild.InputDiff{}
	}
	a, aerr := mkimage.ParseManifest(was)
	b, berr := mkimage.ParseManifest(is)
	if aerr != nil || berr != nil {
		return []rebuild.InputDiff{}
	}
	return rebuild.Inputs(a, b)
}

func printRebuild(e *env, t *target, r *rebuild.Report) error {
	if e.json {
		if err := e.printJSON(r); err != nil {
			return err
		}
	} else {
		printComparison(e, r)
		printWhy(e, r)
		if !t.verified {
			e.printf("signature and log: not checked (no --policy)\n")
		}
	}
	if a := r.Attestation; a != nil && !e.json {
		where := "not logged"
		if a.Index != nil {
			where = fmt.Sprintf("in log %s at index %d", a.Log, *a.Index)
		}
		e.printf("attested %s by %s, %s\n", a.Result, signedBy(a.KeyID, a.Identity), where)
		if a.Referrer != "" {
			e.printf("attached %s\n", a.Referrer)
		}
	}
	if !r.Reproduced {
		return verdict(exitDiffers, "bytes", "the rebuild differs from the release")
	}
	if !e.json {
		e.printf("REPRODUCED  %d of %d files are identical\n", len(r.Subjects), len(r.Subjects))
	}
	return nil
}
