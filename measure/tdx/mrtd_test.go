package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"

	"tally/measure/internal/fw"
)

func unxz(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

var readOVMF = sync.OnceValues(func() ([]byte, error) { return unxz("../snp/testdata/vectors/ovmf/OVMF.fd.xz") })

func ovmf(t testing.TB) []byte {
	t.Helper()
	b, err := readOVMF()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

func measure(t testing.TB, b []byte, p Pass) *MRTD {
	t.Helper()
	m, err := Measure(bytes.NewReader(b), int64(len(b)), p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDebianFirmware(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/tdx-mrtd-debian.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Files []struct {
			File   string
			Single string `json:"mrtd_single_pass"`
			Two    string `json:"mrtd_two_pass"`
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Files) != 1 || v.Files[0].File != "OVMF.fd" {
		t.Fatalf("%v, %+v", err, v)
	}
	for p, want := range map[Pass]string{SinglePass: v.Files[0].Single, TwoPass: v.Files[0].Two} {
		m := measure(t, ovmf(t), p)
		if m.Digest.String() != want {
			t.Errorf("%s: %s, want %s", p, m.Digest, want)
		}
		if e := m.Events[0]; len(m.Events) != 6 || e.What != "BFV" || !e.Extended || e.GPA != 0xffc84000 || e.Pages != 0x37c {
			t.Errorf("%s: events %+v", p, m.Events)
		}
	}
}

// TestWhatMRTDCovers changes a byte of each part: the boot firmware volume enters, the variable store does
// not (it enters RTMR0), the metadata does.
func TestWhatMRTDCovers(t *testing.T) {
	for _, p := range Passes() {
		base := measure(t, ovmf(t), p).Digest
		for _, off := range []int{0x84000, 0x84fff, 0x100000, 4<<20 - 1} {
			b := ovmf(t)
			b[off] ^= 1
			if measure(t, b, p).Digest == base {
				t.Errorf("%s: byte %#x of the boot firmware volume does not enter", p, off)
			}
		}
		b := ovmf(t)
		b[0x83fff] ^= 1
		if measure(t, b, p).Digest != base {
			t.Errorf("%s: the variable store enters", p)
		}
	}
}

func TestRefusals(t *testing.T) {
	b := ovmf(t)
	whole := int64(len(b))
	if _, err := Measure(bytes.NewReader(b), whole, ""); err == nil || !strings.Contains(err.Error(), "pass") {
		t.Errorf("no pass: %v", err)
	}
	if _, err := Measure(bytes.NewReader(b[1:]), whole-1, SinglePass); err == nil || !strings.Contains(err.Error(), "want a multiple of 4096") {
		t.Errorf("odd size: %v", err)
	}
	guid := []byte{0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2}
	other := bytes.Replace(b, guid, make([]byte, 16), 1)
	if _, err := Measure(bytes.NewReader(other), whole, SinglePass); err == nil || !strings.Contains(err.Error(), "not built for TDX") {
		t.Errorf("no TDX metadata: %v", err)
	}
	if _, err := Measure(&holed{bytes.NewReader(b)}, whole, SinglePass); err == nil || !strings.Contains(err.Error(), "page at") {
		t.Errorf("a file with an unreadable page: %v", err)
	}
}

// withSections is Debian's firmware with six other sections.
func withSections(t testing.TB, list []fw.TDSection) []byte {
	b, le := ovmf(t), binary.LittleEndian
	table := b[bytes.Index(b, []byte("TDVF\xd0\x00\x00\x00"))+16:]
	for i, s := range list {
		r := le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, s.Offset), s.RawSize), s.GPA)
		copy(table[32*i:], le.AppendUint32(le.AppendUint32(le.AppendUint64(r, s.Size), uint32(s.Type)), s.Attr))
	}
	return b
}

// TestSectionsAsTheTDXModule computes MRTD of sections of every kind call by call: contents that end inside a page or
// pages before the section does, contents out of order in the file, pages that are added later, a section of nothing.
func TestSectionsAsTheTDXModule(t *testing.T) {
	list := []fw.TDSection{
		{Offset: 0x90000, RawSize: 0x12345, GPA: 0x1000_0000, Size: 0x15000, Type: fw.TDBootFirmware, Attr: fw.TDExtend},
		{Offset: 0, RawSize: 0x84000, GPA: 0xffc0_0000, Size: 0x84000, Type: fw.TDConfiguration},
		{GPA: 1 << 32, Size: 1 << 40, Type: fw.TDPermMemory, Attr: fw.TDPageAug},
		{Offset: 0x8f000, RawSize: 0x11000, GPA: 0x2000_0000, Size: 0x11000, Type: fw.TDPayload, Attr: fw.TDExtend},
		{GPA: 0x80_0000, Type: fw.TDTempMemory},
		{GPA: 0x80_9000, Size: 0x2000, Type: fw.TDHandOff},
	}
	b, le := withSections(t, list), binary.LittleEndian
	for _, pass := range Passes() {
		h := sha512.New384()
		call := func(name string, gpa uint64, data []byte) {
			var c [128]byte
			copy(c[:], name)
			le.PutUint64(c[16:], gpa)
			h.Write(c[:])
			h.Write(data)
		}
		var seen []uint64
		for _, s := range list {
			if s.Attr == fw.TDPageAug {
				continue
			}
			memory := make([]byte, s.Size)
			copy(memory, b[s.Offset:][:s.RawSize])
			extend := func(page uint64) {
				for at := page; s.Attr == fw.TDExtend && at < page+4096; at += 256 {
					call("MR.EXTEND", s.GPA+at, memory[at:at+256])
				}
			}
			for page := uint64(0); page < s.Size; page += 4096 {
				if call("MEM.PAGE.ADD", s.GPA+page, nil); pass == SinglePass {
					extend(page)
				}
			}
			for page := uint64(0); page < s.Size && pass == TwoPass; page += 4096 {
				extend(page)
			}
			if s.Size > 0 {
				seen = append(seen, s.GPA, s.Size/4096)
			}
		}
		m := measure(t, b, pass)
		var got []uint64
		for _, e := range m.Events {
			got = append(got, e.GPA, e.Pages)
		}
		if want := Digest(h.Sum(nil)); m.Digest != want || !slices.Equal(got, seen) {
			t.Errorf("%s: %s, want %s; pages %#x, want %#x", pass, m.Digest, want, got, seen)
		}
		if log := m.log(); len(log) != 4 || len(log[0].Covers) != 1 || len(log[1].Covers) != 0 {
			t.Errorf("%s: log %+v", pass, log)
		}
	}
}

func TestDigestText(t *testing.T) {
	good := strings.Repeat("ab", 48)
	d := Digest{1}
	for _, bad := range []string{"", good[2:], good + "ab", strings.ToUpper(good), "x" + good[1:]} {
		if err := d.UnmarshalText([]byte(bad)); err == nil || d != (Digest{1}) {
			t.Errorf("%q: %v, digest %s", bad, err, d)
		}
	}
	if err := d.UnmarshalText([]byte(good)); err != nil || d.String() != good {
		t.Errorf("%v, %s", err, d)
	}
}

// holed is a firmware with a page that cannot be read.
type holed struct{ *bytes.Reader }

func (h *holed) ReadAt(b []byte, off int64) (int, error) {
	const hole = 0x90000
	if off <= hole && hole < off+int64(len(b)) {
		n, _ := h.Reader.ReadAt(b[:hole-off], off)
		return n, io.ErrUnexpectedEOF
	}
	return h.Reader.ReadAt(b, off)
}

func BenchmarkMRTD(b *testing.B) {
	image := ovmf(b)
	b.SetBytes(int64(len(image)))
	for b.Loop() {
		measure(b, image, SinglePass)
	}
}
