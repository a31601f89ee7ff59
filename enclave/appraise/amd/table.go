package amd

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

const (
	entrySize  = 24 // GUID (16), offset (4), length (4), little-endian
	maxEntries = 32
)

// parseTable reads a certificate table (GHCB specification 2.03, SNP Extended Guest Request): entries, one
// of zeros, and the certificates that the entries point to. GUIDs are as RFC 4122 writes them.
func parseTable(b []byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	for i := 0; ; i++ {
		if i == maxEntries || len(b) < (i+1)*entrySize {
			return nil, fmt.Errorf("SNP endorsements: neither a certificate nor a certificate table of at most %d entries", maxEntries)
		}
		e := b[i*entrySize:][:entrySize]
		off, n := uint64(binary.LittleEndian.Uint32(e[16:])), uint64(binary.LittleEndian.Uint32(e[20:]))
		guid := formatGUID([16]byte(e))
		if off == 0 && n == 0 && [16]byte(e) == [16]byte{} {
			break
		}
		if off+n > uint64(len(b)) || n == 0 {
			return nil, fmt.Errorf("SNP endorsements: entry %d: bytes %d to %d of %d", i, off, off+n, len(b))
		}
		if _, ok := out[guid]; ok {
			return nil, fmt.Errorf("SNP endorsements: entry %d: %s twice", i, guid)
		}
		out[guid] = b[off : off+n]
	}
	if len(out) == 0 {
		return nil, errors.New("SNP endorsements: certificate table without entries")
	}
	return out, nil
}

// Table writes a certificate table of DER certificates and lists by GUID, ordered by GUID.
func Table(entries map[string][]byte) ([]byte, error) {
	head := make([]byte, entrySize*(len(entries)+1))
	var data []byte
	for i, guid := range slices.Sorted(maps.Keys(entries)) {
		g, err := parseGUID(guid)
		if err != nil {
			return nil, err
		}
		e := head[i*entrySize:]
		copy(e, g[:])
		binary.LittleEndian.PutUint32(e[16:], uint32(len(head)+len(data)))
		binary.LittleEndian.PutUint32(e[20:], uint32(len(entries[guid])))
		data = append(data, entries[guid]...)
	}
	return append(head, data...), nil
}

// cuts are where the dashes of a GUID stand.
var cuts = [5][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}}

func formatGUID(g [16]byte) (s string) {
	for i, c := range cuts {
		if i > 0 {
			s += "-"
		}
		s += hex.EncodeToString(g[c[0]:c[1]])
	}
	return s
}

func parseGUID(s string) (g [16]byte, err error) {
	if len(s) != 36 {
		return g, fmt.Errorf("GUID %.40q: %d characters, want 36", s, len(s))
	}
	b, err := hex.DecodeString(s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil || formatGUID([16]byte(b)) != s {
		return g, fmt.Errorf("GUID %.40q: want lower-case hex with dashes", s)
	}
	return [16]byte(b), nil
}
