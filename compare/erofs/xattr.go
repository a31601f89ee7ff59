package erofs

import (
	"encoding/binary"
	"fmt"
)

const (
	xattrHeader   = 12 // struct erofs_xattr_ibody_header
	xattrLongName = 0x80
)

// xattrPrefixes are the name indexes of Linux, fs/erofs/erofs_fs.h.
var xattrPrefixes = map[byte]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 5: "lustre.", 6: "security.",
}

// readXattrs reads the xattrs of n: count is i_xattr_icount.
func (m *Image) readXattrs(n *Inode, count uint16, w *walker) error {
	if count == 0 {
		return nil
	}
	size := xattrHeader + 4*(int64(count)-1)
	body := make([]byte, size)
	if err := m.read(body, n.offset+n.head); err != nil {
		return fmt.Errorf("xattrs: %w", err)
	}
	n.head += size
	n.Xattrs = map[string]string{}
	shared := int64(body[4])
	if xattrHeader+4*shared > size {
		return fmt.Errorf("xattrs: %d shared entries in %d bytes", shared, size)
	}
	for i := range shared {
		id := binary.LittleEndian.Uint32(body[xattrHeader+4*i:])
		entry, err := m.sharedXattr(m.Super.xattrs + 4*int64(id))
		if err != nil {
			return fmt.Errorf("shared xattr %d: %w", id, err)
		}
		if _, err := w.xattr(n, entry); err != nil {
			return fmt.Errorf("shared xattr %d: %w", id, err)
		}
	}
	for rest := body[xattrHeader+4*shared:]; len(rest) >= 4; {
		if binary.LittleEndian.Uint32(rest) == 0 { // padding
			rest = rest[4:]
			continue
		}
		used, err := w.xattr(n, rest)
		if err != nil {
			return fmt.Errorf("xattr: %w", err)
		}
		rest = rest[min(len(rest), used):]
	}
	return nil
}

// sharedXattr returns the bytes of the entry at off.
func (m *Image) sharedXattr(off int64) ([]byte, error) {
	h := make([]byte, 4)
	if err := m.read(h, off); err != nil {
		return nil, err
	}
	b := make([]byte, 4+int(h[0])+int(binary.LittleEndian.Uint16(h[2:])))
	return b, m.read(b, off)
}

// xattr decodes the entry that b begins with into n and returns its padded length.
func (w *walker) xattr(n *Inode, b []byte) (int, error) {
	nameLen, index, valueLen := int(b[0]), b[1], int(binary.LittleEndian.Uint16(b[2:]))
	prefix, ok := xattrPrefixes[index]
	end := 4 + nameLen + valueLen
	switch {
	case index&xattrLongName != 0:
		return 0, fmt.Errorf("long name prefix %d: %w", index&^xattrLongName, ErrUnsupported)
	case !ok:
		return 0, fmt.Errorf("name index %d is not known", index)
	case end > len(b):
		return 0, fmt.Errorf("entry of %d bytes, %d are left", end, len(b))
	}
	if w.xattrs += int64(end); w.xattrs > maxXattrs {
		return 0, fmt.Errorf("more than %d bytes in the image", maxXattrs)
	}
	name := prefix + string(b[4:4+nameLen])
	if _, twice := n.Xattrs[name]; twice {
		return 0, fmt.Errorf("%q twice", name)
	}
	n.Xattrs[name] = string(b[4+nameLen : end])
	return int(roundUp(int64(end), 4)), nil
}
