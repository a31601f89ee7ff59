package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"tally/internal/atomicfile"
	"tally/measure"
	"tally/mkimage"
	"tally/mkimage/source"
	"tally/release"
	"tally/release/publish"
	"tally/release/rebuild"
	"tally/release/sign"
)

func rebuildCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "rebuild",
		Usage:     "build a release again and compare every byte",
		ArgsUsage: "BUNDLE|OUT",
		Description: "Takes spec, lock and sources by digest (from --from, from beside the bundle, or from OUT), fetches packages by the lock's\n" +
			"hashes, builds, computes the reference values again, and compares every subject of the release: MATCH, DIFFER, MISSING or\n" +
			"EXTRA (a file that was not released). Exit 3 when anything but MATCH is in the table; then the inputs that differ are named,\n" +
			"and what differs in the files is explained as 'tally compare' does, for those released files that are at hand. What the\n" +
			"statement itself says otherwise (input digests first, command line, verity parameters) stands above that.\n" +
			"With --policy the bundle is verified first (exit 4 or 5); without it only bytes are compared, and the answer says so.\n\n" +
			"--json prints tally.rebuild/v1: reproduced, reason, subjects (name, status, want, got), inputs (kind, name, was, is),\n" +
			"stated (field, was, is), explanation (an object tally.compare/v1: a is the release, b the rebuild), notes.\n\n" +
			"   tally rebuild minimal.sigstore.json --from pub -o again",
		Flags: append(append([]cli.Flag{
			&cli.StringSliceFlag{Name: "from", Usage: "look for files by digest in `DIR` first"},
			&cli.StringFlag{Name: "o", Usage: "keep the rebuilt image in the directory `OUT`"},
			&cli.StringFlag{Name: "lock", Usage: "build with the lock `FILE` in place of the release's, when an input of that is gone; the answer names what differs"},
			&cli.StringFlag{Name: "inputs", Usage: "take the inputs in `FILE` (tally inputs export) into the cache first"},
			&cli.IntFlag{Name: "jobs", Value: min(runtime.NumCPU(), 4), Usage: "unpack `N` packages at a time"},
		}, policyFlags()...), fetchFlags()...),
		Action: func(c *cli.Context) error { return runRebuild(c, e) },
	}
}

// A target is what a rebuild is held against.
type target struct {
	subjects            []rebuild.Subject
	spec, lock, sources release.Digest
	open                func(release.Digest) (io.ReadCloser, error)
	manifest            release.Digest
	verified            bool
	statement           *release.Statement // nil for an output directory
}

func runRebuild(c *cli.Context, e *env) error {
	if err := wantArgs(c, "BUNDLE|OUT"); err != nil {
		return err
	}
	t, err := rebuildTarget(c, e)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "tally-rebuild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out := c.String("o")
	if out == "" {
		out = filepath.Join(tmp, "out")
	}
	if err := t.build(c, e, tmp, out); err != nil {
		return err
	}
	r, err := rebuild.Compare(c.Context, t.subjects, os.DirFS(out))
	if err != nil {
		return err
	}
	if !r.Reproduced {
		r.Inputs = t.inputDiffs(out)
		store, err := openStore(c)
		if err != nil {
			return err
		}
		if err := t.explain(c.Context, e, r, out, store); err != nil {
			return err
		}
	}
	return printRebuild(e, t, r)
}

