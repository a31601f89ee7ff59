package compare_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"tally/compare"
	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/mkimage"
)

// firmware is the committed OVMF with a page for kernel hashes.
func firmware(t testing.TB) *snp.Firmware {
	t.Helper()
	f, err := os.Open("../examples/minimal/firmware/OVMF.amdsev.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	fw, err := snp.ReadFirmware(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return fw
}

func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// values measures an output: PCRs of its UKI boot, and the launch digest of its direct boot.
func values(t testing.TB, fw *snp.Firmware, out string) map[string]string {
	t.Helper()
	disk, err := os.Open(filepath.Join(out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	r, err := pcr.Boot(pcr.Input{UKI: read(t, out, "uki.efi"), Disk: disk}, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for n, v := range r.PCRs {
		all[fmt.Sprintf("PCR %d", n)] = fmt.Sprintf("%x", []byte(v))
	}
	sig, err := snp.VCPUSignature("EPYC-v4")
	if err != nil {
		t.Fatal(err)
	}
	l, err := snp.Measure(snp.Input{VMM: snp.QEMU, Firmware: fw, VCPUs: 1, Signature: sig, Features: 1, Hashes: &snp.KernelHashes{
		Kernel: sha256.Sum256(read(t, out, "vmlinuz")), Initrd: sha256.Sum256(read(t, out, "initrd")), Cmdline: snp.HashCmdline(string(read(t, out, "cmdline")))}})
	if err != nil {
		t.Fatal(err)
	}
	all["SNP launch digest"] = fmt.Sprintf("%x", l.Digest)
	return all
}

// wantRegisters holds the names against package measure, which computed the values of A and of B: those that move and
// no others. TDX RTMRs are not measured here: they hold the same events (UEFI 2.10, 38.4).
func wantRegisters(t testing.TB, r *compare.Report, was, is map[string]string) {
	t.Helper()
	var want, got []string
	for reg, v := range was {
		if is[reg] != v {
			want = append(want, reg)
		}
	}
	for _, reg := range r.Registers {
		if _, known := was[reg.Name]; known && (reg.Boot == "uki") == (reg.Name != "SNP launch digest") {
			got = append(got, reg.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("registers (-measured +named):\n%s", d)
	}
}

// TestRegistersOfLoneFiles: a disk, a UKI, an initrd and a file system alone move what they are part of.
func TestRegistersOfLoneFiles(t *testing.T) {
	a := base(t)
	b := build(t, func(in *mkimage.Inputs) { in.Init = content(5000, 9) })
	disk := copyDir(t, a)
	flip(t, filepath.Join(disk, "disk.raw"), 512+56) // the disk's GUID
	for _, c := range []struct {
		a, b string
		want []string
	}{
		{filepath.Join(a, "initrd"), filepath.Join(b, "initrd"), []string{"SNP launch digest", "TDX RTMR2", "PCR 4", "PCR 9", "PCR 11", "TDX RTMR1", "TDX RTMR2"}},
		{filepath.Join(a, "uki.efi"), filepath.Join(b, "uki.efi"), []string{"PCR 4", "PCR 9", "PCR 11", "TDX RTMR1", "TDX RTMR2"}},
		{filepath.Join(a, "disk.raw"), filepath.Join(disk, "disk.raw"), []string{"PCR 5", "TDX RTMR1"}},
		{filepath.Join(a, "firmware/ovmf.fd"), filepath.Join(b, "vmlinuz"), nil},
	} {
		var got []string
		for _, r := range paths(t, c.a, c.b, compare.Options{}).Registers {
			got = append(got, r.Name)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.a, d)
		}
	}
}
