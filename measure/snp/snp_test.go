package snp

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// good is an input that measures; the mutation tests start from it.
func good(t testing.TB) Input {
	sig, _ := VCPUSignature("EPYC-v4")
	return Input{VMM: QEMU, Firmware: firmware(t, amdsev(t)), VCPUs: 2, Signature: sig, Features: 1,
		Hashes: &KernelHashes{Kernel: [32]byte{1}, Initrd: [32]byte{2}, Cmdline: HashCmdline("x")}}
}

// TestEveryInputMovesTheDigest changes one input at a time.
func TestEveryInputMovesTheDigest(t *testing.T) {
	base := good(t)
	seen := map[Digest]string{}
	check := func(what string, change func(*Input)) {
		t.Helper()
		in := base
		f := *base.Firmware
		f.Sections = append([]Section{}, f.Sections...)
		h := *base.Hashes
		in.Firmware, in.Hashes = &f, &h
		change(&in)
		got, err := Measure(in)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if other, ok := seen[got.Digest]; ok {
			t.Errorf("%s gives the same digest as %s", what, other)
		}
		seen[got.Digest] = what
	}
	check("nothing", func(*Input) {})
	check("vcpus", func(in *Input) { in.VCPUs = 3 })
	check("signature", func(in *Input) { in.Signature++ })
	check("features", func(in *Input) { in.Features = 0x21 })
	check("kernel", func(in *Input) { in.Hashes.Kernel[31] ^= 1 })
	check("initrd", func(in *Input) { in.Hashes.Initrd[0] ^= 1 })
	check("cmdline", func(in *Input) { in.Hashes.Cmdline = HashCmdline("x ") })
	check("no kernel", func(in *Input) { in.Hashes = nil })
	check("firmware bytes", func(in *Input) { in.Firmware.Digest[0] ^= 1 })
	check("reset address", func(in *Input) { in.Firmware.ResetEIP += 4 })
	check("section size", func(in *Input) { in.Firmware.Sections[0].Size -= pageSize })
	check("section order", func(in *Input) {
		s := in.Firmware.Sections
		s[0], s[1] = s[1], s[0]
	})
	for _, v := range VMMs()[1:] {
		check("vmm "+string(v), func(in *Input) { in.VMM = v })
	}
}

// TestShapesAreTheSameAsOneByOne holds the shared chain to the plain one.
func TestShapesAreTheSameAsOneByOne(t *testing.T) {
	in := good(t)
	counts := []int{1, 2, 3, 64, 512}
	all, err := MeasureShapes(in, counts)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range counts {
		in.VCPUs = n
		one, err := Measure(in)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(one, all[i]); d != "" {
			t.Errorf("%d vcpus: %s", n, d)
		}
		if last := one.Events[len(one.Events)-1]; last.Digest != one.Digest {
			t.Errorf("%d vcpus: the last event's digest is %s, the value %s", n, last.Digest, one.Digest)
		}
	}
	for _, bad := range [][]int{{0}, {2, 1}, {1, 1}, {513}} {
		if _, err := MeasureShapes(in, bad); err == nil {
			t.Errorf("vcpus %v: no error", bad)
		}
	}
}

// TestZeroLengthSections are legal and enter nothing: Debian's TDX build has some.
func TestZeroLengthSections(t *testing.T) {
	in := good(t)
	want, err := Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Firmware.Sections = append(in.Firmware.Sections, Section{Type: 1})
	if got, err := Measure(in); err != nil || got.Digest != want.Digest {
		t.Errorf("%v, %v; want %s", got, err, want.Digest)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Input)
		want   string
	}{
		"zero":            {func(in *Input) { *in = Input{} }, "vmm type"},
		"unknown vmm":     {func(in *Input) { in.VMM = "kvm" }, "vmm type \"kvm\""},
		"no firmware":     {func(in *Input) { in.Firmware = nil }, "firmware: missing"},
		"no vcpus":        {func(in *Input) { in.VCPUs = 0 }, "vcpus: 0"},
		"many vcpus":      {func(in *Input) { in.VCPUs = 513 }, "vcpus: 513"},
		"no features":     {func(in *Input) { in.Features = 0 }, "SNPActive"},
		"no signature":    {func(in *Input) { in.Signature = 0 }, "cpu signature"},
		"plain firmware":  {func(in *Input) { in.Firmware.HashGPA = 0 }, "no kernel-hashes table"},
		"unknown type":    {func(in *Input) { in.Firmware.Sections[0].Type = 9 }, "section 0: unknown type 0x9"},
		"odd section":     {func(in *Input) { in.Firmware.Sections[0].Size = 5 }, "whole pages"},
		"huge section":    {func(in *Input) { in.Firmware.Sections[0].Size = 0xfffff000 }, "whole pages below"},
		"table elsewhere": {func(in *Input) { in.Firmware.HashGPA += 1 << 20 }, "does not hold the table"},
		"table too low":   {func(in *Input) { in.Firmware.HashGPA |= 0xf80 }, "crosses a page border"},
		"odd firmware":    {func(in *Input) { in.Firmware.Size = 4097 }, "whole pages"},
	} {
		in := good(t)
		c.change(&in)
		if l, err := Measure(in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, l, err, c.want)
		}
	}
}

