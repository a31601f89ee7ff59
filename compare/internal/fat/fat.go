// Package fat reads FAT12, FAT16 and FAT32 file systems (Microsoft FAT specification 1.03): the boot sector's
// fields, every directory entry with its long name, and the contents of files.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Caps on what a file system may hold.
const (
	maxTable   = 256 << 20 // bytes of one FAT
	maxEntries = 1 << 16
	maxDepth   = 64
	maxPath    = 4096 // bytes: entries of one deep directory would hold its path 65,536 times
)

// ErrNone is returned by Open for bytes that are no FAT file system.
var ErrNone = errors.New("fat: no boot sector of a FAT file system")

// A Volume is a FAT file system.
type Volume struct {
	Bits        int    // of a table entry: 12, 16 or 32
	OEM         string // formatting program
	Serial      uint32
	Label       string
	Hidden      uint32 // sectors before the volume
	SectorSize  int64
	ClusterSize int64 // bytes
	Clusters    uint32
	Media       byte
	Free, Next  uint32  // of FSInfo; FAT32 only
	TablesEqual bool    // all copies of the table are the same
	Entries     []Entry // a directory before what it holds, in stored order

	r       io.ReaderAt
	table   []byte
	data    int64 // offset of cluster 2
	root    int64 // offset of the root directory, FAT12 and 16
	rootLen int64
	first   uint32 // cluster of the root directory, FAT32
}

// An Entry is one file or directory.
type Entry struct {
	Path             string // slash-separated, with long names
	Short            string // 8.3 name as stored, 11 bytes
	Attributes       byte
	Created, Written uint32 // date<<16 | time, as stored
	CreatedTenths    byte
	Accessed         uint16 // date
	Size             int64
	Cluster          uint32 // first
	chain            []uint32
}

// Dir says whether the entry is a directory.
func (e *Entry) Dir() bool { return e.Attributes&0x10 != 0 }

// Open reads the volume in r, of size bytes.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrNone
		}
		return nil, fmt.Errorf("fat: boot sector: %w", err)
	}
	if b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
		return nil, ErrNone
	}
	v := &Volume{r: r}
	if err := v.geometry(b, size); err != nil {
		return nil, err
	}
	walk := &walker{v: v, used: map[uint32]bool{}}
	root, err := v.rootBytes(walk)
	if err != nil {
		return nil, fmt.Errorf("fat: root directory: %w", err)
	}
	if err := walk.dir("", root, 0); err != nil {
		return nil, fmt.Errorf("fat: %w", err)
	}
	return v, nil
}

// geometry reads the boot sector and the first table.
func (v *Volume) geometry(b []byte, size int64) error {
	le := binary.LittleEndian
	v.SectorSize, v.ClusterSize = int64(le.Uint16(b[11:])), int64(b[13])*int64(le.Uint16(b[11:]))
	reserved, tables, rootEntries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	total, perTable := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	ext := b[36:]
	if perTable == 0 {
		perTable = int64(le.Uint32(b[36:]))
		ext = b[64:]
		v.first = le.Uint32(b[44:])
	}
	v.OEM, v.Media, v.Hidden, v.Serial, v.Label = strings.TrimRight(string(b[3:11]), " "), b[21], le.Uint32(b[28:]), le.Uint32(ext[3:]), strings.TrimRight(string(ext[7:18]), " ")
	s := v.SectorSize
	switch {
	case s < 512 || s > 4096 || s&(s-1) != 0 || b[13] == 0 || b[13]&(b[13]-1) != 0:
		return ErrNone
	case tables < 1 || tables > 4 || reserved == 0 || perTable == 0 || perTable*s > maxTable || total*s > size:
		return fmt.Errorf("fat: boot sector: %d tables of %d sectors, %d of %d sectors: want a geometry that fits %d bytes", tables, perTable, reserved, total, size)
	}
	v.root = (reserved + tables*perTable) * s
	v.rootLen = rootEntries * 32
	v.data = v.root + (v.rootLen+s-1)/s*s
	if v.data >= total*s {
		return fmt.Errorf("fat: boot sector: data begins behind the end")
	}
	if err := v.width((total*s-v.data)/v.ClusterSize, perTable*s, le.Uint16(b[22:]) == 0); err != nil {
		return err
	}
	return v.readTables(reserved*s, perTable*s, tables, int64(le.Uint16(b[48:]))*s)
}

// width decides by the number of clusters how wide the entries of the tables are.
func (v *Volume) width(clusters, table int64, fat32 bool) error {
	if clusters < 1 || clusters > 0x0ffffff5 {
		return fmt.Errorf("fat: %d clusters", clusters)
	}
	v.Clusters = uint32(clusters)
	switch {
	case fat32:
		v.Bits = 32
	case clusters < 4085:
		v.Bits = 12
	default:
		v.Bits = 16
	}
	if (clusters+2)*int64(v.Bits) > table*8 {
		return fmt.Errorf("fat: table of %d bytes for %d clusters: too small", table, clusters)
	}
	return nil
}

func (v *Volume) readTables(off, size, count, info int64) error {
	v.table, v.TablesEqual = make([]byte, size), true
	if _, err := v.r.ReadAt(v.table, off); err != nil {
		return fmt.Errorf("fat: table: %w", err)
	}
	other := make([]byte, size)
	for i := int64(1); i < count; i++ {
		if _, err := v.r.ReadAt(other, off+i*size); err != nil {
			return fmt.Errorf("fat: table %d: %w", i, err)
		}
		v.TablesEqual = v.TablesEqual && string(other) == string(v.table)
	}
	b := make([]byte, 512)
	if _, err := v.r.ReadAt(b, info); v.Bits == 32 && err == nil {
		v.Free, v.Next = binary.LittleEndian.Uint32(b[488:]), binary.LittleEndian.Uint32(b[492:])
	}
	return nil
}

// next is the table's entry of a cluster, and whether it ends a chain.
func (v *Volume) next(c uint32) (uint32, bool) {
	le := binary.LittleEndian
	switch v.Bits {
	case 12:
		n := le.Uint16(v.table[c+c/2:])
		if c%2 == 1 {
			n >>= 4
		}
		n &= 0xfff
		return uint32(n), n >= 0xff8
	case 16:
		n := le.Uint16(v.table[2*c:])
		return uint32(n), n >= 0xfff8
	}
	n := le.Uint32(v.table[4*c:]) & 0x0fffffff
	return n, n >= 0x0ffffff8
}

// Content is what a file holds; e must be of this volume.
func (v *Volume) Content(e *Entry) *io.SectionReader {
	return io.NewSectionReader(content{v, e.chain}, 0, e.Size)
}

// content reads a chain of clusters.
type content struct {
	v     *Volume
	chain []uint32
}

func (c content) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		i := off / c.v.ClusterSize
		if i >= int64(len(c.chain)) {
			return done, io.EOF
		}
		in := off % c.v.ClusterSize
		part := b[done:min(len(b), done+int(c.v.ClusterSize-in))]
		k, err := c.v.r.ReadAt(part, c.v.data+int64(c.chain[i]-2)*c.v.ClusterSize+in)
		done, off = done+k, off+int64(k)
		if k < len(part) {
			return done, err
		}
	}
	return done, nil
}
