package pe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// build makes a small PE32+ image with the given sections and trailing bytes.
func build(names []string, data [][]byte, trailing []byte) []byte {
	le := binary.LittleEndian
	const opt, headers = 0x80 + 24, 0x400
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint16(b[0x86:], uint16(len(names)))
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[0x96:], 0x22e)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+32:], 4096)
	le.PutUint32(b[opt+36:], 512)
	le.PutUint32(b[opt+60:], headers)
	le.PutUint16(b[opt+68:], 10)
	le.PutUint32(b[opt+108:], 16)
	for i, n := range names {
		h := b[opt+240+i*40:]
		copy(h, n)
		raw := (len(data[i]) + 511) &^ 511
		le.PutUint32(h[8:], uint32(len(data[i])))
		le.PutUint32(h[12:], uint32(4096*(i+1)))
		le.PutUint32(h[16:], uint32(raw))
		le.PutUint32(h[20:], uint32(len(b)))
		le.PutUint32(h[36:], 0x60000020)
		b = append(b, data[i]...)
		b = append(b, make([]byte, raw-len(data[i]))...)
	}
	le.PutUint32(b[opt+56:], uint32(4096*(len(names)+1)))
	return append(b, trailing...)
}

func digest(t *testing.T, b []byte) string {
	t.Helper()
	im, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	im.Authenticode(h)
	return hex.EncodeToString(h.Sum(nil))
}

var samples = map[string][]byte{
	"one section":   build([]string{".text"}, [][]byte{[]byte("code")}, nil),
	"three":         build([]string{".text", ".data", ".linux"}, [][]byte{[]byte("code"), []byte("data"), make([]byte, 5000)}, nil),
	"trailing data": build([]string{".text"}, [][]byte{[]byte("code")}, []byte("12345678")),
}

// TestAuthenticodeBesidePesign asks the tool of the field.
func TestAuthenticodeBesidePesign(t *testing.T) {
	tool := testtool.Need(t, "pesign")
	for name, b := range samples {
		path := filepath.Join(t.TempDir(), "x.efi")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "-h", "-i", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want := regexp.MustCompile(`[0-9a-f]{64}`).FindString(string(out))
		if got := digest(t, b); got != want {
			t.Errorf("%s: %s, pesign says %s", name, got, want)
		}
	}
}

func TestCoverage(t *testing.T) {
	b := samples["trailing data"]
	want := digest(t, b)
	for _, c := range []struct {
		offset int
		moves  bool
	}{{0x10, true}, {0x80 + 24 + 64, false}, {0x80 + 24 + 67, false}, {0x400, true}, {len(b) - 1, true}, {0x80 + 24 + 200, true}} {
		bad := append([]byte(nil), b...)
		bad[c.offset] ^= 1
		if moved := digest(t, bad) != want; moved != c.moves {
			t.Errorf("byte %#x: digest moves %v, want %v", c.offset, moved, c.moves)
		}
	}
}

func TestData(t *testing.T) {
	im, err := Parse(samples["three"])
	if err != nil {
		t.Fatal(err)
	}
	if d, err := im.Data(".data"); err != nil || string(d) != "data" {
		t.Errorf("%q, %v", d, err)
	}
	if d, err := im.Data(".none"); err != nil || d != nil {
		t.Errorf("%q, %v", d, err)
	}
	twice, err := Parse(build([]string{".a", ".a"}, [][]byte{{1}, {2}}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := twice.Data(".a"); err == nil {
		t.Error("a section twice: no error")
	}
	for size, good := range map[uint32]bool{512: true, 513: false} {
		b := build([]string{".a"}, [][]byte{{1}}, nil)
		binary.LittleEndian.PutUint32(b[0x80+24+240+8:], size)
		im, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := im.Data(".a"); (err == nil) != good || good && len(d) != int(size) {
			t.Errorf("%d bytes of content in 512: %d, %v", size, len(d), err)
		}
	}
}

func TestRefusals(t *testing.T) {
	le := binary.LittleEndian
	const opt = 0x80 + 24
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":           {func(b []byte) []byte { return nil }, "no MZ"},
		"text":            {func(b []byte) []byte { return []byte(strings.Repeat("x", 500)) }, "no MZ"},
		"header far away": {func(b []byte) []byte { le.PutUint32(b[0x3c:], 1<<31); return b }, "no PE header"},
		"PE32":            {func(b []byte) []byte { le.PutUint16(b[opt:], 0x10b); return b }, "PE32+"},
		"no section":      {func(b []byte) []byte { le.PutUint16(b[0x86:], 0); return b }, "0 sections"},
		"many sections":   {func(b []byte) []byte { le.PutUint16(b[0x86:], 97); return b }, "97 sections"},
		"short optional":  {func(b []byte) []byte { le.PutUint16(b[0x94:], 100); return b }, "optional header of 100"},
		"directories":     {func(b []byte) []byte { le.PutUint32(b[opt+108:], 2); return b }, "2 data directories"},
		"headers huge":    {func(b []byte) []byte { le.PutUint32(b[opt+60:], 1<<30); return b }, "SizeOfHeaders"},
		"headers small":   {func(b []byte) []byte { le.PutUint32(b[opt+60:], 1); return b }, "SizeOfHeaders"},
		"section outside": {func(b []byte) []byte { le.PutUint32(b[opt+240+20:], 1<<30); return b }, `section ".text"`},
		"certificates":    {func(b []byte) []byte { le.PutUint32(b[opt+112+36:], 1<<20); return b }, "certificates"},
	} {
		b := c.change(append([]byte(nil), samples["one section"]...))
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range samples {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := Parse(b)
		got, ferr := fileDigests(t, bytes.NewReader(b), int64(len(b)), asIs)
		if (err == nil) != (ferr == nil) {
			t.Fatalf("whole: %v, as a file: %v", err, ferr)
		}
		if err != nil {
			return
		}
		if want := digest(t, b); got[0] != want {
			t.Fatalf("whole: %s, as a file: %s", want, got[0])
		}
		for _, s := range im.Sections {
			im.Data(s.Name)
		}
	})
}
