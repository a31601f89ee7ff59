package tdx

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/internal/qtest"
	"tally/internal/testtool"
)

func qemu(t *testing.T) (context.Context, string) {
	t.Helper()
	path := testtool.Need(t, "qemu-system-x86_64")
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(stop)
	return ctx, path
}

// TestLinkAsQEMU derives table-loader and rsdp from the tables of machines of the QEMU installed, which has
// the files themselves to compare.
func TestLinkAsQEMU(t *testing.T) {
	ctx, path := qemu(t)
	for name, c := range map[string]struct {
		args  string
		vcpus int
	}{
		"plain":   {"-smp 1", 1},
		"many":    {"-smp 70 -device virtio-blk-pci,drive=d -drive if=none,id=d,driver=null-co", 70},
		"no HPET": {"-smp 4 -no-hpet -device virtio-scsi-pci", 4},
		"hotplug": {"-smp 2,maxcpus=5", 2},
		"NUMA":    {"-smp 2 -m 1024 -object memory-backend-ram,id=a,size=512M -object memory-backend-ram,id=b,size=512M -numa node,memdev=a -numa node,memdev=b -numa dist,src=0,dst=1,val=20", 2},
	} {
		if name == "no HPET" && !old(t, ctx, path) {
			c.args = "-smp 4 -machine hpet=off -device virtio-scsi-pci"
		}
		a, err := qtest.Capture(ctx, path, append([]string{"-machine", "q35"}, strings.Fields(c.args)...), 46)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ReadACPI(a.Tables)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got.Loader, a.Loader) || !bytes.Equal(got.RSDP, a.RSDP) {
			t.Errorf("%s: the derived files are not QEMU's", name)
		}
		if got.VCPUs != c.vcpus {
			t.Errorf("%s: %d processors, want %d", name, got.VCPUs, c.vcpus)
		}
	}
}

// old says whether QEMU is of a release before 8.
func old(t *testing.T, ctx context.Context, path string) bool {
	t.Helper()
	p, err := qtest.Identify(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(p.Version, "QEMU emulator version 7.")
}

// TestTablesOfGuest captures the tables of a published TDX guest: QEMU 10.0 gives them byte for byte.
func TestTablesOfGuest(t *testing.T) {
	ctx, path := qemu(t)
	f := fixtures(t)[1]
	args := strings.Fields("-machine q35,kernel_irqchip=split,memory-backend=mem0,smm=off,pic=off -cpu Skylake-Server,phys-bits=46 -smp 8 -m 4096M" +
		" -object memory-backend-ram,id=mem0,size=4096M -global q35-pcihost.pci-hole64-size=4096G -device virtio-rng-pci -device virtio-balloon-pci -device virtio-scsi-pci,id=scsi0")
	a, err := qtest.Capture(ctx, path, args, 46)
	if err != nil {
		t.Fatal(err)
	}
	p, err := qtest.Identify(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(a.Tables)
	same := hex.EncodeToString(sum[:]) == f.Events["acpi tables"]
	switch {
	case strings.HasPrefix(p.Version, "QEMU emulator version 10.0.") && !same:
		t.Errorf("%s: the tables are not the guest's", p.Version)
	case strings.HasPrefix(p.Version, "QEMU emulator version 7.") && same:
		t.Errorf("%s: the tables are those of a release that they should differ from", p.Version)
	}
}

// header makes the start of a kernel with a setup header; protocol 0 makes it no Linux kernel.
func header(protocol uint16, flags byte, xflags uint16, initrdMax uint32) []byte {
	b := make([]byte, 8192)
	copy(b, "MZ")
	b[0x1f1] = 4
	if protocol == 0 {
		return b
	}
	copy(b[setupMagic:], "HdrS")
	le := binary.LittleEndian
	le.PutUint16(b[setupProtocol:], protocol)
	b[setupFlags] = flags
	le.PutUint16(b[setupXFlags:], xflags)
	le.PutUint32(b[setupInitrdMax:], initrdMax)
	return b
}

// TestPatchAsQEMU holds the change of the setup header against the one that the QEMU installed makes.
func TestPatchAsQEMU(t *testing.T) {
	ctx, path := qemu(t)
	dir := t.TempDir()
	for name, c := range map[string]struct {
		kernel []byte
		initrd int
		memory uint64 // MiB
		append string
	}{
		"today":            {header(0x20f, 1, 0x7f, 0x7fffffff), 70_000, 512, "quiet"},
		"above 4G alone":   {header(0x20f, 1, 0x2, 0x37ffffff), 70_000, 2560, "quiet"},
		"not above 4G":     {header(0x20f, 1, 0x7d, 0x37ffffff), 70_000, 2560, "quiet"},
		"5-level, no 4G":   {header(0x20f, 1, 0x40, 0x1fffffff), 4097, 1024, "quiet"},
		"split memory":     {header(0x20f, 1, 0x3, 0x7fffffff), 1, 2816, "quiet"},
		"below the split":  {header(0x20f, 1, 0x3, 0x7fffffff), 1, 2815, "quiet"},
		"before xflags":    {header(0x20b, 1, 0x2, 0x37ffffff), 70_000, 1024, "quiet"},
		"before initrdmax": {header(0x202, 1, 0, 0), 70_000, 1024, "quiet"},
		"ancient":          {header(0x201, 1, 0, 0), 70_000, 1024, "quiet splash and more"},
		"low":              {header(0x20f, 0, 0x2, 0), 70_000, 1024, "a longer command line than sixteen bytes"},
		"no initrd":        {header(0x20f, 1, 0x2, 0), 0, 1024, "quiet"},
		"video":            {header(0x20f, 1, 0x2, 0), 0, 1024, "quiet vga=0x317 x"},
		"video by name":    {header(0x20f, 1, 0x2, 0), 0, 1024, "vga=ask"},
		"no kernel":        {header(0, 0, 0, 0), 0, 1024, ""},
	} {
		kernel, initrd := filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd")
		if err := os.WriteFile(kernel, c.kernel, 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"-machine", "q35", "-m", fmt.Sprint(c.memory), "-kernel", kernel, "-append", c.append}
		if c.initrd > 0 {
			if err := os.WriteFile(initrd, make([]byte, c.initrd), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-initrd", initrd)
		}
		theirs, err := setup(ctx, path, args)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ours := bytes.Clone(c.kernel)
		if err := patchKernel(ours, kernelLoad{c.memory << 20, uint64(c.initrd), c.append}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range theirs {
			if theirs[i] != ours[i] {
				t.Errorf("%s: byte %#x is %#x, QEMU's %#x", name, i, ours[i], theirs[i])
			}
		}
	}
}

// setup reads the part of a kernel that QEMU hands out apart, changed.
func setup(ctx context.Context, path string, args []string) ([]byte, error) {
	m, err := qtest.Start(ctx, path, args)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	size, err := m.Item(qtest.KeyKernelSetupSize, 4)
	if err != nil {
		return nil, err
	}
	return m.Item(qtest.KeyKernelSetup, int(binary.LittleEndian.Uint32(size)))
}
