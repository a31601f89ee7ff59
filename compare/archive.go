package compare

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tally/compare/internal/cpio"
)

// cpios compares two cpio archives whose bytes differ.
func (c *comparer) cpios(where string, a, b source) error {
	x, err := readCPIO(a)
	if err != nil {
		return unread("A", err)
	}
	y, err := readCPIO(b)
	if err != nil {
		return unread("B", err)
	}
	d := Difference{Layer: LayerCPIO, Where: where}
	if x.Count != y.Count {
		c.add(d, "archives", fmt.Sprint(x.Count), fmt.Sprint(y.Count), "an archive appended")
	}
	if err := c.behind(d, x.Rest, y.Rest); err != nil {
		return err
	}
	before := len(c.all)
	p, q := cpioTree(x), cpioTree(y)
	if !samePaths(p, q) { // numbers of inodes and devices follow from what else is there
		for _, n := range p.nodes {
			n.extra = nil
		}
	}
	if err := c.trees(d, p, q); err != nil {
		return err
	}
	if len(c.all) == before && string(x.Rest) == string(y.Rest) {
		diff, err := diffBytes(c.ctx, a, b, 512)
		if err != nil {
			return err
		}
		c.add(d, "bytes", fmt.Sprintf("0x%02x at byte %d of %d", diff.x, diff.first, a.Size()), fmt.Sprintf("0x%02x of %d", diff.y, b.Size()), "padding, or the form of the headers (another program)")
	}
	return nil
}

// behind compares what follows the archives: in a distribution's initrd, what was compressed, after the microcode.
func (c *comparer) behind(d Difference, x, y []byte) error {
	if string(x) == string(y) {
		return nil
	}
	inner := d
	inner.Layer, inner.Where = LayerArtifact, within(d.Where, "behind the archive")
	done, err := c.compressed(inner, newSource(x), newSource(y), func(a, b source) error {
		return c.container(within(inner.Where, "decompressed"), a, b)
	})
	if err == nil && !done {
		c.add(d, "bytes behind the archive", restText(x), restText(y), "an appended part that is not read here, e.g. an archive compressed in another way")
	}
	return err
}

func samePaths(a, b *fileTree) bool {
	for path := range a.byPath {
		if b.byPath[path] == nil {
			return false
		}
	}
	return len(a.byPath) == len(b.byPath)
}

func restText(b []byte) string {
	if len(b) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d bytes, 0x%x…", len(b), b[:min(8, len(b))])
}

func readCPIO(s source) (*cpio.Archive, error) {
	b, err := readWhole(s, maxWhole)
	if err != nil {
		return nil, err
	}
	return cpio.Read(b)
}

// modeKinds are the S_IFMT bits.
var modeKinds = map[uint32]string{0o010000: "fifo", 0o020000: "character device", 0o040000: "directory", 0o060000: "block device", 0o100000: "file", 0o120000: "symlink", 0o140000: "socket"}

// cpioTree is the tree that the kernel makes of an archive. Names of one inode carry the contents once.
func cpioTree(a *cpio.Archive) *fileTree {
	type inode struct{ archive, ino, major, minor uint32 }
	data := map[inode][]byte{}
	for _, e := range a.Entries {
		if len(e.Data) > 0 {
			data[inode{uint32(e.Archive), e.Ino, e.Major, e.Minor}] = e.Data
		}
	}
	var nodes []*node
	var stored []string
	for _, e := range a.Entries {
		id := inode{uint32(e.Archive), e.Ino, e.Major, e.Minor}
		n := &node{path: "/" + strings.TrimPrefix(strings.TrimPrefix(e.Name, "./"), "/"), kind: modeKinds[e.Mode&0o170000], perm: e.Mode & 0o7777,
			uid: e.UID, gid: e.GID, mtime: int64(e.MTime), nlink: e.Nlink}
		switch n.kind {
		case "":
			n.kind = fmt.Sprintf("mode %#o", e.Mode)
		case "file":
			body := e.Data
			if e.Nlink > 1 {
				n.id, body = id, data[id]
			}
			n.content = newSource(body)
		case "symlink":
			n.target = string(e.Data)
		case "character device", "block device":
			n.device = fmt.Sprintf("%d:%d", e.RMajor, e.RMinor)
		}
		n.extra = []field{{"inode number", fmt.Sprint(e.Ino), "inode numbers of the machine that packed it, or order of files"},
			{"device of the file system", fmt.Sprintf("%d:%d", e.Major, e.Minor), "device number of the machine that packed it"},
			{"format", e.Magic, "another program that packed it"}, {"check", fmt.Sprint(e.Check), "another program that packed it"}}
		nodes = append(nodes, n)
	}
	t := newTree(nodes)
	for _, n := range nodes {
		stored = append(stored, n.path)
	}
	t.orders["members"] = stored
	return t
}

