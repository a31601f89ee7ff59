package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/internal/scratch"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/source"
)

func inputsCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "inputs",
		Usage: "carry every input of a lock in one file",
		Subcommands: []*cli.Command{
			{
				Name: "export", Usage: "write every input of SPEC to FILE", ArgsUsage: "SPEC FILE",
				Description: "FILE (tally.inputs/v1, a tar file) holds the packages, the signed indexes they were chosen from, blobs of container images, files of models, the Go modules and\n" +
					"the Go toolchain, and the source archive with spec and lock: with it a rebuild works when every mirror has forgotten.\n" +
					"The same lock gives the same file.\n\n--json prints tally.inputs/v1: file, sha256, size, left_out (SHA-256 of signed indexes that are\n" +
					"neither in the cache nor at a mirror; a build does not read them).\n\n   tally inputs export image.yaml inputs.tar",
				Flags:  append(append(specFlags(), &cli.BoolFlag{Name: "no-toolchain", Usage: "leave the Go toolchain out (70 MB)"}), fetchFlags()...),
				Action: func(c *cli.Context) error { return inputsExport(c, e) },
			},
			{
				Name: "import", Usage: "take the inputs of SPEC from FILE into the cache", ArgsUsage: "SPEC FILE",
				Description: "Every byte is checked against the lock, and the chain from the signed index to each package again, before it is used.\n" +
					"An input of the lock that neither FILE nor the cache has is an error (the Go toolchain and signed indexes may be absent).\n" +
					"`tally build --offline` then needs nothing else.\n\n--json prints tally.inputs/v1: file, taken, unchecked (suites whose index is not there).",
				Flags:  append(specFlags(), cacheFlag()),
				Action: func(c *cli.Context) error { return inputsImport(c, e) },
			},
		},
	}
}

// An inputsAnswer is tally.inputs/v1.
type inputsAnswer struct {
	Schema    string      `json:"schema"`
	File      string      `json:"file"`
	SHA256    string      `json:"sha256,omitempty"`
	Size      int64       `json:"size,omitempty"`
	LeftOut   []lock.Hash `json:"left_out,omitempty"`
	Taken     *int        `json:"taken,omitempty"` // of an import, 0 too
	Unchecked []string    `json:"unchecked,omitempty"`
}

// specAndLock opens a spec and the lock that goes with it.
func specAndLock(c *cli.Context) (specArg, *source.Local, *lock.Lock, []byte, error) {
	a, err := specArgOf(c, "lock")
	if err != nil {
		return a, nil, nil, nil, err
	}
	l, k, raw, err := a.open(os.Environ())
	return a, l, k, raw, err
}

func inputsExport(c *cli.Context, e *env) error {
	if err := wantArgs(c, "SPEC", "FILE"); err != nil {
		return err
	}
	a, l, k, raw, err := specAndLock(c)
	if err != nil {
		return err
	}
	f, err := newFetcher(c, e)
	if err != nil {
		return err
	}
	l.GoProxy, l.Offline = f.Store.GoProxy(), f.Places.Offline
	if err := l.Check(c.Context, k); err != nil {
		return explainStale(err, a)
	}
	if err := f.All(c.Context, k); err != nil {
		return explainGone(err, a)
	}
	if err := f.Indexes(c.Context, k); err != nil {
		return err
	}
	return exportTo(c, e, l, k, raw, f.Store)
}

func exportTo(c *cli.Context, e *env, l *source.Local, k *lock.Lock, raw []byte, store *lock.Store) error {
	dir, err := scratch.New("", "tally-inputs")
	if err != nil {
		return err
	}
	defer dir.Remove()
	out := c.Args().Get(1)
	atomicfile.SweepAbandoned(filepath.Dir(out), filepath.Base(out)) // it may be some hundred MB
	f, err := atomicfile.Create(out, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	w := &hashWriter{w: f}
	left, err := l.Export(c.Context, w, k, raw, source.ExportOptions{Store: store, Toolchain: !c.Bool("no-toolchain"), Tmp: dir.Path})
	if err != nil {
		return err
	}
	for _, h := range left {
		e.logf("left out: the index %s is not in the cache", h)
	}
	if err := f.Commit(); err != nil {
		return err
	}
	if e.json {
		return e.printJSON(inputsAnswer{Schema: "tally.inputs/v1", File: out, SHA256: w.sum(), Size: w.n, LeftOut: left})
	}
	e.printf("%s  %s (%d bytes)\n", w.sum(), out, w.n)
	return nil
}

func inputsImport(c *cli.Context, e *env) error {
	if err := wantArgs(c, "SPEC", "FILE"); err != nil {
		return err
	}
	_, _, k, _, err := specAndLock(c)
	if err != nil {
		return err
	}
	store, err := openStore(c)
	if err != nil {
		return err
	}
	file := c.Args().Get(1)
	n, unchecked, err := importInputs(c.Context, e, file, k, store)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(inputsAnswer{Schema: "tally.inputs/v1", File: file, Taken: &n, Unchecked: unchecked})
	}
	e.printf("%d files of %s are in the cache\n", n, file)
	return nil
}

// importInputs takes what k pins from an inputs file and checks where its packages come from.
func importInputs(ctx context.Context, e *env, file string, k *lock.Lock, store *lock.Store) (int, []string, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	n, err := source.Import(ctx, f, k, store)
	if err != nil {
		return n, nil, fmt.Errorf("%s: %w", file, err)
	}
	keys, err := deb.DebianKeyring()
	if err != nil {
		return n, nil, err
	}
	unchecked, err := lock.Chain(ctx, k, store, keys)
	if err != nil {
		return n, nil, verdict(exitUnverified, "index", "%s: %w", file, err)
	}
	for _, s := range unchecked {
		e.logf("suite %s: its signed index is not in %s: packages were checked by the lock's hashes only", s, file)
	}
	return n, unchecked, nil
}

// A hashWriter hashes and counts what passes through.
type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (w *hashWriter) Write(b []byte) (int, error) {
	if w.h == nil {
		w.h = sha256.New()
	}
	n, err := w.w.Write(b)
	w.h.Write(b[:n])
	w.n += int64(n)
	return n, err
}

func (w *hashWriter) sum() string { return hex.EncodeToString(w.h.Sum(nil)) }
