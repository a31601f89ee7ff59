package disk

import (
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// A Volume is a disk with one file system and its hash tree, beside disk.raw. Layout v1: as in disk.raw, a
// GPT with partitions on 1 MiB borders and of whole MiB:
//
//	#  offset            type                PARTUUID                        name
//	1  1 MiB             Linux data          first half of the root hash     data
//	2  after the data    Linux data          second half of the root hash    data-verity
//	   last MiB          backup entries and header
//
// The type says nothing about what the partitions are, so that nobody takes them for a root. The disk GUID
// derives from "volume" and the volume's name. Both partitions are read-only.
type Volume struct {
	Data, Hash Area
	Size       int64 // of the disk in bytes
	name       string
}

// PlanVolume computes the layout of a volume for a file system and a verity hash file of so many bytes.
func PlanVolume(name string, dataSize, hashSize int64) (*Volume, error) {
	if name == "" {
		return nil, fmt.Errorf("volume: name is empty")
	}
	for _, n := range []int64{dataSize, hashSize} {
		if n < 1 || n > maxDisk/4 {
			return nil, fmt.Errorf("volume %s: part of %d bytes: want 1 to %d", name, n, int64(maxDisk/4))
		}
	}
	v := &Volume{Data: Area{mib, wholeMiB(dataSize)}, name: name}
	v.Hash = Area{v.Data.Offset + v.Data.Size, wholeMiB(hashSize)}
	v.Size = v.Hash.Offset + v.Hash.Size + mib
	return v, nil
}

// Finish sets the size of f and writes the GPT.
func (v *Volume) Finish(f *os.File, rootHash [32]byte) error {
	if err := f.Truncate(v.Size); err != nil {
		return fmt.Errorf("volume %s: %w", v.name, err)
	}
	err := writeTable(f, v.Size, guidText(derive(v.name, "volume")), []*gpt.Partition{
		partition(1, "data", gpt.LinuxFilesystem, guidText([16]byte(rootHash[:16])), v.Data, attrReadOnly),
		partition(2, "data-verity", gpt.LinuxFilesystem, guidText([16]byte(rootHash[16:])), v.Hash, attrReadOnly),
	})
	if err != nil {
		return fmt.Errorf("volume %s: GPT: %w", v.name, err)
	}
	return nil
}
