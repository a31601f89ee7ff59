package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tally/internal/testtool"
)

// archive packs a directory with the real cpio.
func archive(t testing.TB, dir string) []byte {
	t.Helper()
	cmd := exec.Command(testtool.Need(t, "cpio"), "--quiet", "-o", "-H", "newc")
	cmd.Dir = dir
	var names []string
	filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			names = append(names, rel)
		}
		return err
	})
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRealCpio(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "a"), []byte("hello"), 0o640), os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.WriteFile(filepath.Join(dir, "d/e"), bytes.Repeat([]byte("x"), 5001), 0o755), os.Symlink("d/e", filepath.Join(dir, "s"))); err != nil {
		t.Fatal(err)
	}
	b := archive(t, dir)
	two := append(append(bytes.Clone(b), b...), "\x1f\x8bcompressed"...)
	a, err := Read(two)
	if err != nil || a.Count != 2 || len(a.Entries) != 8 || string(a.Rest) != "\x1f\x8bcompressed" {
		t.Fatalf("%+v, %v", a, err)
	}
	for i, e := range a.Entries {
		path := filepath.Join(dir, e.Name)
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		want := ""
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			data, _ := os.ReadFile(path)
			want = string(data)
		case syscall.S_IFLNK:
			want, _ = os.Readlink(path)
		}
		if e.Mode != st.Mode || e.UID != st.Uid || e.MTime != uint32(st.Mtim.Sec) || string(e.Data) != want || e.Archive != i/4 {
			t.Errorf("%s: %+v", e.Name, e)
		}
	}
}

func header(name string, data string) string {
	s := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", 1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for len(s)%4 != 0 {
		s += "\x00"
	}
	for s += data; len(s)%4 != 0; {
		s += "\x00"
	}
	return s
}

func TestRefusals(t *testing.T) {
	good := header("a", "data") + header(trailer, "")
	if a, err := Read([]byte(good)); err != nil || len(a.Entries) != 1 || a.Entries[0].Name != "a" || string(a.Entries[0].Data) != "data" {
		t.Fatalf("%+v, %v", a, err)
	}
	for what, c := range map[string]struct{ text, want string }{
		"no trailer":  {header("a", "data"), "ends without"},
		"junk inside": {header("a", "data") + "junk" + good, "want a header"},
		"bad hex":     {strings.Replace(good, "000081A4", "+00081A4", 1), "hexadecimal"},
		"long data":   {strings.Replace(good, "00000004", "7FFFFFFF", 1), "are left"},
		"long name":   {strings.Replace(good, "00000002", "0FFFFFFF", 1), "name of"},
		"no NUL":      {strings.Replace(good, "a\x00", "ab", 1), "name of 2 bytes"},
		"cut":         {good[:150], "want"},
	} {
		if _, err := Read([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if _, err := Read([]byte("\x1f\x8b" + good)); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(header("a", "data") + header(trailer, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := Read(b); err == nil && len(a.Entries) > len(b)/headerSize {
			t.Errorf("%d members in %d bytes", len(a.Entries), len(b))
		}
	})
}
