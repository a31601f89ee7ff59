package tdx

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"tally/internal/petest"
)

func smbiosTable(t testing.TB) []byte {
	t.Helper()
	_, boots := realBoots(t)
	b, err := hex.DecodeString(boots["direct-q10-sidfw"].SMBIOS)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSMBIOSRefusals(t *testing.T) {
	good := smbiosTable(t)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":        {nil, "no end-of-table structure in 0 bytes"},
		"no end":         {good[:len(good)-6], "no end-of-table structure"},
		"cut":            {good[:50], "structure of type 1 without its end"},
		"short":          {[]byte{1, 3, 0, 0, 0, 0}, "byte 0: no structure of at least 4 bytes"},
		"too long":       {[]byte{1, 200, 0, 0, 0, 0}, "byte 0: no structure"},
		"something else": {append(bytes.Clone(good), 0), "1 bytes behind its end"},
		"huge":           {make([]byte, maxSMBIOS+1), "want at most"},
	} {
		if b, err := measuredSMBIOS(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want an error with %q", name, len(b), err, c.want)
		}
	}
}

// TestSMBIOSHides changes what equal machines differ in, and what they do not.
func TestSMBIOSHides(t *testing.T) {
	good := smbiosTable(t)
	want, err := measuredSMBIOS(good)
	if err != nil {
		t.Fatal(err)
	}
	for off, hidden := range map[int]bool{8: true, 23: true, 24: true, 4: false, 6: false, 30: false} {
		b := bytes.Clone(good)
		b[off] ^= 0x20
		got, err := measuredSMBIOS(b)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got, want) != hidden {
			t.Errorf("byte %d of the system's structure: hidden %v, want %v", off, !hidden, hidden)
		}
	}
	// A serial number is blanked in its string, whose length stays.
	s := append([]byte{2, 11, 0, 0, 1, 0, 0, 2, 0, 0, 0}, "maker\x00serial 7\x00\x00"...)
	got, err := measuredSMBIOS(append(s, 127, 4, 0, 0, 0, 0))
	if err != nil || !bytes.Contains(got, []byte("maker\x00        \x00\x00")) || got[7] != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzSMBIOS(f *testing.F) {
	f.Add(smbiosTable(f))
	f.Add([]byte{2, 11, 0, 0, 1, 0, 0, 9, 0, 0, 0, 'a', 0, 0, 127, 4, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		out, err := measuredSMBIOS(b)
		if err == nil && len(out) != len(b) || !bytes.Equal(in, b) {
			t.Errorf("%d bytes of %d, or the input changed", len(out), len(b))
		}
	})
}

func TestAuthorities(t *testing.T) {
	entry := func(size, head, each uint32, data ...byte) []byte {
		b := slices.Clone(signatureX509[:])
		for _, v := range []uint32{size, head, each} {
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		return append(b, data...)
	}
	two := entry(28+36, 0, 18, make([]byte, 36)...)
	if got, err := (&store{db: two}).authorities(); err != nil || len(got) != 2 || got[1].What != "authority: certificate 2 of db" {
		t.Errorf("%+v, %v", got, err)
	}
	other := bytes.Clone(two)
	other[0] ^= 1 // hashes: they vouch for images without a certificate
	if got, err := (&store{db: append(other, two...)}).authorities(); err != nil || len(got) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		db   []byte
		want string
	}{
		"stray":      {[]byte{1, 2}, "2 stray bytes"},
		"too long":   {entry(100, 0, 16, make([]byte, 16)...), "signature list of 100 bytes"},
		"zero":       {entry(0, 0, 16, make([]byte, 16)...), "signature list of 0 bytes"},
		"zero entry": {entry(28+16, 0, 0, make([]byte, 16)...), "entries of 0"},
		"uneven":     {entry(28+35, 0, 17, make([]byte, 35)...), "entries of 17"},
		"wraps":      {entry(28+16, 0xfffffff0, 16, make([]byte, 16)...), "header 4294967280"},
		"many":       {entry(28+17*16, 0, 16, make([]byte, 17*16)...), "more than 16"},
	} {
		if got, err := (&store{db: c.db}).authorities(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

func FuzzAuthorities(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := (&store{db: b}).authorities(); err == nil && len(all) > maxAuthorities {
			t.Errorf("%d certificates", len(all))
		}
	})
}

func TestPatchRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		l    kernelLoad
		want string
	}{
		"short":         {make([]byte, setupEnd-1), kernelLoad{}, "want at least"},
		"too big":       {header(0x20f, 1, 2, 0), kernelLoad{512 << 20, 1 << 30, ""}, "does not fit below"},
		"as big":        {header(0x20f, 1, 2, 0), kernelLoad{512 << 20, 512<<20 - acpiReserve - 1, ""}, "does not fit below"},
		"little memory": {header(0x20f, 1, 2, 0), kernelLoad{acpiReserve, 1, ""}, "memory of 163840 bytes"},
		"old":           {header(0x1ff, 1, 2, 0), kernelLoad{512 << 20, 1, ""}, "takes no initrd"},
		"no kernel":     {header(0, 1, 2, 0), kernelLoad{512 << 20, 1, ""}, "no setup header"},
		"video":         {header(0x20f, 1, 2, 0), kernelLoad{512 << 20, 0, "vga=fun"}, "vga=fun"},
	} {
		if err := patchKernel(c.b, c.l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an error with %q", name, err, c.want)
		}
	}
}

