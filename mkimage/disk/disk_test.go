package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden is the SHA-256 of the fixture's disk in layout v1; see mkimage/erofs for what a change means.
const golden = "65ac0ae28f7bd9533deb42cd06aa99a8a0417653804e114337fdd5fd0e8c8b60"

var rootHash = sha256.Sum256([]byte("root hash of the fixture"))

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i/512)
	}
	return b
}

func fixture() (Spec, []File) {
	s := Spec{Name: "fixture", Epoch: 1767225600, RootSize: 5<<20 + 4096, HashSize: 45056, ESPPayload: 3 << 20}
	return s, []File{
		{"loader/loader.conf", []byte("timeout 0\n")},
		{"EFI/BOOT/BOOTX64.EFI", pattern(2<<20 + 1)},
		{"EFI/Linux/a-longer-name.efi", pattern(700)},
		{"EFI/Linux/a-longer-nome.efi", pattern(512)},
	}
}

// write builds a disk as the builder does: areas first, in any order, then Finish.
func write(t testing.TB, s Spec, files []File) (string, *Layout) {
	t.Helper()
	l, err := Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, a := range []struct {
		Area
		size int64
	}{{l.Hash, s.HashSize}, {l.Root, s.RootSize}} {
		if _, err := f.WriteAt(pattern(int(a.size)), a.Offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(context.Background(), f, rootHash, files); err != nil {
		t.Fatal(err)
	}
	return p, l
}

func sum(t testing.TB, p string) string {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// The same bytes whatever the environment, the zone and the order of the files.
func TestGolden(t *testing.T) {
	s, files := fixture()
	for _, env := range []string{"", "0", "1999999999", "nonsense"} {
		t.Setenv("SOURCE_DATE_EPOCH", env)
		t.Setenv("TZ", "Pacific/Kiritimati")
		p, _ := write(t, s, files)
		if got := sum(t, p); got != golden {
			t.Errorf("SOURCE_DATE_EPOCH=%q: layout v1 has changed: disk %s, want %s", env, got, golden)
		}
		files[0], files[2] = files[2], files[0]
	}
}

func TestAreas(t *testing.T) {
	s, files := fixture()
	p, l := write(t, s, files)
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != l.Size {
		t.Errorf("disk has %d bytes, want %d", len(b), l.Size)
	}
	end := int64(mib)
	for _, a := range []Area{l.ESP, l.Root, l.Hash} {
		if a.Offset != end || a.Offset%mib != 0 || a.Size%mib != 0 {
			t.Errorf("area %+v: want whole MiB from %d", a, end)
		}
		end = a.Offset + a.Size
	}
	for _, a := range []struct {
		Area
		size int64
	}{{l.Root, s.RootSize}, {l.Hash, s.HashSize}} {
		if !bytes.Equal(b[a.Offset:a.Offset+a.size], pattern(int(a.size))) {
			t.Errorf("area %+v: Finish changed what was written", a.Area)
		}
	}
}

// The identifiers must move with the name and the root hash, and with nothing else.
func TestDerivedIdentifiers(t *testing.T) {
	if derive("a", "disk") == derive("a", "esp") || derive("a", "disk") == derive("b", "disk") {
		t.Error("identifiers of different things are equal")
	}
	if derive("a\x00", "disk") == derive("a", "\x00disk") {
		t.Log("a NUL would be ambiguous, which is why Plan refuses it")
	}
	if got := guidText([16]byte{0x4f, 0x68, 0xbc, 0xe3, 0xe8, 0xcd, 0x4d, 0xb1, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09}); got != string(typeRoot) {
		t.Errorf("guidText gives %s, want %s", got, typeRoot)
	}
}

func TestPlanRefuses(t *testing.T) {
	good, _ := fixture()
	for want, change := range map[string]func(*Spec){
		`name ""`:                     func(s *Spec) { s.Name = "" },
		"no NUL":                      func(s *Spec) { s.Name = "a\x00b" },
		"epoch -1":                    func(s *Spec) { s.Epoch = -1 },
		"root file system of 0 bytes": func(s *Spec) { s.RootSize = 0 },
		"hash tree of -1 bytes":       func(s *Spec) { s.HashSize = -1 },
		"ESP payload of 0 bytes":      func(s *Spec) { s.ESPPayload = 0 },
		"root file system of 1099511": func(s *Spec) { s.RootSize = 1 << 40 },
		"ESP of 5":                    func(s *Spec) { s.ESPPayload = 5 << 30 },
	} {
		s := good
		change(&s)
		if _, err := Plan(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Plan: got %v, want %q", err, want)
		}
	}
}

func TestFinishRefuses(t *testing.T) {
	s, _ := fixture()
	for want, files := range map[string][]File{
		"0 files":               {},
		"clean relative":        {{"/EFI/x", []byte("x")}},
		"clean relative path":   {{"EFI/../x", []byte("x")}},
		"letters, digits":       {{"EFI/é", []byte("x")}},
		"letters, digits and":   {{"", []byte("x")}},
		"cannot tell it":        {{"a/B", []byte("x")}, {"a/b", []byte("x")}},
		"0 bytes":               {{"a", nil}},
		"of at most the 314572": {{"a", make([]byte, 3<<20+1)}},
		"short name":            {{"x.confa", []byte("x")}, {"x.confb", []byte("x")}},
	} {
		l, err := Plan(s)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Finish(context.Background(), f, rootHash, files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", files, err, want)
		}
		f.Close()
	}
}

func TestFinishCancel(t *testing.T) {
	s, files := fixture()
	l, err := Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Finish(ctx, f, rootHash, files); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// An ESP filled to the last byte that was planned must fit, at every size class; no cluster may lie beyond
// the partition.
func TestFullESP(t *testing.T) {
	for _, payload := range []int64{1, 31 << 20, 32 << 20, 100<<20 + 5, 250 << 20, 254 << 20, 260 << 20} {
		l, err := Plan(Spec{Name: "full", RootSize: 1, HashSize: 1, ESPPayload: payload})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.buildESP(context.Background(), []File{{"EFI/BOOT/BOOTX64.EFI", make([]byte, payload)}}); err != nil {
			t.Errorf("payload %d in an ESP of %d: %v", payload, l.ESP.Size, err)
		}
	}
}

func TestDOSTime(t *testing.T) {
	for _, tt := range []struct {
		epoch       int64
		date, clock uint16
	}{
		{0, 0<<9 | 1<<5 | 1, 0},                                 // FAT begins in 1980
		{1767225600 + 3661, 46<<9 | 1<<5 | 1, 1<<11 | 1<<5 | 0}, // 2026-01-01 01:01:01, in steps of 2 s
		{1 << 40, 127<<9 | 12<<5 | 31, 23<<11 | 59<<5 | 29},
	} {
		if date, clock := dosTime(tt.epoch); date != tt.date || clock != tt.clock {
			t.Errorf("epoch %d: got %#x %#x, want %#x %#x", tt.epoch, date, clock, tt.date, tt.clock)
		}
	}
}

func TestVolumeRefusals(t *testing.T) {
	good := VolumeSpec{Name: "v", DataSize: 1, HashSize: 1, DataID: [16]byte{1}, HashID: [16]byte{2}}
	if _, err := PlanVolume(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*VolumeSpec){
		"name is empty": func(s *VolumeSpec) { s.Name = "" },
		"both PARTUUIDs are 01000000-0000-0000-0000-000000000000": func(s *VolumeSpec) { s.HashID = s.DataID },
		"part of 0 bytes": func(s *VolumeSpec) { s.HashSize = 0 },
		"part of 549755813889 bytes: want 1 to 549755813888": func(s *VolumeSpec) { s.DataSize = maxDisk/4 + 1 },
	} {
		s := good
		change(&s)
		if _, err := PlanVolume(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestFrame: a table that would lie elsewhere than at the two ends is an error.
func TestFrame(t *testing.T) {
	f := newFrame(1 << 20)
	for off, ok := range map[int64]bool{0: true, headSize - 1: true, headSize: false, 1<<20 - tailSize - 1: false, 1<<20 - tailSize: true, 1<<20 - 1: true, 1 << 20: false} {
		if _, err := f.WriteAt([]byte{1}, off); (err == nil) != ok {
			t.Errorf("offset %d: %v", off, err)
		}
	}
}
