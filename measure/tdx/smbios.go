package tdx

import (
	"bytes"
	"fmt"
	"slices"
)

// maxSMBIOS is the largest SMBIOS table read, in bytes.
const maxSMBIOS = 1 << 20

const (
	smbiosEnd    = 127
	smbiosOEM    = 128 // and above: vendors' own
	smbiosHeader = 4   // type, length, u16 handle
)

// A field is what edk2 takes out of an SMBIOS structure before it is measured.
type field struct {
	off, size int
	text      bool // the number of a string, which is blanked
}

// hidden lists the fields per type that edk2 zeroes; none means all but the header (edk2
// MdeModulePkg/Universal/SmbiosMeasurementDxe/SmbiosMeasurementDxe.c; offsets: DMTF DSP0134).
var hidden = map[byte][]field{
	1:  {{7, 1, true}, {8, 16, false}, {24, 1, false}},
	2:  {{7, 1, true}, {10, 1, true}},
	3:  {{7, 1, true}, {8, 1, true}},
	4:  {{32, 1, true}, {33, 1, true}, {34, 1, true}, {35, 1, false}, {36, 1, false}, {37, 1, false}, {42, 2, false}, {44, 2, false}, {46, 2, false}, {17, 1, false}, {22, 2, false}},
	11: nil,
	15: nil,
	17: {{24, 1, true}, {25, 1, true}, {26, 1, true}},
	18: nil,
	22: {{7, 1, true}, {16, 2, false}, {18, 2, false}},
	23: {{5, 2, false}},
	27: {{12, 2, false}},
	31: nil,
	33: nil,
	39: {{8, 1, true}, {9, 1, true}, {10, 1, true}},
}

// smbiosStructures splits an SMBIOS table, as the firmware installed it (in a guest:
// /sys/firmware/dmi/tables/DMI), into its structures with their strings. The last is the end-of-table.
func smbiosStructures(b []byte) ([][]byte, error) {
	if len(b) > maxSMBIOS {
		return nil, fmt.Errorf("SMBIOS table: %d bytes, want at most %d", len(b), maxSMBIOS)
	}
	var all [][]byte
	for off := 0; off < len(b); {
		rest := b[off:]
		if len(rest) < smbiosHeader || int(rest[1]) < smbiosHeader || int(rest[1]) > len(rest) {
			return nil, fmt.Errorf("SMBIOS table: byte %d: no structure of at least %d bytes", off, smbiosHeader)
		}
		end := bytes.Index(rest[rest[1]:], []byte{0, 0})
		if end < 0 {
			return nil, fmt.Errorf("SMBIOS table: byte %d: structure of type %d without its end", off, rest[0])
		}
		size := int(rest[1]) + end + 2
		all = append(all, rest[:size])
		off += size
		if rest[0] == smbiosEnd {
			if off != len(b) {
				return nil, fmt.Errorf("SMBIOS table: %d bytes behind its end at byte %d", len(b)-off, off)
			}
			return all, nil
		}
	}
	return nil, fmt.Errorf("SMBIOS table: no end-of-table structure in %d bytes", len(b))
}

// measuredSMBIOS returns the table as edk2 from 202505 on measures it: serial numbers, UUID and what else
// differs between equal machines are blanked.
func measuredSMBIOS(b []byte) ([]byte, error) {
	all, err := smbiosStructures(b)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, s := range all {
		s = slices.Clone(s)
		fields, known := hidden[s[0]]
		switch {
		case s[0] >= smbiosOEM || known && fields == nil:
			clear(s[smbiosHeader:])
		default:
			for _, f := range fields {
				if int(s[1]) < f.off+f.size {
					continue
				}
				if f.text && s[f.off] != 0 {
					blank(s, s[f.off])
				}
				clear(s[f.off:][:f.size])
			}
		}
		out = append(out, s...)
	}
	return out, nil
}

// blank fills the n-th string of a structure with spaces. As edk2's, it takes the last string when there
// are fewer.
func blank(s []byte, n byte) {
	texts := s[s[1]:]
	last := texts[:0]
	for i := byte(0); i < n && len(texts) > 0 && texts[0] != 0; i++ {
		end := bytes.IndexByte(texts, 0)
		last, texts = texts[:end], texts[end+1:]
	}
	for i := range last {
		last[i] = ' '
	}
}
