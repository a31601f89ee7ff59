package ffs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"tally/internal/xz"
	"tally/measure/internal/fw"
)

// guidTcg2Pei names the module that measures the firmware into PCR 0 (edk2 SecurityPkg/Tcg/Tcg2Pei).
const guidTcg2Pei = "a0c98b77-cba5-4bb8-993b-4af6ce33ece4"

// maxUnpacked bounds the decompressed volumes, in bytes; OVMF's are 16 MB.
const maxUnpacked = 32 << 20

// Volumes are what OVMF measures of itself: Tcg2Pei takes the string that names the release, and the two volumes
// that the reset code decompressed to memory, each whole.
type Volumes struct {
	Measures bool   // Tcg2Pei is there; without it nothing is measured
	Version  string // PcdFirmwareVersionString; "" when no string is surely it
	PEI, DXE []byte
	Modules  []fw.GUID // of PEI, in the volume's order
	Core     Range     // of PEI: PeiCore
}

// A Range is a part of a volume.
type Range struct{ From, To int }

// ReadVolumes finds them in a firmware image, with or without a variable store:
//
//	volume… holds a file of type 0x0b … GUIDed section, LZMA … volume of PEI, volume of DXE
//
// (edk2 OvmfPkg/OvmfPkgX64.fdf, FVMAIN_COMPACT). Any other shape is an error: what such a firmware measures is not known.
func ReadVolumes(b []byte) (*Volumes, error) {
	if len(b) > fw.MaxSize {
		return nil, fmt.Errorf("firmware: %d bytes, want at most %d", len(b), fw.MaxSize)
	}
	packed, err := compressed(b)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	raw, err := xz.UnpackAlone(packed, maxUnpacked)
	if err != nil {
		return nil, fmt.Errorf("firmware: compressed volumes: %w", err)
	}
	v, err := split(raw)
	if err != nil {
		return nil, fmt.Errorf("firmware: compressed volumes: %w", err)
	}
	return v, nil
}

// compressed finds the one LZMA section of a firmware.
func compressed(b []byte) (found []byte, err error) {
	volumes, err := tile(b)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if !v.files {
			continue
		}
		files, err := v.list()
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.kind != fileVolume {
				continue
			}
			data, err := lzmaSection(f.body)
			if err != nil {
				return nil, err
			}
			if found != nil {
				return nil, errors.New("two files of compressed volumes, want one")
			}
			found = data
		}
	}
	if found == nil {
		return nil, errors.New("no file of compressed volumes: not OVMF?")
	}
	return found, nil
}

// lzmaSection returns the data of a file's only section, which must be GUIDed and LZMA.
func lzmaSection(body []byte) ([]byte, error) {
	all, err := fileSections(body)
	if err != nil {
		return nil, err
	}
	const header = 20 // GUID, u16 offset of the data from the section's start, u16 attributes
	if len(all) != 1 || all[0].kind != sectionGUIDed || len(all[0].body) < header || fw.GUID(all[0].body) != fw.ParseGUID(guidLZMA) {
		return nil, fmt.Errorf("file of volumes with %d sections, want one, compressed by LZMA", len(all))
	}
	s := all[0].body
	off := int(binary.LittleEndian.Uint16(s[16:])) - (len(body) - len(s))
	if off < header || off > len(s) {
		return nil, fmt.Errorf("LZMA section: data at byte %d of %d", off, len(s))
	}
	return s[off:], nil
}

// split takes the decompressed sections apart: the volume of PEI, then that of DXE.
func split(raw []byte) (*Volumes, error) {
	all, err := fileSections(raw)
	if err != nil {
		return nil, err
	}
	var found []*volume
	for _, s := range all {
		if s.kind != sectionVolume {
			continue
		}
		v, err := readVolume(s.body)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	if len(found) != 2 {
		return nil, fmt.Errorf("%d volumes, want one of PEI and one of DXE", len(found))
	}
	pei, err := found[0].with(filePEICore)
	if err != nil {
		return nil, fmt.Errorf("first volume: %w", err)
	}
	if _, err := found[1].with(fileDXECore); err != nil {
		return nil, fmt.Errorf("second volume: %w", err)
	}
	v := &Volumes{PEI: found[0].data, DXE: found[1].data}
	for _, f := range pei {
		v.Modules = append(v.Modules, f.name)
		if f.kind == filePEICore {
			v.Core = Range{f.at, f.at + len(f.body)}
		}
		if f.name != fw.ParseGUID(guidTcg2Pei) {
			continue
		}
		v.Measures = true
		if v.Version, err = version(f.body, v.DXE); err != nil {
			return nil, fmt.Errorf("Tcg2Pei: %w", err)
		}
	}
	return v, nil
}

// with lists a volume that must have a file of a type.
func (v *volume) with(kind byte) ([]ffsFile, error) {
	if !v.files {
		return nil, errors.New("not a file system")
	}
	files, err := v.list()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.kind == kind {
			return files, nil
		}
	}
	return nil, fmt.Errorf("no file of type %#02x", kind)
}

// version returns the string that names the release: the one UTF-16 string of Tcg2Pei's code that the DXE volume
// has too (its SMBIOS tables say it). Fewer than minVersion characters are not told from code: with no such
// string, or two, it is "". So it is with more than maxTexts strings to look for in megabytes.
func version(module, dxe []byte) (string, error) {
	parts, err := fileSections(module)
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	name, left := "", maxTexts
	for _, s := range parts {
		if s.kind != sectionTE && s.kind != sectionPE32 {
			continue
		}
		texts := wideStrings(s.body)
		if left -= len(texts); left < 0 {
			return "", nil
		}
		for _, text := range texts {
			if bytes.Contains(dxe, UTF16(text)) {
				found[text], name = true, text
			}
		}
	}
	if len(found) != 1 {
		return "", nil
	}
	return name, nil
}

// Sizes of a string that names a release, in characters.
const (
	minVersion = 4
	maxVersion = 128
)

// maxTexts is how many strings Tcg2Pei may have: OVMF's has one or two.
const maxTexts = 256

// wideStrings lists the printable UTF-16 strings that end in a NUL, at even places.
func wideStrings(b []byte) (all []string) {
	var run []byte
	for i := 0; i+1 < len(b); i += 2 {
		switch {
		case b[i+1] == 0 && b[i] >= 0x20 && b[i] < 0x7f:
			run = append(run, b[i])
			continue
		case b[i+1] == 0 && b[i] == 0 && len(run) >= minVersion && len(run) <= maxVersion:
			all = append(all, string(run))
		}
		run = run[:0]
	}
	return all
}

// UTF16 is ASCII text in little-endian UTF-16 with a NUL behind it, as firmware measures strings.
func UTF16(text string) []byte {
	b := make([]byte, 0, 2*len(text)+2)
	for i := range len(text) {
		b = append(b, text[i], 0)
	}
	return append(b, 0, 0)
}
