// Package disk lays out disk.raw: a GPT with an ESP (FAT32), the root file system and its hash tree.
//
// Layout v1, in 512-byte sectors, every partition on a 1 MiB border and of whole MiB:
//
//	#  offset            type                   PARTUUID                          name
//	   0                 protective MBR, GPT header, 128 entries
//	1  1 MiB             ESP                    derived from the image's name     esp
//	2  after the ESP     root, x86-64           first half of the root hash       root
//	3  after the root    root verity, x86-64    second half of the root hash      root-verity
//	   last MiB          backup entries and header
//
// The GPT is measured by firmware, so none of it may float: the disk GUID and the ESP's are version 8
// UUIDs of SHA-256("tally disk v1" | 0 | name | 0 | "disk" or "esp"); the PARTUUIDs of root and verity
// are the halves of the root hash in printed order, as systemd's Discoverable Partitions Specification
// has them; both carry its read-only flag.
//
// FAT32 and GPT come from go-diskfs, which takes its times from the environment, writes the wrong cluster
// in first-level ".." entries and leaves FSInfo unknown; fat.go sets all of that after it. Its FAT writer
// works on memory, so that memory grows with the ESP and with nothing else.
package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib        = 1 << 20
	sectorSize = 512

	// The smallest ESP: FAT32 is defined by having at least 65525 clusters, here of one sector.
	minESP = 34 * mib
	// The protective MBR counts sectors in 32 bits.
	maxDisk = 1 << 41
)

// Partition types of the Discoverable Partitions Specification.
const (
	typeRoot   gpt.Type = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	typeVerity gpt.Type = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"

	attrReadOnly = 1 << 60
)

// An Area is a byte range of the disk; both values are multiples of 1 MiB.
type Area struct{ Offset, Size int64 }

// Spec is what must be known before the first byte is written.
type Spec struct {
	Name       string // image name; the disk GUID, the ESP's GUID and serial derive from it
	Epoch      int64  // seconds since 1970, for every FAT time
	RootSize   int64  // bytes of the root file system (erofs.Image.Size)
	HashSize   int64  // bytes of the verity hash file (verity.HashFileSize)
	ESPPayload int64  // upper bound of the bytes of all ESP files together
}

// A Layout says where everything lies. Root and Hash may be filled in place, in any order, before Finish;
// what is not filled must read as zero.
type Layout struct {
	ESP, Root, Hash Area
	Size            int64 // of the disk in bytes
	spec            Spec
}

// A File is one file of the ESP.
type File struct {
	Path string // slash-separated, letters, digits and "._-" only, e.g. "EFI/BOOT/BOOTX64.EFI"
	Data []byte // at least one byte
}

// Plan computes the layout.
func Plan(s Spec) (*Layout, error) {
	switch {
	case s.Name == "" || strings.ContainsRune(s.Name, 0):
		return nil, fmt.Errorf("disk: name %q: want at least one byte and no NUL", s.Name)
	case s.Epoch < 0:
		return nil, fmt.Errorf("disk: epoch %d: want at least 0", s.Epoch)
	}
	for _, n := range []struct {
		what string
		size int64
	}{{"root file system", s.RootSize}, {"hash tree", s.HashSize}, {"ESP payload", s.ESPPayload}} {
		if n.size < 1 || n.size > maxDisk/4 {
			return nil, fmt.Errorf("disk: %s of %d bytes: want 1 to %d", n.what, n.size, int64(maxDisk/4))
		}
	}
	// Two FATs take 8 bytes a cluster of at least 512: 2 % covers them, 1 MiB the directories and the rest.
	l := &Layout{spec: s}
	l.ESP = Area{mib, max(minESP, wholeMiB(s.ESPPayload+s.ESPPayload/50+mib))}
	if l.ESP.Size > maxESP {
		return nil, fmt.Errorf("disk: ESP of %d bytes: want at most %d", l.ESP.Size, int64(maxESP))
	}
	l.Root = Area{l.ESP.Offset + l.ESP.Size, wholeMiB(s.RootSize)}
	l.Hash = Area{l.Root.Offset + l.Root.Size, wholeMiB(s.HashSize)}
	l.Size = l.Hash.Offset + l.Hash.Size + mib
	return l, nil
}

func wholeMiB(n int64) int64 { return (n + mib - 1) / mib * mib }

// Finish sets the size of f, writes the ESP and, last, the GPT whose root and verity PARTUUIDs are the
// halves of the root hash.
func (l *Layout) Finish(ctx context.Context, f *os.File, rootHash [32]byte, esp []File) error {
	if err := f.Truncate(l.Size); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	fat, err := l.buildESP(ctx, esp)
	if err != nil {
		return fmt.Errorf("disk: ESP: %w", err)
	}
	if err := writeSparse(f, fat, l.ESP.Offset); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.writeGPT(f, rootHash); err != nil {
		return fmt.Errorf("disk: GPT: %w", err)
	}
	return nil
}

// writeSparse writes b at off and leaves out 64 KiB runs of zeros: a truncated file reads as zero there.
func writeSparse(w io.WriterAt, b []byte, off int64) error {
	const run = 64 << 10
	zero := make([]byte, run)
	for len(b) > 0 {
		n := min(run, len(b))
		if string(b[:n]) != string(zero[:n]) {
			if _, err := w.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (l *Layout) writeGPT(f *os.File, rootHash [32]byte) error {
	return writeTable(noSync{f, f}, l.Size, guidText(derive(l.spec.Name, "disk")), []*gpt.Partition{
		partition(1, "esp", gpt.EFISystemPartition, guidText(derive(l.spec.Name, "esp")), l.ESP, 0),
		partition(2, "root", typeRoot, guidText([16]byte(rootHash[:16])), l.Root, attrReadOnly),
		partition(3, "root-verity", typeVerity, guidText([16]byte(rootHash[16:])), l.Hash, attrReadOnly),
	})
}

func partition(index int, name string, typ gpt.Type, guid string, a Area, attr uint64) *gpt.Partition {
	return &gpt.Partition{Index: index, Name: name, Type: typ, GUID: guid, Attributes: attr,
		Start: uint64(a.Offset / sectorSize), End: uint64((a.Offset+a.Size)/sectorSize - 1)}
}

// writeTable writes protective MBR and GPT of a disk of size bytes.
func writeTable(f backend.WritableFile, size int64, guid string, partitions []*gpt.Partition) error {
	t := &gpt.Table{LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, ProtectiveMBR: true, GUID: guid, Partitions: partitions}
	if err := t.Write(f, size); err != nil {
		return err
	}
	// UEFI 2.10, table 5.4: the CHS fields of the protective entry, which go-diskfs leaves zero.
	if _, err := f.WriteAt([]byte{0, 2, 0}, 447); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte{0xff, 0xff, 0xff}, 451)
	return err
}

// derive is the identifier of a part of the disk that no content names.
func derive(name, part string) [16]byte {
	sum := sha256.Sum256([]byte("tally disk v1\x00" + name + "\x00" + part))
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8 (RFC 9562, 5.8)
	u[8] = u[8]&0x3f | 0x80
	return u
}

// guidText prints 16 bytes in order as 8-4-4-4-12.
func guidText(u [16]byte) string {
	h := strings.ToUpper(hex.EncodeToString(u[:]))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
