package disk

import (
	"encoding/binary"
	"fmt"
	"time"
)

// fatFields are the fields of the FAT that derive from the image.
type fatFields struct {
	serial uint32
	hidden uint32 // sectors before the partition
	epoch  int64
}

// A fat is a FAT32 file system in memory, with the geometry of its boot sector
// (Microsoft FAT specification 1.03, "FAT Volume ID Boot Sector").
type fat struct {
	b        []byte
	table    []byte // first FAT
	data     int64  // offset of cluster 2
	cluster  int64  // bytes a cluster
	clusters uint32 // data clusters
}

// finishFAT sets every field that go-diskfs leaves floating, unknown or wrong.
func finishFAT(b []byte, f fatFields) error {
	v, err := openFAT(b)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	for _, boot := range []int64{0, 6 * sectorSize} { // boot sector and its backup
		copy(b[boot+3:], "MSWIN4.1") // the OEM name that the specification recommends
		le.PutUint32(b[boot+28:], f.hidden)
		le.PutUint32(b[boot+67:], f.serial)
	}
	date, clock := dosTime(f.epoch)
	if err := v.walk(2, 0, func(e []byte) {
		e[13] = 0 // tenths of a second
		le.PutUint16(e[14:], clock)
		le.PutUint16(e[16:], date)
		le.PutUint16(e[18:], date)
		le.PutUint16(e[22:], clock)
		le.PutUint16(e[24:], date)
	}); err != nil {
		return err
	}
	return v.setFSInfo()
}

func openFAT(b []byte) (*fat, error) {
	le := binary.LittleEndian
	if len(b) < minESP || le.Uint16(b[11:]) != sectorSize || b[16] != 2 {
		return nil, fmt.Errorf("FAT boot sector: want %d-byte sectors and two FATs", sectorSize)
	}
	reserved, fatSize := int64(le.Uint16(b[14:]))*sectorSize, int64(le.Uint32(b[36:]))*sectorSize
	v := &fat{b: b, data: reserved + 2*fatSize, cluster: int64(b[13]) * sectorSize}
	if reserved < 8*sectorSize || v.data >= int64(len(b)) || v.cluster == 0 {
		return nil, fmt.Errorf("FAT boot sector: geometry does not fit %d bytes", len(b))
	}
	v.table = b[reserved : reserved+fatSize]
	v.clusters = uint32((int64(len(b)) - v.data) / v.cluster)
	if v.clusters < 65525 || int64(v.clusters+2)*4 > fatSize {
		return nil, fmt.Errorf("FAT of %d clusters: want at least 65525, and a table that holds them", v.clusters)
	}
	return v, nil
}

// next is the table's entry of a cluster.
func (v *fat) next(cluster uint32) uint32 {
	return binary.LittleEndian.Uint32(v.table[cluster*4:]) & 0x0fffffff
}

// walk visits every entry of the directory at cluster and below, and corrects ".." there.
func (v *fat) walk(cluster uint32, depth int, visit func([]byte)) error {
	names := map[string]bool{}
	steps := uint32(0)
	for c := cluster; c < 0x0ffffff8; c = v.next(c) {
		if steps++; c < 2 || c >= v.clusters+2 || depth > maxPath || steps > v.clusters {
			return fmt.Errorf("FAT directory: bad chain at cluster %d", c)
		}
		off := v.data + int64(c-2)*v.cluster
		for e := v.b[off : off+v.cluster]; len(e) >= 32; e = e[32:] {
			if e[0] == 0 || e[11] == 0x0f { // free, or part of a long name
				continue
			}
			name := string(e[:11])
			if names[name] {
				return fmt.Errorf("FAT directory: two entries get the short name %q", name)
			}
			names[name] = true
			if err := v.entry(e, name, depth, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *fat) entry(e []byte, name string, depth int, visit func([]byte)) error {
	const directory = 0x10
	visit(e)
	first := uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
	switch {
	case name == "..         " && first == 2:
		binary.LittleEndian.PutUint16(e[26:], 0) // the root directory is written as cluster 0
	case e[11]&directory != 0 && e[0] != '.':
		return v.walk(first, depth+1, visit)
	}
	return nil
}

// setFSInfo writes the free cluster count and the next free cluster to FSInfo and its backup, and refuses
// clusters in use beyond the end of the data area.
func (v *fat) setFSInfo() error {
	free, next := uint32(0), uint32(0)
	for c := uint32(2); int64(c)*4 < int64(len(v.table)); c++ {
		used := v.next(c) != 0
		if c >= v.clusters+2 {
			if used {
				return fmt.Errorf("no space left: cluster %d of %d is in use", c, v.clusters)
			}
			continue
		}
		if !used {
			free++
			if next == 0 {
				next = c
			}
		}
	}
	if free == 0 {
		return fmt.Errorf("no space left: all %d clusters are in use", v.clusters)
	}
	info := v.b[sectorSize : 2*sectorSize]
	binary.LittleEndian.PutUint32(info[488:], free)
	binary.LittleEndian.PutUint32(info[492:], next)
	copy(v.b[7*sectorSize:], info)
	return nil
}

// dosTime is a FAT date and time, in UTC, clamped to the years that FAT can hold.
func dosTime(epoch int64) (date, clock uint16) {
	t := time.Unix(epoch, 0).UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock
}
