package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tally"
	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/internal/pattern"
	"tally/mkimage/spec"
)

func initCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a minimal spec that builds as it stands",
		ArgsUsage: "DIR",
		Description: "DIR, which must be absent or empty, gets image.yaml, rootfs/, firmware/ and, outside a checkout of tally, guest/: the\n" +
			"sources of the guest's programs as this tally has them. Then `tally lock DIR/image.yaml` and `tally build`.\n\n" +
			"--schema prints the JSON Schema (draft 2020-12) of image.yaml itself, with --json too.\n\n" +
			"--json prints tally.init/v1: spec, guest (directory of the guest's Go module).\n\n   tally init hello && tally lock hello/image.yaml",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "schema", Usage: "print the JSON Schema of image.yaml, for editors, and write nothing"}},
		Action: func(c *cli.Context) error { return runInit(c, e) },
	}
}

func runInit(c *cli.Context, e *env) error {
	if c.Bool("schema") {
		if err := wantArgs(c); err != nil {
			return err
		}
		e.printf("%s", spec.Schema)
		return nil
	}
	if err := wantArgs(c, "DIR"); err != nil {
		return err
	}
	dir := filepath.Clean(c.Args().First())
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: directory is not empty", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	guest, inCheckout, err := checkout(abs)
	if err != nil {
		return err
	}
	d, err := atomicfile.CreateDir(dir, atomicfile.NoMarker)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := writeExample(c.Context, d.Path, imageName(abs), guest); err != nil {
		return err
	}
	if !inCheckout {
		if err := copyTree(c.Context, tally.Guest, ".", filepath.Join(d.Path, guest), isGuestFile); err != nil {
			return err
		}
	}
	if err := d.Commit(); err != nil {
		return err
	}
	file := filepath.Join(dir, spec.FileName)
	if e.json {
		return e.printJSON(initAnswer{Schema: "tally.init/v1", Spec: file, Guest: filepath.Join(dir, guest)})
	}
	name := shellWord(file)
	if strings.HasPrefix(file, "-") {
		name = shellWord("./" + file) // else it would be a flag
	}
	e.printf("%s\nnext: tally lock %s && tally build %s -o out\n", file, name, name)
	return nil
}

// An initAnswer is tally.init/v1.
type initAnswer struct {
	Schema string `json:"schema"`
	Spec   string `json:"spec"`
	Guest  string `json:"guest"`
}

// checkout returns where the guest's module is, seen from dir: above, when dir lies in a checkout of tally,
// else "guest".
func checkout(dir string) (module string, found bool, err error) {
	up := ".."
	for d := filepath.Dir(dir); ; d, up = filepath.Dir(d), path.Join(up, "..") {
		data, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil {
			_, ierr := os.Stat(filepath.Join(d, "cmd", "init"))
			if bytes.HasPrefix(data, []byte("module tally\n")) && ierr == nil {
				return up, true, nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		if d == filepath.Dir(d) {
			return "guest", false, nil
		}
	}
}

var notInNames = pattern.New(`[^a-z0-9-]+`)

// imageName makes a valid image name of a directory's.
func imageName(dir string) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-")
	if name = name[:min(len(name), 63)]; name == "" {
		return "image"
	}
	return name
}

// writeExample writes examples/minimal under another name and with the guest elsewhere.
func writeExample(ctx context.Context, dir, name, guest string) error {
	const from = "examples/minimal"
	if err := copyTree(ctx, tally.Example, from, dir, func(p string) bool { return p != from+"/"+spec.FileName }); err != nil {
		return err
	}
	data, err := tally.Example.ReadFile(from + "/" + spec.FileName)
	if err != nil {
		return err
	}
	data = bytes.Replace(data, []byte("name: minimal\n"), []byte("name: "+name+"\n"), 1)
	data = bytes.ReplaceAll(data, []byte("module: ../.."), []byte("module: "+guest))
	file := filepath.Join(dir, spec.FileName)
	if _, err := spec.Parse(data, file, ""); err != nil {
		return err
	}
	if err := writePlain(file, data); err != nil {
		return err
	}
	const config = "rootfs/etc/tally/enclave.json"
	if data, err = tally.Example.ReadFile(from + "/" + config); err != nil {
		return err
	}
	data = bytes.Replace(data, []byte(`"hostname": "minimal"`), []byte(`"hostname": "`+name+`"`), 1)
	return writePlain(filepath.Join(dir, filepath.FromSlash(config)), data)
}

// isGuestFile leaves out tests: they are no part of what is built.
func isGuestFile(p string) bool { return !strings.HasSuffix(p, "_test.go") }

// copyTree writes the files of fsys below from to dir, with the same modes under any umask.
func copyTree(ctx context.Context, fsys fs.FS, from, dir string, keep func(string) bool) error {
	return fs.WalkDir(fsys, from, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() || !keep(p) {
			return err
		}
		data, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		return writePlain(filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(strings.TrimPrefix(p, from), "/"))), data)
	})
}

func writePlain(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
