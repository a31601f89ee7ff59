package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestAbortLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("half")
	f.Abort()
	f.Abort()
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("after abort: %q", got)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("left behind: %q", n)
	}
	if err := f.Commit(); err == nil {
		t.Error("commit after abort: no error")
	}
}

func TestModeDoesNotFollowTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "x")
	if err := WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, want 0644", fi.Mode())
	}
}

func TestDirReplacesOnlyItsOwn(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	fill := func(content string) error {
		d, err := CreateDir(dst, "marker")
		if err != nil {
			return err
		}
		defer d.Abort()
		if err := os.WriteFile(filepath.Join(d.Path, "marker"), []byte(content), 0o644); err != nil {
			return err
		}
		return d.Commit()
	}
	for _, c := range []string{"one", "two"} {
		if err := fill(c); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(dst, "marker")); string(got) != c {
			t.Errorf("marker %q, want %q", got, c)
		}
	}
	if err := os.Rename(filepath.Join(dst, "marker"), filepath.Join(dst, "precious")); err != nil {
		t.Fatal(err)
	}
	if err := fill("three"); err == nil {
		t.Error("a directory that is not ours was replaced")
	}
	if n := names(t, filepath.Dir(dst)); len(n) != 1 {
		t.Errorf("left behind: %q", n)
	}
}

// TestDirMeanwhile: what comes to a directory's place while it is filled is not lost.
func TestDirMeanwhile(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	d, err := CreateDir(dst, "marker")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	precious := filepath.Join(dst, "precious")
	if err := os.Mkdir(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); err == nil || !strings.Contains(err.Error(), dst+": directory is not empty and has no marker") {
		t.Errorf("committed: %v", err)
	}
	d.Abort()
	if _, err := os.Stat(precious); err != nil || len(names(t, filepath.Dir(dst))) != 1 {
		t.Errorf("%v; left: %q", err, names(t, filepath.Dir(dst)))
	}
}

