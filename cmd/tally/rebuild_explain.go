package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tally/compare"
	"tally/internal/scratch"
	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/source"
	"tally/release"
	"tally/release/rebuild"
)

// explain says why a rebuild in out differs: by the released files that are at hand, and by what the statement
// carries. store knows the files of packages.
func (t *target) explain(ctx context.Context, e *env, r *rebuild.Report, out string, store *lock.Store) error {
	r.Stated = t.stated(out)
	opt := compare.Options{Owner: [2]func(compare.Tree, string) string{
		lazyOwner(e, "released", func() (*source.Owners, error) { return t.owners(ctx, store) }),
		lazyOwner(e, "rebuilt", func() (*source.Owners, error) { return readOwners(out, store) }),
	}}
	return rebuild.Explain(ctx, r, out, t.find, opt)
}

// owners reads the release's own spec, lock and sources.
func (t *target) owners(ctx context.Context, store *lock.Store) (*source.Owners, error) {
	var raw [2][]byte
	for i, d := range []release.Digest{t.spec, t.lock} {
		var err error
		if raw[i], err = t.get(ctx, "owners", d, maxSourceFile); err != nil {
			return nil, err
		}
	}
	dir, err := scratch.New("", "tally-owners")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	archive, err := t.sourceArchive(ctx, dir.Path)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	return source.NewOwners(raw[0], raw[1], archive, store)
}

// find returns the path of a released file.
func (t *target) find(_, sha256 string) (string, error) {
	d, err := release.ParseDigest(sha256)
	if err != nil {
		return "", err
	}
	f, err := t.open(d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if named, ok := f.(interface{ Name() string }); ok {
		return named.Name(), nil
	}
	return "", os.ErrNotExist
}

// contradicted holds what the statement says of the image's wires against the rebuild of the very files: the signer could say
// there what no file says.
func (t *target) contradicted(out string) error {
	if t.statement == nil {
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
	if err := t.statement.CheckWires(rebuild.Wires(m)); err != nil {
		return verdict(exitDiffers, string(release.BadStatement), "%w", err)
	}
	return nil
}

// stated compares what a statement carries with the rebuilt manifest: inputs first, they bisect the difference.
func (t *target) stated(out string) []rebuild.Stated {
	if t.statement == nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(out, release.Manifest))
	if err != nil {
		return nil
	}
	m, err := mkimage.ParseManifest(data)
	if err != nil {
		return nil
	}
	p := t.statement.Predicate
	var all []rebuild.Stated
	for _, s := range []rebuild.Stated{
		{Field: "inputs.spec", Was: p.Inputs.Spec.String(), Is: m.Spec.SHA256.String()},
		{Field: "inputs.lock", Was: p.Inputs.Lock.String(), Is: m.Lock.SHA256.String()},
		{Field: "inputs.sources", Was: p.Inputs.Sources.String(), Is: m.Sources.SHA256.String()},
		{Field: "release.name", Was: p.Release.Name, Is: m.Name},
		{Field: "release.version", Was: p.Release.Version, Is: m.Version},
		{Field: "wires", Was: strings.Join(p.Wires, " "), Is: strings.Join(rebuild.Wires(m), " ")},
		{Field: "verity.root_hash", Was: p.Verity.RootHash.String(), Is: m.Verity.RootHash.String()},
		{Field: "verity.salt", Was: p.Verity.Salt, Is: m.Verity.Salt},
		{Field: "verity.data_blocks", Was: strconv.FormatUint(p.Verity.DataBlocks, 10), Is: strconv.FormatUint(m.Verity.DataBlocks, 10)},
		{Field: "cmdline", Was: p.Cmdline, Is: m.Cmdline},
	} {
		if s.Was != s.Is {
			all = append(all, s)
		}
	}
	return all
}

// printWhy prints the explanation below the table.
func printWhy(e *env, r *rebuild.Report) {
	p := wantColour(e.stdout, os.Getenv)
	if len(r.Stated) > 0 {
		e.printf("%s\n", p.bold("the statement says otherwise"))
	}
	for _, s := range r.Stated {
		e.printf("  %s\n", s.Field)
		printSides(e, p, s.Was, s.Is)
	}
	for _, n := range r.Notes {
		e.printf("%s %s\n", p.bold("note"), plain(n))
	}
	if r.Explanation != nil {
		shown := *r.Explanation
		shown.Inputs = nil // printed above
		printExplanation(e, p, &shown)
	}
}
