package verity

import (
	"bytes"
	"crypto/sha512"
	"slices"
	"testing"
)

// TestFullLevels: trees whose blocks are just full, or one digest short or over, beside a tree that is computed level by
// level.
func TestFullLevels(t *testing.T) {
	for _, n := range []int{2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 4096} {
		data := testData(n)[:n*512]
		p := Params{Hash: SHA512, DataBlockSize: 512, HashBlockSize: 512, Salt: []byte("salt")}
		sum := func(block []byte) []byte {
			d := sha512.Sum512(slices.Concat(p.Salt, block))
			return d[:]
		}
		level := data
		for first := true; first || len(level) > 512; first = false {
			var up []byte
			for b := range slices.Chunk(level, 512) {
				up = append(up, sum(slices.Concat(b, make([]byte, 512-len(b))))...)
			}
			level = up
		}
		want := sum(slices.Concat(level, make([]byte, 512-len(level))))
		if root, _ := format(t, data, p); !bytes.Equal(root.Bytes(), want) {
			t.Errorf("%d blocks: root %s, want %x", n, root, want)
		}
	}
}
