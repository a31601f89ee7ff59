package main

import (
	"errors"
	"strings"

	"tally/compare"
	"tally/internal/cli"
)

func compareCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "say where two images differ and why",
		ArgsUsage: "A B",
		Description: "Takes two output directories, two images (disk, UKI, initrd, EROFS, any file) or two directory trees apart: artefacts, inputs,\n" +
			"GPT, ESP, UKI sections, cpio and EROFS entries, verity parameters. Prints likely causes first, then each difference with path,\n" +
			"field, both values and the input that owns the path, then the names of the registers that move; their values come from\n" +
			"'tally measure'. The verdict is bytes alone. Owners of files are known when both outputs hold image.lock and image.yaml, and,\n" +
			"for packages, when the cache holds them unpacked. gzip, xz and zstd are looked into; what cannot be\n" +
			"read (a compressed file system) is compared as bytes. Of the extended attributes in directory trees security.capability,\n" +
			"user.* and POSIX ACLs are compared; the others are the system's own labels and notes.\n\n" +
			"Colour only on a terminal, and never with NO_COLOR set. Exit 0 equal, 3 different, 1 unreadable.\n\n" +
			"--json prints tally.compare/v1: equal, reason, a, b, kind (output, tree, disk, uki, cpio, erofs, tar, file), artifacts (name,\n" +
			"status MATCH|DIFFER|ONLY-A|ONLY-B, size_a, size_b), inputs (kind, name, a, b), causes (cause, count, example), differences\n" +
			"(layer artifact|gpt|esp|uki|cpio|erofs|tree|verity, where, path, field, a, b, text, owner, cause, follows: a consequence of\n" +
			"another), omitted (number of differences not listed), registers (name, boot direct|uki|any, because), notes.\n\n" +
			"   tally compare released/ rebuilt/",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "list every difference, not 20 of each kind and cause"},
			&cli.StringFlag{Name: "ignore", Usage: "in directory trees, leave out `FIELDS`: mtime, owner, mode, xattr, separated by commas"},
			cacheFlag(),
		},
		Action: func(c *cli.Context) error { return runCompare(c, e) },
	}
}

func runCompare(c *cli.Context, e *env) error {
	if err := wantArgs(c, "A", "B"); err != nil {
		return err
	}
	a, b := c.Args().Get(0), c.Args().Get(1)
	opt := compare.Options{Owner: owners(c, e, a, b), Ignore: map[string]bool{}}
	if c.Bool("all") {
		opt.PerCause = -1
	}
	if list := c.String("ignore"); list != "" {
		for _, f := range strings.Split(list, ",") {
			if f != "mtime" && f != "owner" && f != "mode" && f != "xattr" {
				return usagef("--ignore: field %.40q: want mtime, owner, mode or xattr", f)
			}
			opt.Ignore[f] = true
		}
	}
	r, err := compare.Paths(c.Context, a, b, opt)
	switch {
	case errors.Is(err, compare.ErrKinds):
		return usagef("%w", err)
	case err != nil:
		return err
	case len(opt.Ignore) > 0 && r.Kind != "tree":
		return usagef("--ignore: the arguments are no directory trees: images are compared in full")
	}
	if e.json {
		if err := e.printJSON(r); err != nil {
			return err
		}
	} else {
		printCompare(e, r)
	}
	if !r.Equal {
		return verdict(exitDiffers, r.Reason, "%s and %s differ", a, b)
	}
	return nil
}
