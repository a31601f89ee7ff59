//go:build linux || darwin

package compare

import (
	"errors"

	"golang.org/x/sys/unix"
)

// readsXattrs: extended attributes are read on this system.
const readsXattrs = true

// listXattrs is llistxattr(2). A file system that has no attributes has none at path.
func listXattrs(path string, names []byte) (int, error) {
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return 0, nil
	}
	return n, err
}

func getXattr(path, name string, value []byte) (int, error) { return unix.Lgetxattr(path, name, value) }
