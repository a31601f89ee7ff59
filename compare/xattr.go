package compare

import (
	"fmt"
	"strings"
)

const (
	maxXattr  = 64 << 10 // bytes of one value and of all names of one path: what Linux takes
	maxXattrs = 64 << 20 // bytes of all names and values of a tree
)

// comparedXattr says whether an extended attribute of a path on disk belongs to what is compared: what an image takes
// from its sources, and ACLs, which are modes at length. The others are labels that the system gives by where a
// file lies (security.selinux, com.apple.*), or its notes about it (security.ima, trusted.*).
func comparedXattr(name string) bool {
	return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default" || strings.HasPrefix(name, "user.")
}

// takesXattrs says whether a system has attributes for a kind of path. macOS refuses the question for the others (EPERM;
// vn_listxattr of XNU), which is no failure to read something.
func takesXattrs(system, kind string) bool {
	return system != "darwin" || kind == "file" || kind == "directory" || kind == "symlink"
}

// An xattrReader reads the extended attributes of the paths of one tree.
type xattrReader struct {
	list         func(path string, names []byte) (int, error) // names, each with a zero byte behind it
	get          func(path, name string, value []byte) (int, error)
	names, value []byte
	total        int
}

func newXattrReader() *xattrReader {
	return &xattrReader{list: listXattrs, get: getXattr, names: make([]byte, maxXattr), value: make([]byte, maxXattr)}
}

// read returns the attributes of path itself, not of what it links to, that are compared; nil when there are none.
// What is there and cannot be read is an error: two of them are not known to be equal.
func (r *xattrReader) read(path string) (map[string]string, error) {
	n, err := r.list(path, r.names)
	if err != nil {
		return nil, fmt.Errorf("%s: extended attributes: %w", path, err)
	}
	var xattrs map[string]string
	for name := range strings.SplitSeq(string(r.names[:n]), "\x00") {
		if !comparedXattr(name) {
			continue
		}
		k, err := r.get(path, name, r.value)
		if err != nil {
			return nil, fmt.Errorf("%s: extended attribute %.64q: %w", path, name, err)
		}
		if r.total += len(name) + k; r.total > maxXattrs {
			return nil, fmt.Errorf("%s: more than %d bytes of extended attributes in the tree", path, maxXattrs)
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[name] = string(r.value[:k])
	}
	return xattrs, nil
}
