package compare_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tally/compare"
)

// TestForeignManifest: a directory is an output when its manifest.json is a build's. Of others, nothing is left out.
func TestForeignManifest(t *testing.T) {
	make := func(manifest string, mode os.FileMode) string {
		dir := t.TempDir()
		name := filepath.Join(dir, "run")
		err := errors.Join(os.WriteFile(name, []byte("x"), 0o644), os.Chmod(name, mode))
		if manifest != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(manifest), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const ours, web = `{"schema":"tally.manifest/v1"}`, `{"name":"a web project","manifest_version":3}`
	for _, c := range []struct {
		a, b  string
		kind  string
		equal bool
		note  string
	}{
		{web, web, "tree", false, ""},
		{`["tally.manifest/v1"]`, `{"schema":"tally.manifest/v2"}`, "tree", false, ""},
		{"", "", "tree", false, ""},
		{ours, ours, "output", true, ""},
		{ours, web, "tree", false, `manifest.json: schema "", want "tally.manifest/v1"`},
		{web, ours, "tree", false, `manifest.json: schema "", want "tally.manifest/v1"`},
		{ours, "", "tree", false, "no such file"},
	} {
		r := paths(t, make(c.a, 0o644), make(c.b, 0o755), compare.Options{Ignore: map[string]bool{"mtime": true}})
		if r.Kind != c.kind || r.Equal != c.equal || (c.kind == "tree") != hasCause(r, "execute bit") {
			t.Errorf("%s, %s: kind %s, equal %v, causes\n%s", c.a, c.b, r.Kind, r.Equal, causes(r))
		}
		switch {
		case c.note == "" && c.kind == "tree" && len(r.Notes) != 0:
			t.Errorf("%s, %s: notes %q", c.a, c.b, r.Notes)
		case c.note != "" && (len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "is the output of a build and") || !strings.Contains(r.Notes[0], c.note)):
			t.Errorf("%s, %s: want one note with %q, got %q", c.a, c.b, c.note, r.Notes)
		}
	}
}

// TestManifestIsNoFile: a pipe is not waited for.
func TestManifestIsNoFile(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := syscall.Mkfifo(filepath.Join(dir, "manifest.json"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := paths(t, a, b, compare.Options{Ignore: map[string]bool{"mtime": true}}); r.Kind != "tree" || !r.Equal {
		t.Errorf("kind %s, equal %v, causes\n%s", r.Kind, r.Equal, causes(r))
	}
}

// TestForeignLock: the lock of an output is read with a limit, and only when it is a file.
func TestForeignLock(t *testing.T) {
	make := func(lock func(name string) error) string {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(`{"schema":"tally.manifest/v1"}`), 0o644), lock(filepath.Join(dir, "image.lock"))); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	small := make(func(name string) error { return os.WriteFile(name, []byte("{}\n"), 0o644) })
	huge := make(func(name string) error {
		return errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, 200<<30)) // more than any memory here; takes no room
	})
	r := paths(t, small, huge, compare.Options{})
	if len(r.Artifacts) != 2 || r.Artifacts[0].Status != compare.Differ || r.Artifacts[1].Status != compare.Match {
		t.Errorf("%+v", r.Artifacts)
	}
	pipe := make(func(name string) error { return syscall.Mkfifo(name, 0o644) })
	done := sooner(t, func() error {
		_, err := compare.Paths(t.Context(), small, pipe, compare.Options{})
		return err
	})
	if done == nil || !strings.Contains(done.Error(), "image.lock: p---------: want a regular file") {
		t.Errorf("pipe: %v", done)
	}
}

// sooner is f's error, for an f that must not take minutes.
func sooner(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("does not end")
		return nil
	}
}
