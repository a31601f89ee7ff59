package source

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/tree"
)

// TestGitArchive: what git archive makes of a commit begins with a global header, and tar unpacks it to the commit's files.
func TestGitArchive(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(testtool.Need(t, "git"), append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example", "-c", "init.defaultBranch=x"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %q: %v", args, err)
		}
		return out
	}
	git("init", "-q")
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("add", "a")
	git("commit", "-qm", "x")
	raw := git("archive", "--prefix=p/", "HEAD")
	if !bytes.Contains(raw, []byte("pax_global_header")) {
		t.Fatal("git archive writes no global header here")
	}
	got, err := readTar(t.Context(), bytes.NewReader(raw), "raw", "test")
	if err != nil {
		t.Fatal(err)
	}
	if e := got.Get("p/a"); e == nil || e.Kind != tree.File || e.Size != 3 || got.Get("pax_global_header") != nil {
		t.Errorf("%+v", got.Entries())
	}
}

// A global header that says more than a comment is about the entries behind it, which would be read without.
func TestGlobalHeaderRefused(t *testing.T) {
	for _, records := range []map[string]string{{"mtime": "1"}, {"comment": "x", "uid": "7"}, {"GNU.sparse.major": "1"}} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: records}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := readTar(t.Context(), bytes.NewReader(b.Bytes()), "raw", "test"); err == nil || !strings.Contains(err.Error(), "pax_global_header") {
			t.Errorf("%v: %v, want a refusal that names the entry", records, err)
		}
	}
}