// TestEveryFirmwareByteCounts changes single bytes, on page borders above all, where the page before or
// the filler could hide them.
func TestEveryFirmwareByteCounts(t *testing.T) {
	image := bytes.Clone(amdsev(t))
	seen := map[Digest]int{firmware(t, image).Digest: -1}
	for _, off := range []int{0, 1, 4095, 4096, 8191, 65535, 65536, 1 << 20, len(image)/2 + 17, len(image) - 1} {
		image[off] ^= 1
		d := firmware(t, image).Digest
		if other, ok := seen[d]; ok {
			t.Errorf("byte %d changed: the same digest as with byte %d", off, other)
		}
		seen[d] = off
		image[off] ^= 1
	}
}

func TestReadFirmwareRefusals(t *testing.T) {
	image := amdsev(t)
	for name, b := range map[string][]byte{
		"empty":       nil,
		"odd size":    image[1:],
		"no table":    image[:len(image)-pageSize],
		"zeros":       make([]byte, pageSize),
		"only tables": bytes.Repeat([]byte{0xff}, pageSize),
	} {
		if f, err := ReadFirmware(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: %+v, want an error", name, f)
		}
	}
}

func TestVCPUTypes(t *testing.T) {
	for _, name := range VCPUTypes() {
		if sig, err := VCPUSignature(name); err != nil || sig == 0 {
			t.Errorf("%s: %#x, %v", name, sig, err)
		}
	}
	for _, name := range []string{"", "epyc", "EPYC-v9", "EPYC-Milan-v0", "host", "EPYC-v01"} {
		if _, err := VCPUSignature(name); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
	for want, f := range map[uint32][3]uint{0x800f12: {23, 1, 2}, 0x830f10: {23, 49, 0}, 0xa00f11: {25, 1, 1}, 0xa10f10: {25, 17, 0}, 0xb00f00: {26, 0, 0}, 0x000673: {6, 7, 3}} {
		if got, err := Signature(f[0], f[1], f[2]); err != nil || got != want {
			t.Errorf("%v: %#x, %v; want %#x", f, got, err, want)
		}
	}
	if _, err := Signature(271, 0, 0); err == nil {
		t.Error("family 271: no error")
	}
}

func BenchmarkMeasure512(b *testing.B) {
	in := good(b)
	in.VCPUs = 512
	for b.Loop() {
		if _, err := Measure(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFirmware(b *testing.B) {
	image := amdsev(b)
	b.SetBytes(int64(len(image)))
	for b.Loop() {
		if _, err := ReadFirmware(bytes.NewReader(image), int64(len(image))); err != nil {
			b.Fatal(err)
		}
	}
}

// A shrinking file has lost what is behind cut when its pages are read, but not when its tables were.
type shrinking struct {
	*bytes.Reader
	cut int64
}

func (s shrinking) ReadAt(b []byte, off int64) (int, error) {
	if len(b) < 16*pageSize || off+int64(len(b)) <= s.cut {
		return s.Reader.ReadAt(b, off)
	}
	n, _ := s.Reader.ReadAt(b[:max(0, s.cut-off)], off)
	return n, io.EOF
}

func TestFirmwareThatBecomesShorter(t *testing.T) {
	b := amdsev(t)
	size := int64(len(b))
	if _, err := ReadFirmware(shrinking{bytes.NewReader(b), size}, size); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int64{0, pageSize, size - pageSize, size - 16*pageSize, size - 1} {
		if f, err := ReadFirmware(shrinking{bytes.NewReader(b), cut}, size); err == nil {
			t.Errorf("the first %d of %d bytes: %+v", cut, size, f)
		}
	}
}

func TestDigestText(t *testing.T) {
	good := strings.Repeat("aB", 48)
	d := Digest{1}
	for _, bad := range []string{"", good[2:], good + "ab", good[:95] + "x"} {
		if err := d.UnmarshalText([]byte(bad)); err == nil || d != (Digest{1}) {
			t.Errorf("%q: %v, digest %s", bad, err, d)
		}
	}
	if err := d.UnmarshalText([]byte(good)); err != nil || d.String() != strings.ToLower(good) {
		t.Errorf("%v, %s", err, d)
	}
}

// TestFirmwareWithoutTables takes one table out of a firmware, by its GUID.
func TestFirmwareWithoutTables(t *testing.T) {
	image := amdsev(t)
	for want, id := range map[string]string{
		"no SEV metadata":       "\x66\x65\x88\xdc\x4a\x98\x98\x47\xa7\x5e\x55\x85\xa7\xbf\x67\xcc",
		"no SEV-ES reset block": "\xde\x71\xf7\x00\x7e\x1a\xcb\x4f\x89\x0e\x68\xc7\x7e\x2f\xb4\x4e",
	} {
		at := bytes.LastIndex(image, []byte(id))
		if at < 0 {
			t.Fatalf("%s: no such entry", want)
		}
		b := bytes.Clone(image)
		b[at] ^= 1
		if f, err := ReadFirmware(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want an error with %q", f, err, want)
		}
	}
	at := bytes.LastIndex(image, []byte("\x1f\x37\x55\x72\x3b\x3a\x04\x4b\x92\x7b\x1d\xa6\xef\xa8\xd4\x54"))
	for size, good := range map[uint32]bool{tableSize: true, tableSize - 1: false} {
		b := bytes.Clone(image)
		binary.LittleEndian.PutUint32(b[at-6:], size)
		if _, err := ReadFirmware(bytes.NewReader(b), int64(len(b))); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "set aside for kernel hashes") {
			t.Errorf("%d bytes for the hashes: %v", size, err)
		}
	}
}
