package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// disk makes a disk of 4 MiB with sgdisk.
func disk(t testing.TB) []byte {
	t.Helper()
	sgdisk := testtool.Need(t, "sgdisk")
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	msg, err := exec.Command(sgdisk, "--disk-guid=01234567-89AB-CDEF-0123-456789ABCDEF",
		"--new=1:2048:4095", "--typecode=1:EF00", "--change-name=1:esp é", "--partition-guid=1:11111111-2222-3333-4444-555555555555",
		"--new=3:4096:6143", "--typecode=3:4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "--partition-guid=3:AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE", "--attributes=3:set:60", name).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSgdisk(t *testing.T) {
	b := disk(t)
	got, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Table{
		SectorSize: 512, DiskSize: 4 << 20, MBR: b[:512], Revision: 0x10000, HeaderSize: 92, HeaderStands: true, Current: 1, Backup: 8191,
		FirstUsable: 34, LastUsable: 8158, DiskGUID: "01234567-89AB-CDEF-0123-456789ABCDEF", EntriesAt: 2, EntryCount: 128, EntrySize: 128,
		ArrayStands: true, BackupState: "equal",
		Partitions: []Partition{
			{Number: 1, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", GUID: "11111111-2222-3333-4444-555555555555", First: 2048, Last: 4095, Name: "esp é"},
			{Number: 3, Type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", GUID: "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE", First: 4096, Last: 6143, Attributes: 1 << 60},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if p := got.Partitions[1]; got.Offset(p) != 4096*512 || got.Size(p) != 1<<20 {
		t.Errorf("offset %d, size %d", got.Offset(p), got.Size(p))
	}
}

// A table of 4096-byte sectors, put together by hand: sgdisk makes none in a file.
func TestBigSectors(t *testing.T) {
	b := small(4096)
	got, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil || got.SectorSize != 4096 || len(got.Partitions) != 1 || got.Offset(got.Partitions[0]) != 3*4096 || !got.HeaderStands || !got.ArrayStands {
		t.Errorf("%+v, %v", got, err)
	}
}

// small is a disk of 8 sectors with one entry and no backup.
func small(sector int) []byte {
	b := make([]byte, 8*sector)
	le := binary.LittleEndian
	e := b[2*sector:]
	e[0], e[16], e[56] = 1, 2, 'x'
	le.PutUint64(e[32:], 3)
	le.PutUint64(e[40:], 4)
	h := b[sector:]
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], 7)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 2)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(e[:256]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return b
}

func TestFaultsAreShown(t *testing.T) {
	good := disk(t)
	for _, c := range []struct {
		what string
		off  int
		ok   func(*Table) bool
	}{
		{"header", 512 + 48, func(t *Table) bool { return !t.HeaderStands && t.BackupState != "equal" }},
		{"entries", 1024 + 60, func(t *Table) bool { return !t.ArrayStands && strings.Contains(t.BackupState, "entries") }},
		{"backup header", 4<<20 - 512 + 50, func(t *Table) bool { return t.HeaderStands && strings.Contains(t.BackupState, "checksum") }},
		{"backup entries", 4<<20 - 33*512 + 60, func(t *Table) bool { return strings.Contains(t.BackupState, "entries") }},
		{"mbr", 440, func(t *Table) bool { return !bytes.Equal(t.MBR, good[:512]) }},
	} {
		b := bytes.Clone(good)
		b[c.off] ^= 1
		got, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil || !c.ok(got) {
			t.Errorf("%s: not seen: %v, %+v", c.what, err, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	good := small(512)
	for _, c := range []struct {
		off   int
		value byte
		want  string
	}{
		{512 + 12, 91, "header of 91 bytes"}, {512 + 13, 9, "header of"}, {512 + 80, 0, "0 entries"}, {512 + 82, 1, "entries of"},
		{512 + 84, 64, "of 64 bytes"}, {512 + 72, 1, "entries at sector 1"}, {512 + 74, 1, "entries at sector"}, {1024 + 32, 0, "partition 1: sectors 0 to 4: want none of the table, which is 0, 1 and 2 to 2"},
		{1024 + 32, 1, "sectors 1 to 4: want none"}, {1024 + 32, 2, "sectors 2 to 4: want none"}, {1024 + 40, 2, "sectors 3 to 2"}, {1024 + 41, 2, "sectors 3 to 516"},
	} {
		b := bytes.Clone(good)
		b[c.off] = c.value
		if _, err := Read(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d = %d: %v, want %q", c.off, c.value, err, c.want)
		}
	}
	if _, err := Read(bytes.NewReader(make([]byte, 9000)), 9000); !errors.Is(err, ErrNone) {
		t.Errorf("zeros: %v", err)
	}
}

// TestPlaces: the table may lie behind partitions, and nothing may lie on another.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		table       int
		first, last byte // of a second partition; the first one is 3 to 4
		want        string
	}{
		{2, 5, 5, ""},
		{2, 4, 5, "partitions 1 and 2: sectors 3 to 4 and 4 to 5 overlap"},
		{2, 3, 3, "overlap"},
		{5, 6, 6, ""},
		{5, 2, 2, ""},
		{4, 6, 6, "partition 1: sectors 3 to 4: want none of the table, which is 0, 1 and 4 to 4"},
		{5, 5, 6, "partition 2: sectors 5 to 6: want none"},
	} {
		b := small(512)
		e := bytes.Clone(b[1024:1536])
		copy(e[128:], e[:128])
		e[128+32], e[128+40] = c.first, c.last
		clear(b[1024:1536])
		copy(b[c.table*512:], e)
		b[512+72] = byte(c.table)
		if _, err := Read(bytes.NewReader(b), int64(len(b))); (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("table at %d, partition %d to %d: %v, want %q", c.table, c.first, c.last, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small(512))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if table.Offset(p) < 0 || table.Size(p) <= 0 || table.Offset(p)+table.Size(p) > int64(len(b)) {
				t.Errorf("partition outside of the disk: %+v", p)
			}
		}
	})
}
