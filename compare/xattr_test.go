package compare

import (
	"errors"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestXattrReader: what is there and cannot be read is an error that names path and attribute, and a tree has a cap.
func TestXattrReader(t *testing.T) {
	names, failure, size := "user.a\x00security.selinux\x00security.capability\x00trusted.x\x00com.apple.quarantine\x00", error(nil), 3
	r := newXattrReader()
	r.list = func(_ string, b []byte) (int, error) { return copy(b, names), nil }
	r.get = func(_, name string, b []byte) (int, error) {
		if name == "security.selinux" || name == "trusted.x" {
			return 0, errors.New("want it not to be asked for")
		}
		return size, failure
	}
	got, err := r.read("p")
	if want := (map[string]string{"user.a": "\x00\x00\x00", "security.capability": "\x00\x00\x00"}); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v: want %q", got, err, want)
	}
	names, size = "user.a\x00", maxXattr
	for err == nil {
		_, err = r.read("p")
	}
	if r.total > maxXattrs+2*maxXattr || !strings.Contains(err.Error(), "p: more than 67108864 bytes") {
		t.Errorf("after %d bytes: %v", r.total, err)
	}
	failure = syscall.EPERM
	if got, err = r.read("p"); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), `p: extended attribute "user.a": `) {
		t.Errorf("unreadable value: %q, %v", got, err)
	}
	r.list = func(string, []byte) (int, error) { return 0, syscall.ERANGE }
	if got, err = r.read("p"); !errors.Is(err, syscall.ERANGE) || !strings.Contains(err.Error(), "p: extended attributes: ") {
		t.Errorf("unreadable names: %q, %v", got, err)
	}
}

func TestTakesXattrs(t *testing.T) {
	for _, c := range []struct {
		system, kind string
		want         bool
	}{{"darwin", "fifo", false}, {"darwin", "socket", false}, {"darwin", "block device", false}, {"darwin", "file", true}, {"darwin", "directory", true}, {"darwin", "symlink", true}, {"linux", "fifo", true}} {
		if got := takesXattrs(c.system, c.kind); got != c.want {
			t.Errorf("%s, %s: %v", c.system, c.kind, got)
		}
	}
}
