package compare_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tally/compare"
)

// TestXattrsOfDirectories: trees that differ in an attribute alone differ. The kernel's own labels do not count.
func TestXattrsOfDirectories(t *testing.T) {
	const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"                            // struct vfs_cap_data: net_raw, effective
	const acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x05\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff" + // version 2; owner rw, user 5 r, group r,
		"\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff" // mask r, others r
	make := func(t *testing.T, path, name, value string) string {
		t.Helper()
		dir := t.TempDir()
		err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d/f"), nil, 0o644), unix.Mkfifo(filepath.Join(dir, "p"), 0o644))
		if name != "" && err == nil {
			err = unix.Lsetxattr(filepath.Join(dir, path), name, []byte(value), 0)
		}
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
			t.Skipf("SKIPPED: %s: %v", name, err) // security.* and trusted.* want root
		}
		for _, p := range []string{"d/f", "d", "p", "."} {
			err = errors.Join(err, os.Chtimes(filepath.Join(dir, p), time.Unix(1600000000, 0), time.Unix(1600000000, 0)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct{ path, name, a, b string }{
		{"d/f", "user.note", "one", "two"}, {"d/f", "user.note", "", "absent"}, {"d", "user.note", "x", "absent"}, {".", "user.note", "x", "absent"},
		{"d/f", "security.capability", capability, "absent"}, {"d/f", "system.posix_acl_access", acl, "absent"}, {"p", "system.posix_acl_access", acl, "absent"},
		{"d/f", "trusted.note", "x", "absent"}, {"d/f", "security.note", "x", "absent"},
	} {
		t.Run(fmt.Sprintf("%s of %s, %q and %q", c.name, c.path, c.a, c.b), func(t *testing.T) {
			a, b := make(t, c.path, c.name, c.a), ""
			if b = make(t, c.path, "", ""); c.b != "absent" {
				b = make(t, c.path, c.name, c.b)
			}
			noise := c.name == "trusted.note" || c.name == "security.note"
			r := paths(t, a, b, compare.Options{})
			d := r.Differences
			if r.Equal != noise || !noise && (len(d) != 1 || d[0].Path != filepath.Join("/", c.path) || d[0].Field != "xattr "+c.name || d[0].A != fmt.Sprintf("0x%x", c.a)) {
				t.Errorf("equal %v, %+v", r.Equal, d)
			}
			if r := paths(t, a, b, compare.Options{Ignore: map[string]bool{"xattr": true}}); !r.Equal {
				t.Errorf("left out: %+v", r.Differences)
			}
			if r := paths(t, a, a, compare.Options{}); !r.Equal {
				t.Errorf("with itself: %+v", r.Differences)
			}
		})
	}
}
