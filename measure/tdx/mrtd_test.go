package tdx

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"
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
