package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A Kind is the type of an inode: the S_IFMT bits of its mode.
type Kind uint16

// The kinds of inodes.
const (
	KindFIFO     Kind = 0o010000
	KindCharDev  Kind = 0o020000
	KindDir      Kind = 0o040000
	KindBlockDev Kind = 0o060000
	KindFile     Kind = 0o100000
	KindSymlink  Kind = 0o120000
	KindSocket   Kind = 0o140000
)

// direntTypes are the EROFS_FT_ codes of directory entries.
var direntTypes = map[Kind]byte{KindFile: 1, KindDir: 2, KindCharDev: 3, KindBlockDev: 4, KindFIFO: 5, KindSocket: 6, KindSymlink: 7}

// An Inode is one inode. Hard links are several paths with the same *Inode.
type Inode struct {
	NID      uint64
	Extended bool   // 64 bytes, else 32
	Mode     uint16 // kind and permissions, as st_mode
	UID, GID uint32
	Number   uint32 // i_ino
	Nlink    uint32 // as stored
	MTime    int64  // seconds since 1970
	Nsec     uint32
	Size     int64
	Rdev     uint32            // of a device, new_encode_dev form
	Target   string            // of a symlink
	Xattrs   map[string]string // by full name; nil when there are none

	offset int64 // of the inode in the image
	head   int64 // bytes of inode and xattrs
	start  int64 // byte offset of the blocks
	plain  int64 // bytes in blocks; the rest is the tail behind the head
}

// Kind is the type of the inode.
func (n *Inode) Kind() Kind { return Kind(n.Mode & 0o170000) }

// Perm is the permission bits with setuid, setgid and sticky.
func (n *Inode) Perm() uint16 { return n.Mode & 0o7777 }

func (n *Inode) tail() int64 { return n.Size - n.plain }

// inode reads the inode nid, once.
func (m *Image) inode(nid uint64, w *walker) (*Inode, error) {
	if n := m.inodes[nid]; n != nil {
		return n, nil
	}
	if nid > uint64(m.Size())/slotSize {
		return nil, fmt.Errorf("nid %d: want one in the image of %d bytes", nid, m.Size())
	}
	n := &Inode{NID: nid, offset: m.Super.meta + int64(nid)*slotSize}
	b := make([]byte, 64)
	if err := m.read(b[:32], n.offset); err != nil {
		return nil, fmt.Errorf("nid %d: %w", nid, err)
	}
	format := binary.LittleEndian.Uint16(b)
	n.Extended = format&1 != 0
	if n.Extended {
		if err := m.read(b[32:], n.offset+32); err != nil {
			return nil, fmt.Errorf("nid %d: %w", nid, err)
		}
	}
	if format>>4 != 0 {
		return nil, fmt.Errorf("nid %d: i_format %#x: %w", nid, format, ErrUnsupported)
	}
	m.decode(n, b)
	if direntTypes[n.Kind()] == 0 {
		return nil, fmt.Errorf("nid %d: mode %#o: unknown file type", nid, n.Mode)
	}
	if err := m.readXattrs(n, binary.LittleEndian.Uint16(b[2:]), w); err != nil {
		return nil, fmt.Errorf("nid %d: %w", nid, err)
	}
	if err := m.place(n, format>>1&7, binary.LittleEndian.Uint32(b[16:])); err != nil {
		return nil, fmt.Errorf("nid %d: %w", nid, err)
	}
	if err := m.readTarget(n, w); err != nil {
		return nil, fmt.Errorf("nid %d: %w", nid, err)
	}
	m.inodes[nid] = n
	return n, nil
}

// decode reads the fields of struct erofs_inode_compact or erofs_inode_extended.
func (m *Image) decode(n *Inode, b []byte) {
	le := binary.LittleEndian
	n.Mode, n.Number, n.head = le.Uint16(b[4:]), le.Uint32(b[20:]), 32
	if n.Extended {
		n.head = 64
		n.Size, n.UID, n.GID = int64(le.Uint64(b[8:])), le.Uint32(b[24:]), le.Uint32(b[28:])
		n.MTime, n.Nsec, n.Nlink = int64(le.Uint64(b[32:])), le.Uint32(b[40:]), le.Uint32(b[44:])
		return
	}
	n.Nlink, n.Size = uint32(le.Uint16(b[6:])), int64(le.Uint32(b[8:]))
	n.UID, n.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
	n.MTime, n.Nsec = m.Super.BuildTime, m.Super.BuildNsec
}

