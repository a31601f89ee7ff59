//go:build linux && amd64

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"tally/internal/testtool"
)

func TestParseModules(t *testing.T) {
	got, err := parseModules("/lib/modules/sha256-ssse3.ko.xz\n/lib/modules/erofs.ko\n")
	if err != nil || !slices.Equal(got, []string{"/lib/modules/sha256-ssse3.ko.xz", "/lib/modules/erofs.ko"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := parseModules(""); err != nil || got != nil {
		t.Errorf("empty list: %q, %v", got, err)
	}
	if got, err := parseModules(strings.Repeat("/a\n", maxModules)); err != nil || len(got) != maxModules {
		t.Errorf("as many as may be: %d, %v", len(got), err)
	}
	for _, bad := range []string{"\n", "/a", "a\n", "/a\n\n/b\n", "/a/../b\n", "/a/\n", "/a\nb", strings.Repeat("/a\n", maxModules+1)} {
		if got, err := parseModules(bad); err == nil {
			t.Errorf("%.20q: %d paths, want an error", bad, len(got))
		}
	}
	if _, err := parseModules("/a\n/b\nc\n"); err == nil || err.Error() != `line 3: "c": want an absolute path` {
		t.Errorf("%v", err)
	}
}

func TestLoadModulesStopsAtAMissingOne(t *testing.T) {
	list := filepath.Join(t.TempDir(), "modules")
	if err := os.WriteFile(list, []byte("/nonexistent/x.ko\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadModules(list); err == nil || !strings.Contains(err.Error(), "/nonexistent/x.ko") {
		t.Errorf("error %v", err)
	}
	if _, err := loadModules(list + "x"); err == nil {
		t.Error("no list: no error")
	}
}

// TestLoadModuleIsTold: what the kernel does not take is an error, whoever asks: this is no module.
func TestLoadModuleIsTold(t *testing.T) {
	for _, name := range []string{"x.ko", "x.ko.xz"} {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte("no module"), 0o600); err != nil {
			t.Fatal(err)
		}
		var e unix.Errno
		if err := loadModule(p); !errors.As(err, &e) || e == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBecause(t *testing.T) {
	missing := &os.PathError{Op: "open", Path: "/x.ko", Err: unix.ENOENT}
	for _, c := range []struct {
		err  error
		idle []string
		want string
	}{
		{unix.ENOENT, []string{"sev-guest", "nvidia"}, "needs a driver that is not loaded; no device was found for sev-guest, nvidia"},
		{unix.ENOENT, nil, unix.ENOENT.Error()},
		{unix.ENOEXEC, []string{"nvidia"}, unix.ENOEXEC.Error()},
		{missing, []string{"nvidia"}, missing.Error()},
	} {
		if got := because(c.err, c.idle).Error(); got != c.want {
			t.Errorf("%v after %q: %q, want %q", c.err, c.idle, got, c.want)
		}
	}
}

func TestFinitModuleNumber(t *testing.T) {
	if sysFinitModule != unix.SYS_FINIT_MODULE || moduleCompressedFile != unix.MODULE_INIT_COMPRESSED_FILE {
		t.Errorf("%d, %d", sysFinitModule, moduleCompressedFile)
	}
}

func TestScrub(t *testing.T) {
	data := bytes.Repeat([]byte{1}, 5*blockSize)
	var lines []string
	say := func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) }
	for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
		lines = nil
		if err := scrubReader(r, uint64(len(data)), say); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "all 5 blocks") {
			t.Errorf("%v, %q", err, lines)
		}
	}
	more := iotest.HalfReader(bytes.NewReader(append(bytes.Clone(data), 1, 2, 3)))
	if err := scrubReader(more, uint64(len(data)), say); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(more); err != nil || string(rest) != "\x01\x02\x03" {
		t.Errorf("read beyond the blocks: %d bytes are left, %v", len(rest), err)
	}
	lines = nil
	err := scrubReader(bytes.NewReader(data[:blockSize+1]), uint64(len(data)), say)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "byte 4097 of 20480") || lines != nil {
		t.Errorf("short device: %v, %q", err, lines)
	}
	broken := io.MultiReader(bytes.NewReader(data[:blockSize]), iotest.ErrReader(unix.EIO))
	if err := scrubReader(broken, uint64(len(data)), say); !errors.Is(err, unix.EIO) || lines != nil {
		t.Errorf("broken device: %v, %q", err, lines)
	}
	if err := scrub("/nonexistent", 1, say); err == nil {
		t.Error("no device: no error")
	}
}

func TestScrubShowsProgressOnBigRoots(t *testing.T) {
	var lines []string
	size := uint64(256 << 20)
	if err := scrubReader(zeros{}, size, func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) }); err != nil || len(lines) != 4 || lines[1] != "scrub: 50 % of 256 MiB" {
		t.Errorf("%v, %q", err, lines)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// An initramfs is emptied; what is mounted on it, and anything that is no initramfs, is left alone.
func TestEmptyInitramfs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/precious", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == tmpfsMagic || fs.Type == ramfsMagic {
		t.Skip("SKIPPED: the temporary directory is a tmpfs itself")
	}
	if err := emptyInitramfs(dir); err == nil || !strings.Contains(err.Error(), "not an initramfs") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir + "/precious"); err != nil {
		t.Error(err)
	}
}

// The rest needs mounts: it runs itself again in a user and mount namespace of its own.
func TestEmptyInitramfsOnTmpfs(t *testing.T) {
	if os.Getenv("TALLY_TEST_NAMESPACE") == "" {
		tool := testtool.Need(t, "unshare")
		cmd := exec.Command(tool, "-rm", os.Args[0], "-test.run=^TestEmptyInitramfsOnTmpfs$", "-test.v")
		cmd.Env = append(os.Environ(), "TALLY_TEST_NAMESPACE=1")
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), "unshare: ") {
			testtool.Missing(t, "a user namespace of its own: "+string(out))
		}
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	mount := func(p string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(p, 0o755), unix.Mount("tmpfs", p, "tmpfs", 0, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(p, 0) })
	}
	mount(dir)
	if err := errors.Join(os.MkdirAll(dir+"/lib/modules", 0o755), os.WriteFile(dir+"/lib/modules/a.ko", nil, 0o600), os.Symlink("/etc", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	mount(dir + "/root")
	if err := os.WriteFile(dir+"/root/keep", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := emptyInitramfs(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(dir + "/*")
	if _, err := os.Stat(dir + "/root/keep"); err != nil || !slices.Equal(left, []string{dir + "/root"}) {
		t.Errorf("left %q, %v", left, err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error("followed a symbolic link")
	}
}
