//go:build linux && amd64

package main

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

// sgdisk makes a disk with an ESP, a root and a hash partition named by halves of diskRoot.
func sgdisk(t testing.TB) []byte {
	t.Helper()
	tool := testtool.Need(t, "sgdisk")
	p := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(p, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := rootPartUUIDs(diskRoot)
	out, err := exec.Command(tool, "-n", "1:2048:4095", "-n", "2:4096:8191", "-n", "3:8192:10239", "-t", "1:EF00", "-u", "2:"+ids.Data, "-u", "3:"+ids.Hash, p).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk: %v\n%s", err, out)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadGPTOfSgdisk(t *testing.T) {
	got, err := readGPT(bytes.NewReader(sgdisk(t)), 512)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	// The halves as systemd and mkimage print them: the root hash's digits in order.
	want := []gptEntry{
		{Number: 2, PartUUID: "01234567-89ab-cdef-0123-456789abcdef", First: 4096, Last: 8191},
		{Number: 3, PartUUID: "fedcba98-7654-3210-fedc-ba9876543210", First: 8192, Last: 10239},
	}
	if d := cmp.Diff(want, got[1:]); d != "" {
		t.Error(d)
	}
}

// table builds the smallest disk with a table, for sectors of any size.
func table(sector int, parts ...gptEntry) []byte {
	b := make([]byte, sector*6)
	le := binary.LittleEndian
	entries := b[2*sector : 2*sector+4*128]
	for i, p := range parts {
		e := entries[i*128:]
		e[0] = 1
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
	}
	h := b[sector:]
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[40:], 10)
	le.PutUint64(h[48:], 99)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 4)
	le.PutUint32(h[84:], 128)
	seal(b, sector)
	return b
}

// seal sets both checksums.
func seal(b []byte, sector int) {
	le := binary.LittleEndian
	h := b[sector:]
	if n, size := le.Uint32(h[80:]), le.Uint32(h[84:]); uint64(n)*uint64(size) <= uint64(len(b)-2*sector) {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[2*sector:2*sector+int(n*size)]))
	}
	le.PutUint32(h[16:], headerSum(h[:92]))
}

func TestReadGPT4K(t *testing.T) {
	got, err := readGPT(bytes.NewReader(table(4096, gptEntry{First: 10, Last: 99})), 4096)
	if err != nil || len(got) != 1 || got[0].First != 10 || got[0].Last != 99 || got[0].Number != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadGPTRefuses(t *testing.T) {
	le := binary.LittleEndian
	for want, change := range map[string]func(b []byte){
		"no GPT":                func(b []byte) { b[512] = 'x' },
		"revision 0x20000":      func(b []byte) { le.PutUint32(b[520:], 0x20000) },
		"header of 91 bytes":    func(b []byte) { le.PutUint32(b[524:], 91) },
		"header of 513 bytes":   func(b []byte) { le.PutUint32(b[524:], 513) },
		"stands in sector 2":    func(b []byte) { b[536] = 2 },
		"129 entries":           func(b []byte) { le.PutUint32(b[592:], 129) },
		"0 entries":             func(b []byte) { le.PutUint32(b[592:], 0) },
		"entries of 127":        func(b []byte) { le.PutUint32(b[596:], 127) },
		"entries of 384":        func(b []byte) { le.PutUint32(b[596:], 384) },
		"entries of 1024":       func(b []byte) { le.PutUint32(b[596:], 1024) },
		"in sector 1":           func(b []byte) { b[584] = 1 },
		"in sector 18446744073": func(b []byte) { le.PutUint64(b[584:], 1<<64-1) },
		"GPT entries: EOF":      func(b []byte) { b[584] = 200 },
		"sectors 9 to 99":       func(b []byte) { b[1024+32] = 9 },
		"sectors 10 to 100":     func(b []byte) { b[1024+40] = 100 },
		"sectors 10 to 5":       func(b []byte) { b[1024+40] = 5 },
	} {
		b := table(512, gptEntry{First: 10, Last: 99})
		change(b)
		seal(b, 512)
		if _, err := readGPT(bytes.NewReader(b), 512); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	good := table(512, gptEntry{First: 10, Last: 99})
	for _, sector := range []int64{0, 511, 1024, -512} {
		if _, err := readGPT(bytes.NewReader(good), sector); err == nil {
			t.Errorf("sectors of %d bytes: no error", sector)
		}
	}
	for n := range 1500 {
		if _, err := readGPT(bytes.NewReader(good[:n]), 512); err == nil {
			t.Fatalf("first %d bytes: no error", n)
		}
	}
}

// Every flipped bit of header and used entries is noticed.
func TestReadGPTChecksums(t *testing.T) {
	good := table(512, gptEntry{First: 10, Last: 99})
	for i := 512; i < 512+92; i++ {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := readGPT(bytes.NewReader(b), 512); err == nil {
			t.Errorf("byte %d of the header flipped: no error", i-512)
		}
	}
	b := bytes.Clone(good)
	b[1024+100] ^= 1
	if _, err := readGPT(bytes.NewReader(b), 512); err == nil || errors.Is(err, errNoGPT) {
		t.Errorf("entry flipped: %v", err)
	}
}

func FuzzGPT(f *testing.F) {
	f.Add(table(512, gptEntry{First: 10, Last: 99}), false)
	f.Add(table(4096, gptEntry{First: 10, Last: 11}, gptEntry{First: 12, Last: 13}), true)
	f.Fuzz(func(t *testing.T, b []byte, big bool) {
		sector := 512
		if big {
			sector = 4096
		}
		if len(b) >= 3*sector { // else no mutation gets past the checksums
			seal(b, sector)
		}
		got, err := readGPT(bytes.NewReader(b), int64(sector))
		if err != nil {
			return
		}
		for _, e := range got {
			if e.Number < 1 || e.Number > maxEntries || e.First > e.Last || len(e.PartUUID) != 36 {
				t.Errorf("%+v", e)
			}
		}
	})
}
