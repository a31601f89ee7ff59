package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/measure/snp"
)

// TestKernelHashes puts the table that enters an SNP launch digest before the firmware that checks it:
// AmdSev OVMF, under emulation. With the right table the image boots; with one bit wrong the firmware stops
// before the kernel. Both machines run at once; one on its own takes some 10 seconds, and a stop can only be
// seen by waiting, here for twice the time that the right one took.
func TestKernelHashes(t *testing.T) {
	l := built(t)
	program := testtool.Need(t, qemu.Binary)
	firmware := filepath.Join(l.out, "firmware", "amdsev.fd")
	fw := snpFirmware(t, firmware)
	initrd, cmdline := read(t, filepath.Join(l.out, "initrd")), string(read(t, filepath.Join(l.out, "cmdline")))
	const memory = 512
	kernel := read(t, filepath.Join(l.out, "vmlinuz"))
	if qemuMajor(t, program) < 10 {
		patchHeader(kernel, uint32(len(initrd)), memory<<20)
	}
	hashes := snp.KernelHashes{Kernel: sha256.Sum256(kernel), Initrd: sha256.Sum256(initrd), Cmdline: snp.HashCmdline(cmdline)}
	right := hashes.Table()
	hashes.Initrd[31] ^= 1
	wrong := hashes.Table()

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	machine := qemu.Machine{QEMU: program, Accel: qemu.TCG, MemoryMB: memory, CPUs: 1, Firmware: firmware,
		Kernel: filepath.Join(l.out, "vmlinuz"), Initrd: filepath.Join(l.out, "initrd"), Cmdline: cmdline, Disk: filepath.Join(l.out, "disk.raw")}
	start := time.Now()
	good, bad := startWithTable(ctx, t, machine, fw.HashGPA, right), startWithTable(ctx, t, machine, fw.HashGPA, wrong)
	if !good.says(ctx, "tally-enclave: ") {
		t.Fatalf("right table: no boot in %v; console:\n%s", time.Since(start), good)
	}
	took := time.Since(start)
	t.Logf("booted in %v", took)
	wait, stop := context.WithTimeout(ctx, took)
	defer stop()
	if bad.says(wait, "Linux version") {
		t.Errorf("one bit wrong in the initrd's hash, and the kernel started:\n%s", bad)
	}
}

func snpFirmware(t *testing.T, path string) *snp.Firmware {
	t.Helper()
	b := read(t, path)
	fw, err := snp.ReadFirmware(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if !fw.HasHashTable() {
		t.Fatalf("%s checks no hashes", path)
	}
	return fw
}

// qemuMajor is the first number of QEMU's version.
func qemuMajor(t *testing.T, program string) int {
	t.Helper()
	out, err := exec.Command(program, "--version").Output()
	m := regexp.MustCompile(`version ([0-9]+)\.`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v: %s", err, out)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// patchHeader does to a kernel's setup header what QEMU before 10.0 does before the firmware sees it: SEV
// alone spares it, and this machine is none (QEMU hw/i386/x86.c; Linux Documentation/arch/x86/boot.rst).
func patchHeader(kernel []byte, initrdSize, memory uint32) {
	le := binary.LittleEndian
	top := le.Uint32(kernel[0x22c:])
	if le.Uint16(kernel[0x206:]) >= 0x20c && kernel[0x236]&2 != 0 {
		top = 0xffffffff
	}
	top = min(top, memory-0x28000-1)
	kernel[0x210] = 0xb0 // type_of_loader
	kernel[0x211] |= 0x80
	le.PutUint16(kernel[0x224:], 0xfe00)
	le.PutUint32(kernel[0x228:], 0x20000)
	le.PutUint32(kernel[0x218:], (top-initrdSize)&^4095)
	le.PutUint32(kernel[0x21c:], initrdSize)
}

// A console is what a machine has printed so far.
type console struct {
	mu  sync.Mutex
	b   bytes.Buffer
	end chan struct{}
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}

// says waits until the machine has printed text; false when it ended or ctx did.
func (c *console) says(ctx context.Context, text string) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !bytes.Contains([]byte(c.String()), []byte(text)) {
		select {
		case <-tick.C:
		case <-c.end:
			return bytes.Contains([]byte(c.String()), []byte(text))
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// startWithTable starts a machine in whose memory the table lies at reset, as an SNP launch leaves it.
func startWithTable(ctx context.Context, t *testing.T, m qemu.Machine, gpa uint32, table []byte) *console {
	t.Helper()
	file := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(file, table, 0o600); err != nil {
		t.Fatal(err)
	}
	args, err := m.Args()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, m.QEMU, append(args, "-device", fmt.Sprintf("loader,addr=%#x,file=%s,force-raw=on", gpa, file))...)
	c := &console{end: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c, c, 3*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait() // killed, or ended: says looks at what it printed
		close(c.end)
	}()
	t.Cleanup(func() { stop(); <-c.end })
	return c
}
