package erofs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sort"
	"strings"

	"tally/mkimage/tree"
)

// superblock encodes block 0. The checksum is CRC-32C without the final inversion, over the block from
// the superblock on with its own field zero (fs/erofs/super.c, erofs_superblock_csum_verify).
func (m *Image) superblock() []byte {
	b := make([]byte, BlockSize)
	sb := b[superStart:]
	le := binary.LittleEndian
	le.PutUint32(sb[0:], 0xE0F5E1E2)                // magic
	le.PutUint32(sb[8:], 1)                         // feature_compat: SB_CHKSUM
	sb[12] = 12                                     // blkszbits
	le.PutUint16(sb[14:], uint16(m.nodes[0].nid())) // root_nid
	le.PutUint64(sb[16:], uint64(len(m.nodes)))     // inos
	le.PutUint64(sb[24:], uint64(m.opts.Epoch))     // build_time
	le.PutUint32(sb[36:], uint32(m.blocks))         // blocks
	copy(sb[48:64], m.uuid[:])                      // uuid
	copy(sb[64:80], m.opts.Label)                   // volume_name
	sum := ^crc32.Checksum(sb, crc32.MakeTable(crc32.Castagnoli))
	le.PutUint32(sb[4:], sum)
	return b
}

// inode encodes struct erofs_inode_extended; xattrs and inline tail follow it in the slot.
func (n *node) inode(epoch int64) []byte {
	const version1, flatPlain, flatInline = 1, 0, 2
	b := make([]byte, inodeSize)
	le := binary.LittleEndian
	format := uint16(version1 | flatPlain<<1)
	if n.inline > 0 {
		format = version1 | flatInline<<1
	}
	le.PutUint16(b[0:], format)
	if len(n.xattrs) > 0 {
		le.PutUint16(b[2:], uint16((len(n.xattrs)-xattrHeader)/4+1)) // i_xattr_icount
	}
	le.PutUint16(b[4:], modeTypes[n.e.Kind]|uint16(n.e.Mode))
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[16:], n.union())
	le.PutUint32(b[20:], n.ino)
	le.PutUint32(b[24:], n.e.UID)
	le.PutUint32(b[28:], n.e.GID)
	le.PutUint64(b[32:], uint64(n.e.Time(epoch)))
	le.PutUint32(b[44:], n.nlink)
	return b
}

// union is i_u: the device number of a device (new_encode_dev), the first block of anything else.
func (n *node) union() uint32 {
	if n.e.Kind == tree.CharDev || n.e.Kind == tree.BlockDev {
		return n.e.Minor&0xff | n.e.Major<<8 | n.e.Minor&^0xff<<12
	}
	return uint32(n.start)
}

// modeTypes are the S_IFMT parts of modes.
var modeTypes = [...]uint16{
	tree.FIFO: 0o010000, tree.CharDev: 0o020000, tree.Dir: 0o040000,
	tree.BlockDev: 0o060000, tree.File: 0o100000, tree.Symlink: 0o120000,
}

const xattrHeader = 12 // struct erofs_xattr_ibody_header: name filter, shared count, reserved; all zero

// xattrPrefixes are the name indexes that layout v1 knows. The two ACL names are whole names.
var xattrPrefixes = []struct {
	prefix string
	index  byte
}{
	{"user.", 1}, {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"trusted.", 4}, {"security.", 6},
}

// encodeXattrs encodes the extended attributes of e in bytewise order of their names.
func encodeXattrs(e *tree.Entry) ([]byte, error) {
	if len(e.Xattrs) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(e.Xattrs))
	for name := range e.Xattrs {
		names = append(names, name)
	}
	sort.Strings(names)
	b := make([]byte, xattrHeader)
	for _, name := range names {
		value := e.Xattrs[name]
		index, rest, ok := splitXattr(name)
		if !ok || len(rest) > math.MaxUint8 || len(value) > math.MaxUint16 {
			return nil, fmt.Errorf("erofs: path %q from %s: extended attribute %q of %d bytes: want user.*, trusted.*, security.* or a POSIX ACL, name up to 255 and value up to 65535 bytes", e.Path, e.Source, name, len(value))
		}
		b = append(b, byte(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, rest...), value...)
		b = append(b, make([]byte, roundUp(int64(len(b)), 4)-int64(len(b)))...)
	}
	return b, nil
}

func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range xattrPrefixes {
		rest, found := strings.CutPrefix(name, p.prefix)
		if found && (rest == "") == (p.index == 2 || p.index == 3) {
			return p.index, rest, true
		}
	}
	return 0, "", false
}