// place finds the bytes of n and checks that they lie in the image.
func (m *Image) place(n *Inode, layout uint16, union uint32) error {
	const flatPlain, flatInline = 0, 2
	switch n.Kind() {
	case KindCharDev, KindBlockDev:
		n.Rdev = union
		fallthrough
	case KindFIFO, KindSocket:
		if n.Size != 0 {
			return fmt.Errorf("mode %#o with %d bytes: want none", n.Mode, n.Size)
		}
		return nil
	}
	if layout != flatPlain && layout != flatInline {
		return fmt.Errorf("data layout %d (compressed or chunks): %w", layout, ErrUnsupported)
	}
	if n.Size < 0 || n.Size > m.Size() {
		return fmt.Errorf("%d bytes in an image of %d", n.Size, m.Size())
	}
	bs := m.Super.BlockSize
	switch layout {
	case flatPlain:
		n.plain = n.Size
	case flatInline:
		n.plain = max(0, (n.Size-1)/bs*bs)
		if end := n.offset%bs + n.head + n.tail(); n.tail() > 0 && (n.offset+n.head)%bs+n.tail() > bs {
			return fmt.Errorf("inline tail ends at byte %d of its block: want at most %d", end, bs)
		}
		if n.offset+n.head+n.tail() > m.Size() {
			return fmt.Errorf("inline tail of %d bytes ends behind the image", n.tail())
		}
	}
	if n.plain == 0 {
		return nil
	}
	n.start = int64(union) * bs
	if n.start > m.Size()-roundUp(n.plain, bs) {
		return fmt.Errorf("blocks from %d on, %d bytes: behind the end of the image", union, n.plain)
	}
	return nil
}

func (m *Image) readTarget(n *Inode, w *walker) error {
	if n.Kind() != KindSymlink {
		return nil
	}
	w.links += n.Size
	if n.Size == 0 || n.Size > maxTarget || w.links > maxLinkBytes {
		return fmt.Errorf("symlink target of %d bytes: want 1 to %d, %d in all", n.Size, maxTarget, maxLinkBytes)
	}
	b := make([]byte, n.Size)
	if _, err := m.Content(n).ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	n.Target = string(b)
	return nil
}

// Content is what the file, directory or symlink n holds; n must be of this image.
func (m *Image) Content(n *Inode) *io.SectionReader {
	return io.NewSectionReader(content{m.r, n}, 0, n.Size)
}

// content reads an inode's blocks and the tail behind its head.
type content struct {
	r io.ReaderAt
	n *Inode
}

func (c content) ReadAt(b []byte, off int64) (int, error) {
	n := c.n
	if off < 0 || off >= n.Size {
		return 0, io.EOF
	}
	done, eof := 0, false
	if int64(len(b)) > n.Size-off {
		b, eof = b[:n.Size-off], true
	}
	if off < n.plain {
		part := b[:min(int64(len(b)), n.plain-off)]
		k, err := c.r.ReadAt(part, n.start+off)
		if k < len(part) {
			return k, err
		}
		done, off = k, off+int64(k)
	}
	if done < len(b) {
		k, err := c.r.ReadAt(b[done:], n.offset+n.head+off-n.plain)
		if done += k; done < len(b) {
			return done, err
		}
	}
	if eof {
		return done, io.EOF
	}
	return done, nil
}

// read fills b from the image.
func (m *Image) read(b []byte, off int64) error {
	if off < 0 || off > m.Size()-int64(len(b)) {
		return fmt.Errorf("bytes %d to %d: want at most the image's %d", off, off+int64(len(b)), m.Size())
	}
	if k, err := m.r.ReadAt(b, off); k < len(b) {
		return err
	}
	return nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// Data is the byte offset of the inode's blocks in the image; 0 when it has none, or only a tail.
func (n *Inode) Data() int64 {
	if n.plain == 0 {
		return 0
	}
	return n.start
}
