package erofs

import "sort"

// An extent is a range of blocks that belongs to a path.
type extent struct {
	first, last uint64
	reach       uint64 // the largest last up to here: extents may overlap in a crafted image
	path        string
}

// index makes the map from blocks to paths.
func (m *Image) index() {
	bs := m.Super.BlockSize
	add := func(path string, off, size int64) {
		if size > 0 {
			m.extents = append(m.extents, extent{first: uint64(off / bs), last: uint64((off + size - 1) / bs), path: path})
		}
	}
	for _, f := range m.files {
		add(f.path, f.node.offset, f.node.head+f.node.tail())
		add(f.path, f.node.start, f.node.plain)
	}
	sort.SliceStable(m.extents, func(i, j int) bool { return m.extents[i].first < m.extents[j].first })
	reach := uint64(0)
	for i := range m.extents {
		reach = max(reach, m.extents[i].last)
		m.extents[i].reach = reach
	}
}

// Owner returns the paths that have bytes in a block: contents, or the inode with its xattrs and tail. Blocks
// are of Super.BlockSize. Hard links give all their names. The list is empty for a block that no path uses:
// the superblock's, shared xattrs, slack, or one behind the image.
func (m *Image) Owner(block uint64) []string {
	var paths []string
	seen := map[string]bool{}
	i := sort.Search(len(m.extents), func(i int) bool { return m.extents[i].first > block })
	for i--; i >= 0 && m.extents[i].reach >= block; i-- {
		if e := m.extents[i]; e.last >= block && !seen[e.path] {
			seen[e.path] = true
			paths = append(paths, e.path)
		}
	}
	sort.Strings(paths)
	return paths
}
