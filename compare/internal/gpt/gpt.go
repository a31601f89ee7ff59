// Package gpt reads GUID partition tables (UEFI 2.10, chapter 5.3): the protective MBR, the primary header and
// its entries, and the backup header, without believing any of them.
package gpt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

const (
	headerSize = 92
	maxHeader  = 512
	maxEntries = 1024
	maxEntry   = 4096
)

// ErrNone is returned by Read for a disk without the signature of a GPT.
var ErrNone = errors.New("gpt: no signature \"EFI PART\" in sector 1")

// A Table is a partition table. Sectors are of SectorSize bytes.
type Table struct {
	SectorSize   int64
	DiskSize     int64  // bytes
	MBR          []byte // the first 512 bytes of the disk
	Revision     uint32
	HeaderSize   uint32
	HeaderStands bool   // the header's CRC-32 is right
	Current      uint64 // where the header says it is, in sectors
	Backup       uint64 // sector of the backup header
	FirstUsable  uint64
	LastUsable   uint64
	DiskGUID     string // 8-4-4-4-12, as tools print it
	EntriesAt    uint64 // sector
	EntryCount   uint32
	EntrySize    uint32
	ArrayStands  bool   // the CRC-32 over the entries is right
	BackupState  string // "equal", or what is wrong with the backup header
	Partitions   []Partition
}

// A Partition is a used entry.
type Partition struct {
	Number      int // from 1
	Type, GUID  string
	First, Last uint64 // sectors, both inclusive
	Attributes  uint64
	Name        string
}

// Offset and Size of a partition in bytes.
func (t *Table) Offset(p Partition) int64 { return int64(p.First) * t.SectorSize }

// Size of a partition in bytes.
func (t *Table) Size(p Partition) int64 { return int64(p.Last-p.First+1) * t.SectorSize }

// Read reads the table of a disk of size bytes, with sectors of 512 or 4096 bytes. A wrong checksum is no
// error: it is what the caller wants to see.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	for _, sector := range []int64{512, 4096} {
		h := make([]byte, maxHeader)
		if _, err := r.ReadAt(h, sector); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("gpt: header: %w", err)
		}
		if string(h[:8]) == "EFI PART" {
			return read(r, size, sector, h)
		}
	}
	return nil, ErrNone
}

func read(r io.ReaderAt, size, sector int64, h []byte) (*Table, error) {
	le := binary.LittleEndian
	t := &Table{
		SectorSize: sector, DiskSize: size, MBR: make([]byte, 512), Revision: le.Uint32(h[8:]), HeaderSize: le.Uint32(h[12:]),
		Current: le.Uint64(h[24:]), Backup: le.Uint64(h[32:]), FirstUsable: le.Uint64(h[40:]), LastUsable: le.Uint64(h[48:]),
		DiskGUID: GUID(h[56:]), EntriesAt: le.Uint64(h[72:]), EntryCount: le.Uint32(h[80:]), EntrySize: le.Uint32(h[84:]),
	}
	if _, err := r.ReadAt(t.MBR, 0); err != nil {
		return nil, fmt.Errorf("gpt: MBR: %w", err)
	}
	switch {
	case t.HeaderSize < headerSize || t.HeaderSize > maxHeader:
		return nil, fmt.Errorf("gpt: header of %d bytes: want %d to %d", t.HeaderSize, headerSize, maxHeader)
	case t.EntryCount == 0 || t.EntryCount > maxEntries || t.EntrySize < 128 || t.EntrySize > maxEntry || t.EntrySize%128 != 0:
		return nil, fmt.Errorf("gpt: %d entries of %d bytes: want 1 to %d of a multiple of 128 up to %d", t.EntryCount, t.EntrySize, maxEntries, maxEntry)
	case t.EntriesAt < 2 || t.EntriesAt > uint64(size/sector):
		return nil, fmt.Errorf("gpt: entries at sector %d of %d", t.EntriesAt, size/sector)
	}
	t.HeaderStands = sum(h[:t.HeaderSize]) == le.Uint32(h[16:])
	array := make([]byte, int64(t.EntryCount)*int64(t.EntrySize))
	if _, err := r.ReadAt(array, int64(t.EntriesAt)*sector); err != nil {
		return nil, fmt.Errorf("gpt: entries: %w", err)
	}
	t.ArrayStands = crc32.ChecksumIEEE(array) == le.Uint32(h[88:])
	t.BackupState = t.backup(r, h, array)
	return t, t.partitions(array)
}

