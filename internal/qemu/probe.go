package qemu

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// KVMDevice is the kernel's door to hardware virtualisation.
const KVMDevice = "/dev/kvm"

// probeTime is far above what any of the probes takes where acceleration works.
const probeTime = 10 * time.Second

// Probe says whether accel really runs guests here, by running one for a moment: with a kernel file, that
// kernel, until it has decompressed itself and speaks (or panics, having no root); without, a few
// instructions in the place of a firmware. The error says what went wrong.
//
// That /dev/kvm can be opened proves little: software KVM for paravirtual guests has the same door, and
// with it a stock kernel dies in its decompressor.
func Probe(ctx context.Context, qemu string, accel Accel, kernel string) error {
	if accel == KVM {
		f, err := os.OpenFile(KVMDevice, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.Close()
	}
	m := Machine{QEMU: qemu, Accel: accel, MemoryMB: 256, CPUs: 1, Kernel: kernel}
	want := "Linux version "
	if kernel != "" {
		m.Cmdline = "console=ttyS0 panic=-1" // without an initrd it panics soon, and that ends it
	} else {
		dir, err := os.MkdirTemp("", "tally-probe-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		want, m.Firmware = probeWord, dir+"/probe.fd"
		if err := os.WriteFile(m.Firmware, speakingFirmware(probeWord), 0o600); err != nil {
			return err
		}
	}
	return m.expect(ctx, want)
}

const probeWord = "tally probe"

// expect boots m until its console says want.
func (m Machine) expect(ctx context.Context, want string) error {
	ok := false
	r, err := Run(ctx, m, Options{Boot: probeTime,
		Until: func(line string) bool { ok = ok || strings.Contains(line, want); return ok },
		Ready: func(context.Context) {}})
	if ok || err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the guest never said %q (%s)", want, r.End)
}

// firmwareSize is the smallest image QEMU takes for -bios: it ends at 4 GiB, where the CPU starts.
const firmwareSize = 64 << 10

// speakingFirmware returns a firmware that prints text on the first serial port and resets the machine,
// which under -no-reboot ends it. It runs in the CPU's first, 16-bit mode, in the last 64 KiB below
// 4 GiB, and executes a few floating-point and flag instructions on the way, which hypervisors that
// emulate this mode tend not to know.
func speakingFirmware(text string) []byte {
	b := make([]byte, firmwareSize)
	for i := range b {
		b[i] = 0xf4 // hlt
	}
	const data = 0x1000
	copy(b[data:], text+"\n\x00")
	copy(b[0x100:], []byte{
		0xfa, 0xfc, // cli; cld
		0xdb, 0xe3, // fninit
		0xbe, data & 0xff, data >> 8, // mov si, data
		0xba, 0xf8, 0x03, // next: mov dx, 0x3f8 (COM1)
		0x2e, 0xac, // cs lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz done
		0xee,       // out dx, al
		0xeb, 0xf4, // jmp next
		0xba, 0x64, 0x00, // done: mov dx, 0x64 (keyboard controller)
		0xb0, 0xfe, // mov al, 0xfe (pulse the reset line)
		0xee, // out dx, al
		0xf4, // hlt
	})
	// The first instruction of the CPU, 16 bytes below 4 GiB: jmp 0x100 (relative, wrapping in 64 KiB).
	rel := uint16(0x100 - 0xfff3 + 1<<16)
	copy(b[0xfff0:], []byte{0xe9, byte(rel), byte(rel >> 8)})
	return b
}
