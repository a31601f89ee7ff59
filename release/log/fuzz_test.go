package log

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzEntries: what is read as an entry bundle is, written again, the same bytes.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0}, uint8(2))
	f.Add([]byte{0, 2, 'a'}, uint8(1))
	f.Add([]byte{0, 0, 9}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, w uint8) {
		leaves, rest, err := parseEntries(data, int(w))
		if err != nil {
			return
		}
		if len(leaves) != int(w) {
			t.Fatalf("%d leaves, want %d", len(leaves), w)
		}
		var again []byte
		for _, l := range leaves {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(l))), l...)
		}
		if !bytes.Equal(append(again, rest...), data) {
			t.Fatal("not the same bytes")
		}
	})
}
