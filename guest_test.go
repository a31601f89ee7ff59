package tally_test

import (
	"context"
	"io/fs"
	"os"
	"testing"

	"tally"
	"tally/mkimage/gosrc"
)

// TestGuestIsComplete holds the embedded sources against what the go command says the guest is built from:
// whoever adds a package to the guest must add it to the embedded ones.
func TestGuestIsComplete(t *testing.T) {
	ctx := context.Background()
	toolchain := "go1.26.8" // of go.mod; only lists here
	c, err := gosrc.Open(ctx, gosrc.Options{Toolchain: toolchain, Environ: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"./cmd/init", "./cmd/enclave"} {
		s, err := c.List(ctx, ".", pkg)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Files) < 5 {
			t.Errorf("%s: only %d files: is the list right?", pkg, len(s.Files))
		}
		for _, f := range s.Files {
			if _, err := fs.Stat(tally.Guest, f); err != nil {
				t.Errorf("%s is built from %s, which tally.Guest does not hold", pkg, f)
			}
		}
	}
}

// TestExampleIsWhole: every file of the example that a build reads is embedded, and no more than that.
func TestExampleIsWhole(t *testing.T) {
	const dir = "examples/minimal"
	embedded := map[string]bool{}
	err := fs.WalkDir(tally.Example, dir, func(p string, d fs.DirEntry, err error) error {
		embedded[p] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(os.DirFS("."), dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !embedded[p] && p != dir+"/image.lock" {
			t.Errorf("%s is in the example, but not in tally.Example", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