// sum is the header's CRC-32, its own field zero.
func sum(h []byte) uint32 {
	c := append([]byte{}, h...)
	clear(c[16:20])
	return crc32.ChecksumIEEE(c)
}

// backup holds the backup header and entries against the primary ones.
func (t *Table) backup(r io.ReaderAt, primary, array []byte) string {
	b := make([]byte, maxHeader)
	if t.Backup > uint64(t.DiskSize/t.SectorSize) {
		return "behind the end of the disk"
	}
	if _, err := r.ReadAt(b, int64(t.Backup)*t.SectorSize); err != nil {
		return "cannot be read"
	}
	le := binary.LittleEndian
	if string(b[:8]) != "EFI PART" || le.Uint32(b[12:]) != t.HeaderSize || sum(b[:t.HeaderSize]) != le.Uint32(b[16:]) {
		return "no header, or its checksum is wrong"
	}
	other := make([]byte, len(array))
	at := le.Uint64(b[72:])
	if at > uint64(t.DiskSize/t.SectorSize) {
		return "its entries lie behind the end of the disk"
	}
	if _, err := r.ReadAt(other, int64(at)*t.SectorSize); err != nil || string(other) != string(array) {
		return "its entries are not the primary ones"
	}
	if string(b[40:72]) != string(primary[40:72]) || string(b[80:92]) != string(primary[80:92]) {
		return "its fields are not the primary ones"
	}
	return "equal"
}

func (t *Table) partitions(array []byte) error {
	le := binary.LittleEndian
	for i := range int(t.EntryCount) {
		e := array[i*int(t.EntrySize):][:128]
		if string(e[:16]) == string(make([]byte, 16)) {
			continue
		}
		p := Partition{Number: i + 1, Type: GUID(e), GUID: GUID(e[16:]), First: le.Uint64(e[32:]), Last: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:])}
		var name []uint16
		for n := e[56:]; len(n) > 0 && le.Uint16(n) != 0; n = n[2:] {
			name = append(name, le.Uint16(n))
		}
		p.Name = string(utf16.Decode(name))
		if err := t.place(p, len(array)); err != nil {
			return err
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t.apart()
}

// place says where a partition must not lie. One that holds its own table would be a disk in itself without end.
func (t *Table) place(p Partition, array int) error {
	end := t.EntriesAt + (uint64(array)+uint64(t.SectorSize)-1)/uint64(t.SectorSize)
	switch {
	case p.Last < p.First || p.Last >= uint64(t.DiskSize/t.SectorSize):
		return fmt.Errorf("gpt: partition %d: sectors %d to %d of a disk of %d", p.Number, p.First, p.Last, t.DiskSize/t.SectorSize)
	case p.First < 2 || p.First < end && p.Last >= t.EntriesAt:
		return fmt.Errorf("gpt: partition %d: sectors %d to %d: want none of the table, which is 0, 1 and %d to %d", p.Number, p.First, p.Last, t.EntriesAt, end-1)
	}
	return nil
}

// apart refuses partitions that share sectors (UEFI 2.10, 5.3.3): disks in each of them would be the same ones again.
func (t *Table) apart() error {
	all := slices.Clone(t.Partitions)
	slices.SortFunc(all, func(p, q Partition) int { return cmp.Compare(p.First, q.First) })
	for i := 1; i < len(all); i++ {
		if p, q := all[i-1], all[i]; p.Last >= q.First {
			return fmt.Errorf("gpt: partitions %d and %d: sectors %d to %d and %d to %d overlap", p.Number, q.Number, p.First, p.Last, q.First, q.Last)
		}
	}
	return nil
}

// GUID prints 16 bytes as tools do: the first three groups are little-endian.
func GUID(b []byte) string {
	le := binary.LittleEndian
	return strings.ToUpper(fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16]))
}
