package tree_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/tree"
)

// TestXattrs: what a header says beside the attributes that an image takes is what archive/tar has read, or an error.
func TestXattrs(t *testing.T) {
	got, err := tree.Xattrs(map[string]string{"path": "a", "mtime": "1", "SCHILY.nlink": "2", "SCHILY.xattr.security.capability": "\x01", "SCHILY.xattr.user.a": ""})
	if d := cmp.Diff(map[string][]byte{"security.capability": {1}, "user.a": {}}, got); err != nil || d != "" {
		t.Errorf("%v: %s", err, d)
	}
	if got, err := tree.Xattrs(map[string]string{"path": "a"}); err != nil || got != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, key := range []string{"SCHILY.xattr.user.", "SCHILY.xattr.user.a\x00b", "SCHILY.xattr.user.\xff", "SCHILY.xattr.security.selinux", "SCHILY.xattr.trusted.overlay.opaque",
		"SCHILY.xattr.", "SCHILY.acl.access", "GNU.sparse.major", "hdrcharset", "Path"} {
		if got, err := tree.Xattrs(map[string]string{key: "x"}); err == nil {
			t.Errorf("%q: taken as %v", key, got)
		}
	}
}