// rebuildTarget reads the statement of a bundle, or the manifest of an output directory.
func rebuildTarget(c *cli.Context, e *env) (*target, error) {
	arg := c.Args().First()
	if st, err := os.Stat(arg); err != nil {
		return nil, err
	} else if st.IsDir() {
		return outTarget(c.Context, arg)
	}
	data, err := readBundle(e, arg)
	if err != nil {
		return nil, err
	}
	var s *release.Statement
	verified := c.String("policy") != ""
	if verified {
		p, err := loadPolicy(c)
		if err != nil {
			return nil, err
		}
		r, err := release.Verify(data, &p.Release, time.Now())
		if err != nil {
			return nil, printVerification(e, r, err)
		}
		s = r.Statement
	} else {
		b, err := release.ParseBundle(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
		if s, err = release.ParseStatement(b.Envelope.Payload); err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
	}
	dirs := append(c.StringSlice("from"), filepath.Dir(arg))
	t := &target{verified: verified, statement: s, spec: s.Predicate.Inputs.Spec, lock: s.Predicate.Inputs.Lock, sources: s.Predicate.Inputs.Sources,
		open: func(d release.Digest) (io.ReadCloser, error) { return publish.OpenByDigest(d, dirs...) }}
	for _, sub := range s.Subject {
		t.subjects = append(t.subjects, rebuild.Subject{Name: sub.Name, SHA256: sub.Digest.SHA256.String()})
	}
	t.manifest, _ = s.SubjectDigest(release.Manifest)
	return t, nil
}

// outTarget takes the files of an output directory as they are, and those that are gone as its manifest has them.
func outTarget(ctx context.Context, dir string) (*target, error) {
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, err
	}
	m, err := mkimage.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	t := &target{spec: release.Digest(m.Spec.SHA256), lock: release.Digest(m.Lock.SHA256), sources: release.Digest(m.Sources.SHA256)}
	files := map[release.Digest]string{}
	for _, a := range m.Artifacts {
		name := filepath.Join(dir, filepath.FromSlash(a.Name))
		d, _, err := sign.HashFile(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			d, err = release.Digest(a.SHA256), nil
		}
		if err != nil {
			return nil, err
		}
		t.subjects = append(t.subjects, rebuild.Subject{Name: a.Name, SHA256: d.String()})
		files[d] = name
	}
	for _, name := range []string{release.Manifest, release.ReferenceValues} {
		d, _, err := sign.HashFile(ctx, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && name == release.ReferenceValues {
			continue
		} else if err != nil {
			return nil, err
		}
		t.subjects = append(t.subjects, rebuild.Subject{Name: name, SHA256: d.String()})
		files[d] = filepath.Join(dir, name)
		if name == release.Manifest {
			t.manifest = d
		}
	}
	t.open = func(d release.Digest) (io.ReadCloser, error) { return os.Open(files[d]) }
	return t, nil
}

// get returns a file by its digest, checked.
func (t *target) get(ctx context.Context, what string, d release.Digest) ([]byte, error) {
	r, err := t.open(d)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", what, err), "say where the release's files are with --from DIR")
	}
	defer r.Close()
	var b bytes.Buffer
	got, err := sign.HashCopy(ctx, &b, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if got != d {
		return nil, verdict(exitUnverified, "artifact", "%s: SHA-256 %s, want %s", what, got, d)
	}
	return b.Bytes(), nil
}

// build makes the image in a directory of its own, from nothing but what the release names.
func (t *target) build(c *cli.Context, e *env, tmp, out string) error {
	sources, err := t.get(c.Context, "sources.tar", t.sources)
	if err != nil {
		return err
	}
	raw, err := t.lockFile(c)
	if err != nil {
		return err
	}
	dir := filepath.Join(tmp, "sources")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	spec, err := source.Extract(c.Context, bytes.NewReader(sources), dir)
	if err != nil {
		return err
	}
	lockFile := filepath.Join(tmp, "image.lock")
	if err := os.WriteFile(lockFile, raw, 0o644); err != nil {
		return err
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return err
	}
	b := &build{env: e, fetcher: f, jobs: max(1, c.Int("jobs")), environ: os.Environ(), inputs: c.String("inputs"), steps: source.StepOptions{Fresh: true, Log: e.stepLog}}
	e.logf("building again from spec %s, lock %s, sources %s", short(t.spec), short(t.lock), short(t.sources))
	if _, err := b.run(c.Context, spec, lockFile, out); err != nil {
		return err
	}
	if !slices.ContainsFunc(t.subjects, func(s rebuild.Subject) bool { return s.Name == release.ReferenceValues }) {
		return nil // an output that nobody measured: there are no values to compare with
	}
	return remeasure(c.Context, out)
}

// lockFile returns the lock to build with.
func (t *target) lockFile(c *cli.Context) ([]byte, error) {
	if name := c.String("lock"); name != "" {
		return os.ReadFile(name)
	}
	return t.get(c.Context, "image.lock", t.lock)
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
	was, err := t.get(context.Background(), "manifest.json", t.manifest)
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
	if !r.Reproduced {
		return verdict(exitDiffers, "bytes", "the rebuild differs from the release")
	}
	if !e.json {
		e.printf("REPRODUCED  %d of %d files are identical\n", len(r.Subjects), len(r.Subjects))
	}
	return nil
}
