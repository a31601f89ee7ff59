package tdx

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/petest"
)

// counted counts the bytes that are read of a file.
type counted struct {
	*bytes.Reader
	n int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.n += n
	return n, err
}

// TestFilesAreTheirBytes: the registers are those of the bytes, whichever way they come, whichever of its forms a
// kernel is handed over in, with and without what a form depends on. A kernel is read once for all of them.
func TestFilesAreTheirBytes(t *testing.T) {
	kernel := petest.Image(".text", strings.Repeat("kernel", 50<<10))
	copy(kernel[setupMagic:], "HdrS\x0f\x02")
	kernel[setupXFlags] = above4G
	firmware, f := ovmf(t), fixtures(t)[0]
	plain := Input{Cmdline: "quiet", Kernel: kernel, Firmware: firmware}
	inputs := map[string]Input{"no initrd": plain}
	plain.Initrd = HashInitrd(strings.NewReader("initrd"), 6)
	inputs["no memory"] = plain
	plain.Memory, plain.ACPI = f.memory(t), f.acpi(t)
	inputs["memory"] = plain
	for name, in := range inputs {
		for _, profile := range []string{"", "qemu-8.2", "qemu-10.2/edk2-202608", "edk2-202502"} {
			want := compute(t, in, profile)
			k, file := &counted{Reader: bytes.NewReader(kernel)}, in
			file.Kernel, file.KernelFile = nil, &File{k, int64(len(kernel))}
			file.Firmware, file.FirmwareFile = nil, &File{bytes.NewReader(firmware), int64(len(firmware))}
			if d := cmp.Diff(want, compute(t, file, profile)); d != "" {
				t.Errorf("%s, %q: %s", name, profile, d)
			}
			if k.n > len(kernel) {
				t.Errorf("%s, %q: %d bytes read of the kernel's %d", name, profile, k.n, len(kernel))
			}
		}
	}
}

// TestMeasuredIsNotMeasuredAgain: MRTD of a firmware that was measured before is the same, and its volume is not read.
func TestMeasuredIsNotMeasuredAgain(t *testing.T) {
	firmware := ovmf(t)
	m, err := ReadFirmware(firmware)
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"", "qemu-8.2", "qemu-10.2/edk2-202608", "gce/c3-standard-4"} {
		want := compute(t, Input{Firmware: firmware}, profile)
		f := &counted{Reader: bytes.NewReader(firmware)}
		got := compute(t, Input{FirmwareFile: &File{f, int64(len(firmware))}, Measured: m}, profile)
		for i := range want.Registers {
			w, g := want.Registers[i], got.Registers[i]
			if g.Register != w.Register || g.Digest != w.Digest || g.Label != w.Label || !cmp.Equal(g.Covers, w.Covers) {
				t.Errorf("%q: %+v, want %+v", profile, g, w)
			}
		}
		if f.n > len(firmware)/2 {
			t.Errorf("%q: %d bytes read of the firmware's %d", profile, f.n, len(firmware))
		}
	}
}