// TestDirNew: of many that make one directory at once, all of them beyond the first look, one wins and keeps it.
func TestDirNew(t *testing.T) {
	for _, there := range []bool{false, true} {
		dst := filepath.Join(t.TempDir(), "out")
		if there {
			if err := os.Mkdir(dst, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		const n = 16
		var all [n]*Dir
		for i := range all {
			d, err := CreateDir(dst, NoMarker)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d.Path, "key"), []byte(strconv.Itoa(i)), 0o600); err != nil {
				t.Fatal(err)
			}
			all[i] = d
		}
		var errs [n]error
		var wg sync.WaitGroup
		for i, d := range all {
			wg.Go(func() {
				errs[i] = d.Commit()
				d.Abort()
			})
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				if got, err := os.ReadFile(filepath.Join(dst, "key")); err != nil || string(got) != strconv.Itoa(i) {
					t.Errorf("%d won, and there is %q, %v", i, got, err)
				}
			} else if err.Error() != dst+": directory is not empty" {
				t.Error(err)
			}
		}
		if left := names(t, filepath.Dir(dst)); won != 1 || len(left) != 1 {
			t.Errorf("%d won; left: %q", won, left)
		}
		if _, err := CreateDir(dst, NoMarker); err == nil || err.Error() != dst+": directory is not empty" {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestDirAbort(t *testing.T) {
	root := t.TempDir()
	d, err := CreateDir(filepath.Join(root, "a/b"), "marker")
	if err != nil {
		t.Fatal(err)
	}
	d.Abort()
	if n := names(t, filepath.Join(root, "a")); len(n) != 0 {
		t.Errorf("left behind: %q", n)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "a.tmp-b"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, name := range []string{"kept", "kept.tmp-1", ".kept", ".kept.tmp-x1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".kept.tmp-2"), 0o755); err != nil {
		t.Fatal(err)
	}
	g, err := Create(filepath.Join(dir, "gone"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{".kept", ".kept.tmp-2", ".kept.tmp-x1", "kept", "kept.tmp-1"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	if err := Sweep(filepath.Join(dir, "absent")); err == nil {
		t.Error("swept a directory that is not there")
	}
}

// TestOnlyFilesAreReplaced: a rename would take the place of /dev/null, too.
func TestOnlyFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{os.Mkdir(at("dir"), 0o755), syscall.Mkfifo(at("pipe"), 0o644), os.Symlink("pipe", at("to pipe")), os.Symlink("nothing", at("to nothing"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := names(t, dir)
	for _, name := range []string{"dir", "pipe", "to pipe", "to nothing", os.DevNull, ""} {
		path := name
		if name != os.DevNull && name != "" {
			path = at(name)
		}
		if err := WriteFile(path, []byte("x"), 0o644); err == nil {
			t.Errorf("%s: replaced by a file", name)
		}
		if name == "dir" {
			continue
		}
		if d, err := CreateDir(path, "marker"); err == nil {
			d.Abort()
			t.Errorf("%s: would be replaced by a directory", name)
		}
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("was %q, is %q", before, after)
	}
}

func TestLinksStay(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{os.MkdirAll(at("far/dir"), 0o755), os.WriteFile(at("far/file"), []byte("old"), 0o644),
		os.Symlink("far/file", at("file")), os.Symlink(at("far/dir"), at("dir")), WriteFile(at("file"), []byte("new"), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := CreateDir(at("dir"), "marker")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(d.Path, "x"), []byte("new"), 0o644), d.Commit()); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"file", "dir"} {
		if fi, err := os.Lstat(at(link)); err != nil || fi.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is a link no more (%v)", link, err)
		}
	}
	for _, file := range []string{"far/file", "far/dir/x"} {
		if got, err := os.ReadFile(at(file)); string(got) != "new" {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if n := names(t, at("far")); len(n) != 2 {
		t.Errorf("left behind: %q", n)
	}
}

// TestAbandoned: what a killed process left goes with the next run, a day later and for the same name alone.
func TestAbandoned(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-25 * time.Hour)
	for name, written := range map[string]time.Time{
		".out.tmp-1/big":      old,
		"..out.tmp-1.tmp-9/b": old,        // a build's, which is made in a temporary place
		".out.tmp-2/big":      time.Now(), // its directory is old: the file is still written
		".out.tmp-x/big":      old,
		".other.tmp-3/big":    old,
		"out.tmp-4/big":       old,
		".out.tmp-/big":       old,
		".out.tmp-5.old/big":  old,
		".out.tmp-6/late/big": old,
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644), os.Chtimes(path, written, written),
			os.Chtimes(filepath.Dir(path), old, old)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("out", filepath.Join(dir, ".out.tmp-7")); err != nil {
		t.Fatal(err)
	}
	d, err := CreateDir(filepath.Join(dir, "out"), "m")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	want := []string{".other.tmp-3", ".out.tmp-", ".out.tmp-2", ".out.tmp-5.old", ".out.tmp-6", ".out.tmp-7", ".out.tmp-x", "out", "out.tmp-4"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
	SweepAbandoned(dir, "")
	if got := names(t, dir); slices.Contains(got, ".other.tmp-3") || len(got) != len(want)-1 {
		t.Errorf("of all names there is %q", got)
	}
	SweepAbandoned(filepath.Join(dir, "absent"), "")
}

// TestExchange: where Linux can, the old directory and the new one change places in one step, and the old one goes.
func TestExchange(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: Linux alone exchanges")
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "in "+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := exchange(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Join(dir, "a")); !slices.Equal(got, []string{"in b"}) {
		t.Errorf("a holds %q", got)
	}
	if err := exchange(filepath.Join(dir, "a"), filepath.Join(dir, "none")); err == nil {
		t.Error("exchanged with nothing")
	}
}

// TestDirWithoutName: a rename cannot put anything in place of ".", and that shows before the work, not after it.
func TestDirWithoutName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, dst := range []string{".", "./", "..", "../empty/..", "/"} {
		if d, err := CreateDir(dst, "marker"); err == nil {
			d.Abort()
			t.Errorf("%s: would be replaced", dst)
		} else if !strings.Contains(err.Error(), "want one with a name") {
			t.Errorf("%s: %v", dst, err)
		}
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %q", n)
	}
}

// TestDirThatStays: a mount point cannot be replaced, and the current directory had better not.
func TestDirThatStays(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{dir: "is the current directory", link: "is the current directory"}
	if runtime.GOOS == "linux" {
		wants["/proc"] = "is a mount point"
	}
	for dst, want := range wants {
		if d, err := CreateDir(dst, "marker"); err == nil {
			d.Abort()
			t.Errorf("%s: would be replaced", dst)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dst, err, want)
		}
	}
	if d, err := CreateDir(filepath.Join(dir, "below"), "marker"); err != nil {
		t.Error(err)
	} else {
		d.Abort()
	}
}
