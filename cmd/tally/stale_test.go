package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage/lock"
	"tally/mkimage/source"
)

// TestStaleHint: the advice to lock anew goes with an input that is another, and with nothing else.
func TestStaleHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{&source.StaleError{What: "the spec"}, true}, {context.Canceled, false}, {os.ErrNotExist, false}} {
		err := explainStale(fmt.Errorf("image.lock: %w", c.err), specArg{file: "image.yaml", lock: "image.lock"})
		var ee *exitError
		if got := errors.As(err, &ee) && ee.hint != ""; got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: hint %v, want %v", err, got, c.want)
		}
	}
}

// TestReleasedHint: a release's spec lies in a directory that is gone when its user reads the hint.
func TestReleasedHint(t *testing.T) {
	a := specArg{file: "/tmp/x/image.yaml", lock: filepath.Join(t.TempDir(), "none.lock"), released: true}
	_, _, absent := a.read()
	for _, err := range []error{absent, explainStale(&source.StaleError{What: "the spec"}, a), explainGone(&lock.GoneError{}, a)} {
		var ee *exitError
		if errors.As(err, &ee); err == nil || ee != nil && (strings.Contains(ee.hint, "/tmp/x") || !strings.Contains(ee.hint, "--lock")) {
			t.Errorf("%v: hint %q", err, ee.hint)
		}
	}
}

// TestLockOfAnotherVariant: what a rebuild has of sources is one variant's.
func TestLockOfAnotherVariant(t *testing.T) {
	dir := t.TempDir()
	write := func(name, variant string) string {
		k := &lock.Lock{Schema: lock.Schema, Arch: "amd64", Variant: variant}
		data, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	own := write("own", "one")
	for variant, want := range map[string]string{"one": "", "two": "variant two, the release is of one", "": "variant none, the release is of one"} {
		err := sameVariant(write("other", variant), own)
		if want == "" && err != nil || want != "" && (err == nil || exitCode(err) != exitUsage || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", variant, err, want)
		}
	}
	if err := sameVariant(filepath.Join(dir, "none"), own); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such lock: %v", err)
	}
}

// TestSourceAround: a result that lies in what the spec takes into the image is named as the reason.
func TestSourceAround(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../../examples/minimal/image.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"rootfs/out/deep", "rootfs2", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "image.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("rootfs/out", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	l, err := source.Open(filepath.Join(dir, "image.yaml"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for out, want := range map[string]string{"rootfs/out": "rootfs", "rootfs/out/deep": "rootfs", "rootfs": "rootfs", "link": "rootfs", "rootfs2": "", "elsewhere": "", ".": "", "rootfs/absent": ""} {
		if got := sourceAround(l, filepath.Join(dir, out)); got != want {
			t.Errorf("%s: %q, want %q", out, got, want)
		}
	}
}