func FuzzPatchKernel(f *testing.F) {
	f.Add(header(0x20f, 1, 0x3, 0x7fffffff)[:0x400], uint64(512<<20), uint64(1000), "quiet")
	f.Fuzz(func(t *testing.T, b []byte, memory, initrd uint64, cmdline string) {
		got := bytes.Clone(b)
		if patchKernel(got, kernelLoad{memory, initrd, cmdline}) != nil {
			return
		}
		for i := range got {
			if got[i] != b[i] && !(i >= 0x20 && i < 0x24 || i >= setupVideoMode && i < setupInitrdMax) {
				t.Errorf("byte %#x changed", i)
			}
		}
	})
}

func TestComputeRefusals(t *testing.T) {
	firmware, kernel, uki := ovmf(t), petest.Image(".text", "kernel"), petest.UKI("257", "quiet", string(petest.Image(".text", "kernel")), "initrd")
	arm := bytes.Clone(kernel)
	arm[0x85] = 0xaa // machine 0xaa64
	disk, slot := bytes.NewReader(nil), &PCIAddress{Slot: 1}
	for name, c := range map[string]struct {
		in      Input
		profile string
		want    string
	}{
		"zero":           {Input{}, "", "firmware: missing"},
		"no firmware":    {Input{Firmware: kernel}, "", "firmware: "},
		"both":           {Input{Firmware: firmware, Kernel: kernel, UKI: uki, Cmdline: "x"}, "", "kernel and UKI"},
		"kernel twice":   {Input{Firmware: firmware, Kernel: kernel, KernelFile: &File{disk, 1}, Cmdline: "x"}, "", "kernel and kernel file"},
		"file and UKI":   {Input{Firmware: firmware, KernelFile: &File{disk, 1}, UKI: uki, Cmdline: "x"}, "", "kernel and UKI"},
		"firmware twice": {Input{Firmware: firmware, FirmwareFile: &File{disk, 1}}, "", "firmware and firmware file"},
		"no bytes":       {Input{FirmwareFile: &File{disk, 0}}, "", "firmware: missing"},
		"short firmware": {Input{FirmwareFile: &File{bytes.NewReader(firmware), int64(len(firmware)) + pageSize}}, "", "firmware"},
		"short kernel":   {Input{Firmware: firmware, KernelFile: &File{bytes.NewReader(kernel), int64(len(kernel)) + 1}, Cmdline: "x"}, "", "kernel: PE image: byte"},
		"file on gce":    {Input{Firmware: firmware, KernelFile: &File{disk, 1}, Cmdline: "x"}, "gce/c3-standard-4", "gce boots a UKI from a disk"},
		"no header":      {Input{Firmware: firmware, KernelFile: &File{bytes.NewReader(kernel[:0x100]), 0x100}, Cmdline: "x"}, "qemu-8.2", "kernel: 256 bytes, want at least"},
		"arm64":          {Input{Firmware: firmware, Kernel: arm, Cmdline: "x"}, "qemu-10.2", "kernel: PE image: made for machine 0xaa64, want 0x8664"},
		"arm64 file":     {Input{Firmware: firmware, KernelFile: &File{bytes.NewReader(arm), int64(len(arm))}, Cmdline: "x"}, "qemu-10.2", "machine 0xaa64, want 0x8664"},
		"no kernel":      {Input{Firmware: firmware, Cmdline: "x"}, "", "without a kernel"},
		"no cmdline":     {Input{Firmware: firmware, Kernel: kernel}, "", "command line of 0 bytes"},
		"cmdline":        {Input{Firmware: firmware, Kernel: kernel, Cmdline: "é"}, "", "printable ASCII"},
		"empty initrd":   {Input{Firmware: firmware, Kernel: kernel, Cmdline: "x", Initrd: HashInitrd(disk, 0)}, "", "initrd: empty"},
		"short initrd":   {Input{Firmware: firmware, Kernel: kernel, Cmdline: "x", Initrd: HashInitrd(disk, 5)}, "qemu-10.2", "initrd: 0 bytes, want 5"},
		"no PE":          {Input{Firmware: firmware, Kernel: []byte("x"), Cmdline: "x"}, "qemu-10.2", "kernel: PE image"},
		"no UKI":         {Input{Firmware: firmware, UKI: kernel}, "", "UKI: no section"},
		"disk alone":     {Input{Firmware: firmware, Disk: disk}, "", "disk without a UKI"},
		"no GPT":         {Input{Firmware: firmware, UKI: uki, Disk: disk}, "", "disk: "},
		"device alone":   {Input{Firmware: firmware, UKI: uki, BootDevice: slot}, "", "boot device without a disk"},
		"direct on gce":  {Input{Firmware: firmware, Kernel: kernel, Cmdline: "x"}, "gce/c3-standard-4", "gce boots a UKI from a disk"},
		"memory":         {Input{Firmware: firmware, Memory: 5, ACPI: fixtures(t)[0].acpi(t)}, "", "memory of 5 bytes"},
		"ACPI":           {Input{Firmware: firmware, Memory: 1 << 30, ACPI: []byte{1}}, "", "ACPI tables: byte 0: 1 stray bytes"},
		"SMBIOS":         {Input{Firmware: firmware, Memory: 1 << 30, ACPI: fixtures(t)[0].acpi(t), SMBIOS: []byte{1}}, "edk2-202508", "SMBIOS table"},
		"variable store": {Input{Firmware: mangled(t), Memory: 1 << 30, ACPI: fixtures(t)[0].acpi(t)}, "", "variable store"},
	} {
		p, err := ParseProfile(c.profile)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Compute(c.in, p); err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, r, err, c.want)
		}
	}
	if _, err := Compute(Input{Firmware: firmware}, Profile{}); err == nil {
		t.Error("the zero profile: no error")
	}
}

