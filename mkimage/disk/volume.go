package disk

import (
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// A Volume is a disk with one file system and its hash tree, beside disk.raw. Layout v1: as in disk.raw, a
// GPT with partitions on 1 MiB borders and of whole MiB:
//
//	#  offset            type                PARTUUID          name
//	1  1 MiB             Linux data          the spec's Data   data
//	2  after the data    Linux data          the spec's Hash   data-verity
//	   last MiB          backup entries and header
//
// The type says nothing about what the partitions are, so that nobody takes them for a root. The disk GUID
// derives from "volume" and the volume's name. Both partitions are read-only. Nothing of the table is made
// of the contents' bytes, so that it can stand in front of them before they are read.
type Volume struct {
	Data, Hash Area
	Size       int64 // of the disk in bytes
	spec       VolumeSpec
}

// A VolumeSpec is what must be known before the first byte is written.
type VolumeSpec struct {
	Name               string
	DataSize, HashSize int64    // bytes of the file system and of the verity hash file
	DataID, HashID     [16]byte // PARTUUIDs in printed order, not the same
}

// PlanVolume computes the layout of a volume.
func PlanVolume(s VolumeSpec) (*Volume, error) {
	switch {
	case s.Name == "":
		return nil, fmt.Errorf("volume: name is empty")
	case s.DataID == s.HashID:
		return nil, fmt.Errorf("volume %s: both PARTUUIDs are %s", s.Name, guidText(s.DataID))
	}
	for _, n := range []int64{s.DataSize, s.HashSize} {
		if n < 1 || n > maxDisk/4 {
			return nil, fmt.Errorf("volume %s: part of %d bytes: want 1 to %d", s.Name, n, int64(maxDisk/4))
		}
	}
	v := &Volume{Data: Area{mib, wholeMiB(s.DataSize)}, spec: s}
	v.Hash = Area{v.Data.Offset + v.Data.Size, wholeMiB(s.HashSize)}
	v.Size = v.Hash.Offset + v.Hash.Size + mib
	return v, nil
}

// Table returns what stands in front of the partitions and, up to the last byte of the disk, behind them.
// All else outside of the partitions is zero.
func (v *Volume) Table() (head, tail []byte, err error) {
	f := newFrame(v.Size)
	err = writeTable(f, v.Size, guidText(derive(v.spec.Name, "volume")), []*gpt.Partition{
		partition(1, "data", gpt.LinuxFilesystem, guidText(v.spec.DataID), v.Data, attrReadOnly),
		partition(2, "data-verity", gpt.LinuxFilesystem, guidText(v.spec.HashID), v.Hash, attrReadOnly),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("volume %s: GPT: %w", v.spec.Name, err)
	}
	return f.b, f.tail.b, nil
}
