// Package ffs reads the firmware volumes of OVMF down to the two that it measures into PCR 0. It decompresses them,
// which nothing else under measure does.
package ffs

import (
	"encoding/binary"
	"fmt"

	"tally/measure/internal/fw"
)

// GUIDs of firmware volumes and their files (UEFI PI 1.8 volume 3; edk2 MdePkg/Include/Guid/FirmwareFileSystem2.h,
// MdeModulePkg/Include/Guid/LzmaDecompress.h).
const (
	guidFFS2 = "8c8ce578-8a3d-4f1c-9935-896185c32dd3"
	guidLZMA = "ee4e5898-3914-4259-9d6e-dc7bd79403cf"
)

// Types of files and of their sections.
const (
	filePEICore = 0x04
	fileDXECore = 0x05
	fileVolume  = 0x0b
	filePad     = 0xf0

	sectionGUIDed = 0x02
	sectionPE32   = 0x10
	sectionTE     = 0x12
	sectionVolume = 0x17
)

const (
	volumeSmallest = 72 // bytes of a volume's header, with a block map of one entry and its end
	fileHeader     = 24
	maxEntries     = 4096 // volumes in a firmware, files in a volume, sections in a file
)

// A volume is a firmware volume (PI 1.8 volume 3, section 3.2.1).
type volume struct {
	data  []byte // all of it
	files bool   // it holds a file system
	first int    // where its first file is
}

// readVolume reads the volume at the start of b, which may go on behind it.
func readVolume(b []byte) (*volume, error) {
	le := binary.LittleEndian
	if len(b) < volumeSmallest || string(b[40:44]) != "_FVH" {
		return nil, fmt.Errorf("no firmware volume in %d bytes", len(b))
	}
	size, head, ext := le.Uint64(b[32:]), int(le.Uint16(b[48:])), int(le.Uint16(b[52:]))
	if size < volumeSmallest || size > uint64(len(b)) {
		return nil, fmt.Errorf("volume of %d bytes in %d", size, len(b))
	}
	v := &volume{data: b[:size], files: fw.GUID(b[16:]) == fw.ParseGUID(guidFFS2), first: head}
	if head < volumeSmallest || head%2 != 0 || head > len(v.data) {
		return nil, fmt.Errorf("volume header of %d bytes, want an even number from %d to %d", head, volumeSmallest, len(v.data))
	}
	sum := uint16(0)
	for i := 0; i < head; i += 2 {
		sum += le.Uint16(b[i:])
	}
	if sum != 0 {
		return nil, fmt.Errorf("volume header: sum %#x, want 0", sum)
	}
	if ext != 0 {
		if ext < head || ext+20 > len(v.data) || uint64(ext)+uint64(le.Uint32(b[ext+16:])) > size {
			return nil, fmt.Errorf("volume: extended header at byte %#x of %#x", ext, size)
		}
		v.first = ext + int(le.Uint32(b[ext+16:]))
	}
	return v, nil
}

// tile splits a firmware image into its volumes: they follow each other from the first byte to the last.
func tile(b []byte) ([]*volume, error) {
	var all []*volume
	for off := 0; off < len(b); {
		v, err := readVolume(b[off:])
		if err != nil {
			return nil, fmt.Errorf("byte %#x: %w", off, err)
		}
		if all = append(all, v); len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d volumes", maxEntries)
		}
		off += len(v.data)
	}
	return all, nil
}

// A ffsFile is a file of a volume (section 3.2.3), or a section of a file (3.2.4).
type ffsFile struct {
	name fw.GUID // of a file
	kind byte
	body []byte
	at   int // of a file: where the body lies in its volume
}

// list returns the files of a volume but pads. Files of 16 MiB and more have another header, and are refused.
func (v *volume) list() ([]ffsFile, error) {
	var all []ffsFile
	for off := align(v.first, 8); off+fileHeader <= len(v.data); {
		h := v.data[off:]
		if blank(h[:fileHeader]) {
			break // free space
		}
		size := u24(h[20:])
		if h[19]&1 != 0 || size < fileHeader || size > len(h) {
			return nil, fmt.Errorf("byte %#x of the volume: file of %d bytes, attributes %#x: want %d to %d and no large file", off, size, h[19], fileHeader, len(h))
		}
		if h[18] != filePad {
			all = append(all, ffsFile{fw.GUID(h), h[18], h[fileHeader:size], off + fileHeader})
		}
		if len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d files", maxEntries)
		}
		off = align(off+size, 8)
	}
	return all, nil
}

// fileSections splits the body of a file.
func fileSections(b []byte) ([]ffsFile, error) {
	var all []ffsFile
	for off := 0; off < len(b); {
		h := b[off:]
		if len(h) < 4 {
			return nil, fmt.Errorf("byte %#x of the file: %d stray bytes", off, len(h))
		}
		head, size := 4, u24(h)
		if size == 0xffffff && len(h) >= 8 {
			head, size = 8, int(binary.LittleEndian.Uint32(h[4:]))
		}
		if size < head || size > len(h) {
			return nil, fmt.Errorf("byte %#x of the file: section of %d bytes, want %d to %d", off, size, head, len(h))
		}
		if all = append(all, ffsFile{kind: h[3], body: h[head:size]}); len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d sections", maxEntries)
		}
		off = align(off+size, 4)
	}
	return all, nil
}

func u24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }

// blank says whether flash was erased here.
func blank(b []byte) bool {
	for _, c := range b {
		if c != 0xff {
			return false
		}
	}
	return true
}