// mangled is a firmware whose variable store is none.
func mangled(t testing.TB) []byte {
	b := ovmf(t)
	b[0x10] ^= 1
	return b
}

func TestParse(t *testing.T) {
	for _, s := range []string{"", "0", "0.8", "20.0", "0.00", "1.0x", " 1.0", "-1.0"} {
		if a, err := ParsePCIAddress(s); err == nil {
			t.Errorf("PCI address %q: %+v, want an error", s, a)
		}
	}
	if a, err := ParsePCIAddress("1f.7"); err != nil || a != (PCIAddress{31, 7}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, s := range []string{"x", "qemu-8.2/", "/edk2-202502", "edk2-202502/qemu-8.2", "qemu-8.2/edk2-202502/x", "gce/", "QEMU-8.2",
		"edk2-202502,", "edk2-202502,tpm", "qemu-8.2,secure-boot", ",secure-boot", "debian-ovmf-2025.02,secure-boot", "gce/c3-standard-4,secure-boot", "gce/c3-standard-4/2020-01"} {
		if p, err := ParseProfile(s); err == nil {
			t.Errorf("profile %q: %+v, want an error", s, p)
		}
	}
	for s, want := range map[string]bool{"qemu-8.2/edk2-202502,secure-boot": true, "edk2-202502,no-secure-boot": false} {
		if p, err := ParseProfile(s); err != nil || p.Firmwares[0].SecureBoot == nil || *p.Firmwares[0].SecureBoot != want {
			t.Errorf("profile %q: %+v, %v", s, p.Firmwares, err)
		}
	}
	if f := Firmwares()[0]; f.SecureBoot != nil {
		t.Error("the table was changed")
	}
	if _, err := ParseDigest(strings.Repeat("AB", 48)); err == nil {
		t.Error("an upper-case digest: no error")
	}
}
