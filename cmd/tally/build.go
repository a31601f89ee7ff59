package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/internal/scratch"
	"tally/internal/strictyaml"
	"tally/measure"
	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/source"
	"tally/mkimage/steps"
)

func buildCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "build",
		Usage:     "build an image from a spec and its lock",
		ArgsUsage: "SPEC",
		Description: "Writes disk.raw, uki.efi, vmlinuz, initrd, cmdline, firmware/NAME.fd, models/NAME.raw, image.yaml, image.lock,\n" +
			"sources.tar, sbom.spdx.json (SPDX 2.3) and manifest.json to OUT, and disk.qcow2 and disk.tar.gz (for Google Compute Engine) when the spec names them under outputs.\n" +
			"OUT must be absent, empty or an earlier result. Nothing is half-written: OUT appears whole.\n" +
			"Packages are fetched by the lock's hashes alone, local inputs must be what the lock pinned. No root, no chroot, no\n" +
			"maintainer script; the pinned go command is the one program run, beside the build steps of SPEC.\n\n" +
			"Build steps (`steps:` in SPEC) run without root in Linux namespaces, with no network and no host files; their outputs are\n" +
			"kept in the cache by what they depend on, and what they say goes to stderr.\n\n" +
			"--twice builds again under another directory, umask, time zone, locale and GOMAXPROCS, runs every build step a second\n" +
			"time with one CPU, random addresses, other process numbers and files in another order, and compares (exit 3). What\n" +
			"the cache has of build steps is then not used.\n\n" +
			"--json prints the manifest (tally.manifest/v1, mkimage), and when the second build of --twice differs tally.rebuild/v1, as rebuild does.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "write to the directory `OUT`", Required: true},
			&cli.IntFlag{Name: "jobs", Value: min(runtime.NumCPU(), 4), Usage: "unpack `N` packages at a time"},
			&cli.BoolFlag{Name: "twice", Usage: "build again under a changed environment and compare"},
			&cli.StringFlag{Name: "inputs", Usage: "take the inputs in `FILE` (tally inputs export) into the cache first"},
		}, append(specFlags(), fetchFlags()...)...),
		Action: func(c *cli.Context) error { return runBuild(c, e) },
	}
}

func runBuild(c *cli.Context, e *env) error {
	if err := wantArgs(c, "SPEC"); err != nil {
		return err
	}
	a, err := specArgOf(c, "lock")
	if err != nil {
		return err
	}
	if c.Int("jobs") < 1 {
		return usagef("--jobs %d: want at least 1", c.Int("jobs"))
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return err
	}
	b := &build{env: e, fetcher: f, jobs: c.Int("jobs"), environ: os.Environ(), inputs: c.String("inputs"),
		steps: source.StepOptions{Fresh: c.Bool("twice"), Log: e.stepLog}}
	m, err := b.into(c, a, c.String("o"))
	if err != nil {
		return err
	}
	return printManifest(e, m, c.String("o"))
}

// into builds a into out, which appears when all is done: with --twice, when the second build is compared.
func (b *build) into(c *cli.Context, a specArg, out string) (*mkimage.Manifest, error) {
	d, err := createResult(out)
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	m, err := b.run(c.Context, a, d.Path)
	if err == nil && c.Bool("twice") {
		err = b.again(c.Context, b.env, a, d.Path, m)
	}
	if err != nil && exitCode(err) != exitDiffers {
		return nil, err
	}
	if err := d.Commit(); err != nil {
		return nil, err
	}
	return m, err
}

// createResult is mkimage's; a directory of somebody else's is a mistake in the command line.
func createResult(out string) (*atomicfile.Dir, error) {
	d, err := mkimage.CreateResult(out)
	if errors.Is(err, mkimage.ErrForeign) {
		err = usagef("%w", err)
	}
	return d, err
}

// A build is one run of the builder with all it needs from outside.
type build struct {
	env     *env
	fetcher *lock.Fetcher
	jobs    int
	environ []string
	inputs  string // an inputs file to import first, or ""
	steps   source.StepOptions
}

// stepLog shows what the command of a build step says.
func (e *env) stepLog(step, line string) { e.logf("step %s: %s", step, line) }

// openSpec opens a spec. Its platforms are opaque to the builder, so they are held to their rules here: a mistake in
// them would show after the build only.
func openSpec(path, variant string, environ []string) (*source.Local, error) {
	l, err := source.Open(path, variant, environ)
	if err != nil || l.Spec.Platforms == nil || string(l.Spec.Platforms) == "[]" {
		return l, err
	}
	if _, err := measure.ParsePlatforms(l.Spec.Platforms); err != nil {
		return nil, &strictyaml.Error{File: path, Msg: "platforms: " + err.Error()}
	}
	return l, nil
}

// run builds a into out.
func (b *build) run(ctx context.Context, a specArg, out string) (*mkimage.Manifest, error) {
	l, k, raw, err := a.open(b.environ)
	if err != nil {
		return nil, err
	}
	l.GoProxy, l.Offline, l.Steps = b.fetcher.Store.GoProxy(), b.fetcher.Places.Offline, b.steps
	if b.inputs != "" {
		if _, _, err := importInputs(ctx, b.env, b.inputs, k, b.fetcher.Store); err != nil {
			return nil, err
		}
		b.inputs = "" // once is enough for --twice
	}
	if err := l.Check(ctx, k); err != nil {
		err = fmt.Errorf("%s: %w", a.lock, err)
		if dir := sourceAround(l, out); dir != "" {
			return nil, withHint(err, "the result would lie in %s, which the spec takes into the image: want another OUT", dir)
		}
		return nil, explainStale(err, a)
	}
	if err := b.fetcher.All(ctx, k); err != nil {
		return nil, explainGone(err, a)
	}
	dir, err := scratch.New("", "tally-build")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	in, err := l.Assemble(ctx, k, raw, b.fetcher.Store, dir.Path, b.jobs)
	if errors.Is(err, steps.ErrUnsupported) {
		return nil, withHint(err, "'tally doctor' says what this machine can do")
	} else if err != nil {
		return nil, err
	}
	return mkimage.Build(ctx, in, out, b.env.logger())
}

func printManifest(e *env, m *mkimage.Manifest, out string) error {
	for _, o := range m.Omitted {
		e.logf("left out: %s", o)
	}
	if e.json {
		data, err := m.Marshal()
		if err != nil {
			return err
		}
		e.printf("%s", data)
		return nil
	}
	for _, a := range m.Artifacts {
		e.printf("%s  %s (%d bytes)\n", a.SHA256, a.Name, a.Size)
	}
	e.printf("root hash %s\n%s\n", m.Verity.RootHash, out)
	return nil
}

// sourceAround returns the directory that a spec takes files from and in which out lies, or "".
func sourceAround(l *source.Local, out string) string {
	out, err := filepath.Abs(out)
	if err == nil {
		out, err = filepath.EvalSymlinks(out)
	}
	if err != nil {
		return ""
	}
	for _, d := range l.Spec.Dirs() {
		dir, err := filepath.EvalSymlinks(filepath.Join(l.Dir, d))
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(dir, out); err == nil && filepath.IsLocal(rel) {
			return d
		}
	}
	return ""
}

// explainStale adds what to do when an input is not what the lock pinned: not to an interruption, nor to a file that
// is not there.
func explainStale(err error, a specArg) error {
	if errors.As(err, new(*source.StaleError)) && !a.released {
		return withHint(err, "pin what there is now with %s", a.lockCommand())
	}
	return err
}
