package tree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// paxKeys are the records of an extended header (POSIX.1-2024, pax) whose meaning archive/tar has already put
// into the header, or that mean nothing here.
var paxKeys = []string{"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime", "comment", "SCHILY.devmajor", "SCHILY.devminor", "SCHILY.dev", "SCHILY.ino", "SCHILY.nlink"}

// Xattrs returns the extended attributes among the records of an extended header of a tar file: those that
// AllowedXattr takes; nil when there are none. What is not known is refused: it could change what the file is, as
// the records of sparse files do.
func Xattrs(pax map[string]string) (map[string][]byte, error) {
	var xattrs map[string][]byte
	for _, key := range slices.Sorted(maps.Keys(pax)) {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		switch {
		case !ok && !slices.Contains(paxKeys, key):
			return nil, fmt.Errorf("extended header %.60q is not supported", key)
		case !ok:
			continue
		case !AllowedXattr(name):
			return nil, fmt.Errorf("extended attribute %.60q: want security.capability or user.*", name)
		}
		if xattrs == nil {
			xattrs = map[string][]byte{}
		}
		xattrs[name] = []byte(pax[key])
	}
	return xattrs, nil
}
