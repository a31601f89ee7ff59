package compare_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/compare"
)

// gptOf writes a partition table into b whose only partition begins at a sector and ends with b.
func gptOf(b []byte, first int) {
	le := binary.LittleEndian
	h, e := b[512:], b[1024:]
	copy(h, "EFI PART")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2) // sector of the entries
	le.PutUint32(h[80:], 1)
	le.PutUint32(h[84:], 128)
	e[0] = 1
	le.PutUint64(e[32:], uint64(first))
	le.PutUint64(e[40:], uint64(len(b)/512-1))
}

// TestDiskInItself: a partition that begins with the disk would hold the disk again. It is too large for the list of
// what was seen before.
func TestDiskInItself(t *testing.T) {
	dir := t.TempDir()
	var names [2]string
	for i := range names {
		b := make([]byte, 65<<20)
		gptOf(b, 0)
		b[len(b)-1] = byte(i)
		names[i] = filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(names[i], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var r *compare.Report
	err := sooner(t, func() (err error) {
		r, err = compare.Paths(t.Context(), names[0], names[1], compare.Options{})
		return err
	})
	if err != nil || r.Equal || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "sectors 0 to 133119: want none of the table") || !hasCause(r, "one byte differs") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestManyContainers: what lies within ten containers is compared as bytes, whatever it is.
func TestManyContainers(t *testing.T) {
	disk := func(levels int, last byte) []byte {
		b := make([]byte, (3*levels+8)*512)
		for i := range levels {
			gptOf(b[3*i*512:], 3)
		}
		b[len(b)-1] = last
		return b
	}
	for levels, deep := range map[int]bool{9: false, 10: true, 200: true} {
		r := files(t, disk(levels, 0), disk(levels, 1))
		if r.Equal || !hasCause(r, "one byte differs") || deep != (len(r.Notes) == 1 && strings.HasSuffix(r.Notes[0], "within 10 others: compared as bytes")) {
			t.Errorf("%d levels: equal %v, notes %.300q, causes\n%s", levels, r.Equal, r.Notes, causes(r))
		}
	}
}
