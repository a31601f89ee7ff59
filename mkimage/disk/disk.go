// Package disk lays out disk.raw: a GPT with an ESP (FAT32), the root file system and its hash tree.
package disk

import (
	"context"
	"errors"
	"os"
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

// A Layout says where everything lies. Root and Hash may be filled in place, in any order, before Finish.
type Layout struct {
	ESP, Root, Hash Area
	Size            int64 // of the disk in bytes
}

// A File is one file of the ESP.
type File struct {
	Path string // slash-separated, e.g. "EFI/BOOT/BOOTX64.EFI"
	Data []byte
}

// Plan computes the layout.
func Plan(s Spec) (*Layout, error) { return nil, errors.New("disk: not written yet") }

// Finish sets the size of f, writes the ESP and, last, the GPT whose root and hash PARTUUIDs are the
// halves of the root hash.
func (l *Layout) Finish(ctx context.Context, f *os.File, rootHash [32]byte, esp []File) error {
	return errors.New("disk: not written yet")
}
