package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// volume makes a file system with mkfs.vfat and fills it with mcopy.
func volume(t testing.TB, bits int, mib int, files map[string][]byte) []byte {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "vol")
	run := func(tool string, args ...string) {
		t.Helper()
		cmd := exec.Command(testtool.Need(t, tool), args...)
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", tool, args, err, msg)
		}
	}
	run("mkfs.vfat", "-C", fmt.Sprintf("-F%d", bits), "-i", "1234abcd", "-n", "ESP", name, fmt.Sprint(mib*1024))
	made := map[string]bool{".": true}
	paths := []string{}
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		var parents []string
		for d := filepath.Dir(path); !made[d]; d = filepath.Dir(d) {
			parents = append([]string{d}, parents...)
			made[d] = true
		}
		for _, d := range parents {
			run("mmd", "-i", name, "::"+d)
		}
		src := filepath.Join(dir, "src")
		if err := os.WriteFile(src, files[path], 0o600); err != nil {
			t.Fatal(err)
		}
		run("mcopy", "-i", name, src, "::"+path)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMtools(t *testing.T) {
	files := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI": bytes.Repeat([]byte("efi "), 30001), "EFI/Linux/a long file name.efi": []byte("long"),
		"loader/entries.srel": nil, "README.TXT": []byte("readme"),
	}
	for bits, mib := range map[int]int{12: 2, 16: 16, 32: 40} {
		b := volume(t, bits, mib, files)
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("FAT%d: %v", bits, err)
		}
		if v.Bits != bits || v.Serial != 0x1234abcd || v.Label != "ESP" || !v.TablesEqual || v.OEM != "mkfs.fat" {
			t.Errorf("FAT%d: %+v", bits, v)
		}
		got := map[string][]byte{}
		for i := range v.Entries {
			e := &v.Entries[i]
			if e.Dir() {
				continue
			}
			data, err := io.ReadAll(v.Content(e))
			if err != nil {
				t.Fatal(err)
			}
			got[strings.TrimPrefix(e.Path, "/")] = data
		}
		for path, want := range files {
			if !bytes.Equal(got[path], want) {
				t.Errorf("FAT%d: %s: %d bytes, want %d", bits, path, len(got[path]), len(want))
			}
		}
		if len(got) != len(files) || len(v.Entries) != len(files)+4 {
			t.Errorf("FAT%d: %d files, %d entries", bits, len(got), len(v.Entries))
		}
	}
}

// tiny is a FAT12 volume of 8 clusters with one file and one directory, by hand.
func tiny() []byte {
	b := make([]byte, 16*512)
	le := binary.LittleEndian
	copy(b, "\xeb\x3c\x90tiny    ")
	le.PutUint16(b[11:], 512)
	b[13], b[14], b[16], b[17], b[19], b[21], b[22] = 1, 1, 2, 16, 12, 0xf8, 1
	b[510], b[511] = 0x55, 0xaa
	for _, table := range []int{512, 1024} { // clusters 2 -> 3 -> end, 4 end
		copy(b[table:], []byte{0xf8, 0xff, 0xff, 0x03, 0xf0, 0xff, 0xff, 0x0f})
	}
	f, d := b[1536:], b[1568:]
	copy(f, "FILE    TXT")
	le.PutUint16(f[26:], 2)
	le.PutUint32(f[28:], 600)
	copy(d, "DIR        ")
	d[11] = 0x10
	le.PutUint16(d[26:], 4)
	return b
}

func TestRefusals(t *testing.T) {
	good := tiny()
	if v, err := Open(bytes.NewReader(good), int64(len(good))); err != nil || len(v.Entries) != 2 || v.Entries[0].Path != "/FILE.TXT" || v.Entries[0].Size != 600 {
		t.Fatalf("%+v, %v", v, err)
	}
	for _, c := range []struct {
		off   int
		value byte
		want  string
	}{
		{0, 0, "no boot sector"}, {511, 0, "no boot sector"}, {13, 3, "no boot sector"}, {12, 3, "no boot sector"},
		{16, 0, "0 tables"}, {19, 200, "of 200 sectors"}, {19, 4, "behind the end"}, {22, 0, "0 tables"},
		{515, 2, "used twice"}, {1562, 200, "cluster 200"}, {1562, 4, "shorter than"}, {1594, 2, "used twice"},
		{1536, '/', "not allowed"},
	} {
		b := bytes.Clone(good)
		b[c.off] = c.value
		if c.off == 22 {
			b[16] = 0
		}
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d = %d: %v, want %q", c.off, c.value, err, c.want)
		}
	}
	if _, err := Open(bytes.NewReader(nil), 0); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// TestLongNames: a name of 20 entries is the longest; what an entry of number 0x40 and more follows is left over.
func TestLongNames(t *testing.T) {
	open := func(numbers ...byte) ([]Entry, error) {
		b := tiny()
		b = append(b[:1536:1536], append(make([]byte, 2*512), b[2048:]...)...) // a root directory of 48 entries
		b[17] = 48
		b[19] += 2
		for i, n := range numbers {
			e := b[1536+32*i:]
			e[0], e[11] = n, attrLong
			for j, c := range bytes.Repeat([]byte{'a' + n&0x1f}, 13) {
				e[[]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}[j]] = c
			}
		}
		copy(b[1536+32*len(numbers):], "SHORT   TXT")
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		return v.Entries, nil
	}
	count := func(n int) (numbers []byte) {
		for ; n > 0; n-- {
			numbers = append(numbers, byte(n))
		}
		numbers[0] |= lastLong
		return numbers
	}
	for want, numbers := range map[string][]byte{
		"/bbbbbbbbbbbbbccccccccccccc": count(2),
		"/bbbbbbbbbbbbb":              {3, lastLong | 1},
	} {
		if got, err := open(numbers...); err != nil || len(got) != 1 || got[0].Path != want {
			t.Errorf("%d: want %s, got %+v, %v", numbers, want, got, err)
		}
	}
	if got, err := open(count(20)...); err != nil || len(got) != 1 || len(got[0].Path) != 261 {
		t.Errorf("20 entries: %+v, %v", got, err)
	}
	if _, err := open(count(21)...); err == nil || !strings.Contains(err.Error(), "a long name of more than 260 characters") {
		t.Errorf("21 entries: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(tiny())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for i := range v.Entries {
			e := &v.Entries[i]
			if n, err := io.Copy(io.Discard, v.Content(e)); n != e.Size || err != nil {
				t.Errorf("%s: %d of %d bytes: %v", e.Path, n, e.Size, err)
			}
		}
	})
}

func TestLongPaths(t *testing.T) {
	dir := "/" + strings.Repeat("a", maxPath-4)
	for name, want := range map[string]bool{"bb": true, "bbb": false} {
		w := &walker{v: &Volume{Bits: 16}}
		err := w.entry(dir, name, make([]byte, entrySize), 0)
		if (err == nil) != want || want != (len(w.v.Entries) == 1) {
			t.Errorf("a path of %d bytes: %v", len(dir)+1+len(name), err)
		}
	}
}
