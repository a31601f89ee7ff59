//go:build linux && amd64

package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Limits on a partition table; what mkimage writes has 128 entries of 128 bytes.
const (
	maxEntries   = 128
	maxEntrySize = 512
)

// errNoGPT says that a disk has no partition table of this kind, which is nothing wrong.
var errNoGPT = errors.New("no GPT")

// A gptEntry is one used entry of a GUID partition table.
type gptEntry struct {
	Number      int    // from 1, as the kernel counts
	PartUUID    string // 8-4-4-4-12, lower case, in the order systemd prints
	First, Last uint64 // sectors, inclusive
}

// readGPT reads the primary GUID partition table (UEFI 2.10, section 5.3) of a disk with sectors of the
// given size in bytes. The kernel makes partitions of the same table; reading it again is what ties a
// PARTUUID to a partition number, which the kernel shows nowhere. The backup table is not consulted: a
// disk whose primary one is damaged is not the disk that was built.
func readGPT(disk io.ReaderAt, sector int64) ([]gptEntry, error) {
	if sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("sectors of %d bytes: want 512 or 4096", sector)
	}
	h := make([]byte, sector)
	if _, err := disk.ReadAt(h, sector); err != nil || string(h[:8]) != "EFI PART" {
		return nil, errNoGPT
	}
	le := binary.LittleEndian
	headerSize := le.Uint32(h[12:])
	entryLBA, count, size := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	switch {
	case le.Uint32(h[8:]) != 0x10000:
		return nil, fmt.Errorf("GPT revision 0x%x: want 0x10000", le.Uint32(h[8:]))
	case headerSize < 92 || int64(headerSize) > sector:
		return nil, fmt.Errorf("GPT header of %d bytes: want 92 to %d", headerSize, sector)
	case headerSum(h[:headerSize]) != le.Uint32(h[16:]):
		return nil, errors.New("GPT header: checksum does not match")
	case le.Uint64(h[24:]) != 1:
		return nil, fmt.Errorf("GPT header: says it stands in sector %d, stands in 1", le.Uint64(h[24:]))
	case count == 0 || count > maxEntries || size < 128 || size > maxEntrySize || size&(size-1) != 0:
		return nil, fmt.Errorf("GPT: %d entries of %d bytes: want 1 to %d of 128, 256 or 512", count, size, maxEntries)
	case entryLBA < 2 || entryLBA > 1<<32:
		return nil, fmt.Errorf("GPT: entries in sector %d: want 2 or a little more", entryLBA)
	}
	table := make([]byte, count*size)
	if _, err := disk.ReadAt(table, int64(entryLBA)*sector); err != nil {
		return nil, fmt.Errorf("GPT entries: %w", err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, errors.New("GPT entries: checksum does not match")
	}
	return entries(table, int(size), le.Uint64(h[40:]), le.Uint64(h[48:]))
}

// entries reads the used entries; each lies between the sectors first and last.
func entries(table []byte, size int, first, last uint64) ([]gptEntry, error) {
	le := binary.LittleEndian
	var out []gptEntry
	for i := 0; (i+1)*size <= len(table); i++ {
		e := table[i*size : (i+1)*size]
		if [16]byte(e) == ([16]byte{}) { // type GUID zero: unused
			continue
		}
		p := gptEntry{Number: i + 1, PartUUID: guidText([16]byte(e[16:])), First: le.Uint64(e[32:]), Last: le.Uint64(e[40:])}
		if p.First < first || p.First > p.Last || p.Last > last {
			return nil, fmt.Errorf("GPT entry %d: sectors %d to %d, want them within %d to %d", p.Number, p.First, p.Last, first, last)
		}
		out = append(out, p)
	}
	return out, nil
}

// headerSum is the checksum of a header whose own checksum field counts as zero.
func headerSum(h []byte) uint32 {
	sum := crc32.ChecksumIEEE(h[:16])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4))
	return crc32.Update(sum, crc32.IEEETable, h[20:])
}

// guidText prints a GUID as stored on disk, whose first three fields are little-endian.
func guidText(g [16]byte) string {
	b := [16]byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6]}
	copy(b[8:], g[8:])
	return uuidText(hex.EncodeToString(b[:]))
}

// uuidText groups 32 hex digits as 8-4-4-4-12.
func uuidText(h string) string {
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// partUUIDs are how the two partitions of a volume are found: 8-4-4-4-12, lower case.
type partUUIDs struct{ Data, Hash string }

// rootPartUUIDs are those of the root: the halves of the root hash, as the Discoverable Partitions
// Specification has it.
func rootPartUUIDs(rootHash string) partUUIDs {
	return partUUIDs{uuidText(rootHash[:32]), uuidText(rootHash[32:])}
}

// parsePartUUIDs reads DATA,HASH: what the measured list says of a volume whose PARTUUIDs are not its root hash.
func parsePartUUIDs(v string) (p partUUIDs, err error) {
	data, hash, _ := strings.Cut(v, ",")
	for _, id := range []string{data, hash} {
		if h := strings.ReplaceAll(id, "-", ""); len(h) != 32 || !lowerHex(h) || uuidText(h) != id {
			return p, fmt.Errorf("%.80q: want two PARTUUIDs in lower case, with a comma between them", v)
		}
	}
	if data == hash {
		return p, fmt.Errorf("%.80q: want two PARTUUIDs that differ", v)
	}
	return partUUIDs{data, hash}, nil
}
