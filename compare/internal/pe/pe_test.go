package pe

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// small is a PE32+ file with two sections and four bytes behind them.
func small() []byte {
	le := binary.LittleEndian
	b := make([]byte, 1024)
	copy(b, "MZ")
	le.PutUint32(b[60:], 64)
	c := b[64:]
	copy(c, "PE\x00\x00")
	le.PutUint16(c[4:], 0x8664)
	le.PutUint16(c[6:], 2)
	le.PutUint32(c[8:], 0x1234)
	le.PutUint16(c[20:], 240)
	le.PutUint16(c[22:], 0x22e)
	le.PutUint16(c[24:], 0x20b)
	le.PutUint32(c[24+108:], 16)
	le.PutUint32(c[24+64:], 0x5678)
	for i, name := range []string{".text", ".cmdline"} {
		h := c[24+240+40*i:]
		copy(h[:8], name)
		le.PutUint32(h[8:], 100)
		le.PutUint32(h[12:], uint32(4096*(i+1)))
		le.PutUint32(h[16:], 128)
		le.PutUint32(h[20:], uint32(512+128*i))
		copy(b[512+128*i:], name+" data")
	}
	return append(b[:768], "tail"...)
}

// debug/pe of the standard library reads the same sections.
func TestAgainstStandardLibrary(t *testing.T) {
	files := [][]byte{small()}
	stubs, _ := filepath.Glob("/usr/lib/systemd/boot/efi/*.efi*")
	if len(stubs) == 0 {
		t.Log("no systemd stub is installed: only the small file is read")
	}
	for _, name := range stubs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	for _, b := range files {
		want, err := pe.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.TimeDateStamp != want.TimeDateStamp || got.Machine != want.Machine || len(got.Sections) != len(want.Sections) {
			t.Fatalf("headers: %+v", got)
		}
		for i, s := range got.Sections {
			w := want.Sections[i]
			raw, err := w.Data()
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != w.Name || s.Address != w.VirtualAddress || s.Virtual != w.VirtualSize || s.Flags != w.Characteristics || string(s.Data)+string(s.Padding) != string(raw) {
				t.Errorf("section %d: %s %+v", i, s.Name, w)
			}
		}
	}
	if f, err := Parse(small()); err != nil || string(f.Rest) != "tail" || f.CheckSum != 0x5678 || len(f.Sections[1].Padding) != 28 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		off   int
		value byte
		want  string
	}{{0, 'X', "no MZ"}, {63, 1, "no MZ"}, {64, 'X', "no MZ"}, {70, 0, "0 sections"}, {70, 97, "97 sections"}, {64 + 24 + 240 + 19, 1, ".text"}} {
		b := small()
		b[c.off] = c.value
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d: %v, want %q", c.off, err, c.want)
		}
	}
	if _, err := Parse(nil); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(small())
	f.Fuzz(func(t *testing.T, b []byte) {
		if file, err := Parse(b); err == nil && len(file.Sections) == 0 {
			t.Error("no sections and no error")
		}
	})
}