var tarKinds = map[byte]string{tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeLink: "hard link", tar.TypeChar: "character device", tar.TypeBlock: "block device", tar.TypeFifo: "fifo"}

// tars compares two tar archives whose bytes differ, such as the archives of sources.
func (c *comparer) tars(where string, a, b source) error {
	x, err := tarTree(a)
	if err != nil {
		return unread("A", err)
	}
	y, err := tarTree(b)
	if err != nil {
		return unread("B", err)
	}
	for _, n := range slices.Concat(x.nodes, y.nodes) { // of an image's archives, the one of its disk holds nothing else
		c.unread = c.unread || !isDiskNode(x.byPath[n.path]) || !isDiskNode(y.byPath[n.path])
	}
	return c.trees(Difference{Layer: LayerTree, Where: where}, x, y)
}

func isDiskNode(n *node) bool { return n != nil && n.content != nil && kindOf(n.content) == kindDisk }

const maxMembers = 1 << 20

func tarTree(s source) (*fileTree, error) {
	if s.Size() > maxWhole {
		return nil, fmt.Errorf("%d bytes: want at most %d", s.Size(), maxWhole)
	}
	var nodes []*node
	var stored []string
	at := io.NewSectionReader(s, 0, s.Size())
	for r := tar.NewReader(at); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(nodes) >= maxMembers {
			err = fmt.Errorf("more than %d members", maxMembers)
		}
		if err != nil {
			return nil, err
		}
		n, err := tarNode(s, at, h)
		if err != nil {
			return nil, fmt.Errorf("member %.64q: %w", h.Name, err)
		}
		nodes = append(nodes, n)
	}
	t := newTree(nodes)
	for _, n := range nodes {
		stored = append(stored, n.path)
	}
	t.orders["members"] = stored
	return t, nil
}

// tarNode is the member whose header was just read from at, a reader of s.
func tarNode(s, at source, h *tar.Header) (*node, error) {
	n := &node{path: "/" + strings.Trim(strings.TrimPrefix(h.Name, "./"), "/"), kind: tarKinds[h.Typeflag], perm: uint32(h.Mode & 0o7777),
		uid: uint32(h.Uid), gid: uint32(h.Gid), mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond()), target: h.Linkname}
	n.extra = []field{{"user", h.Uname, "owner (the user who packed it)"}, {"group", h.Gname, "owner (the user who packed it)"}}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[name] = value
		}
	}
	switch n.kind {
	case "":
		n.kind = fmt.Sprintf("type %q", h.Typeflag)
	case "character device", "block device":
		n.device = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	case "file":
		if h.PAXRecords["GNU.sparse.major"] != "" {
			return nil, errors.New("sparse files are not read")
		}
		off, err := at.Seek(0, io.SeekCurrent) // the reader reads headers in whole blocks and nothing ahead
		if err != nil {
			return nil, err
		}
		if h.Size > s.Size()-off {
			return nil, fmt.Errorf("%d bytes, %d are left", h.Size, s.Size()-off)
		}
		n.content = sub(s, off, h.Size)
	}
	return n, nil
}
