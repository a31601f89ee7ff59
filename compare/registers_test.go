package compare_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"tally/compare"
	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
	"tally/mkimage"
)

// A machine is what images are measured on: two real firmwares.
type machine struct {
	snp *snp.Firmware // with a page for kernel hashes
	tdx []byte
}

func newMachine(t testing.TB) machine {
	t.Helper()
	amdsev := unxz(t, "../examples/minimal/firmware/OVMF.amdsev.fd.xz")
	f, err := snp.ReadFirmware(bytes.NewReader(amdsev), int64(len(amdsev)))
	if err != nil {
		t.Fatal(err)
	}
	return machine{f, unxz(t, "../measure/snp/testdata/vectors/ovmf/OVMF.fd.xz")}
}

func unxz(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
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
	return b
}

func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// values measures an output by package measure: its UKI boot and its direct boot, by way to boot and register.
func (m machine) values(t testing.TB, out string) map[string]string {
	t.Helper()
	disk, err := os.Open(filepath.Join(out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	all := map[string]string{}
	uki, kernel, initrd, cmdline := read(t, out, "uki.efi"), read(t, out, "vmlinuz"), read(t, out, "initrd"), string(read(t, out, "cmdline"))
	r, err := pcr.Boot(pcr.Input{UKI: uki, Disk: disk}, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	for n, v := range r.PCRs {
		all[fmt.Sprintf("uki PCR %d", n)] = fmt.Sprintf("%x", []byte(v))
	}
	sig, err := snp.VCPUSignature("EPYC-v4")
	if err != nil {
		t.Fatal(err)
	}
	l, err := snp.Measure(snp.Input{VMM: snp.QEMU, Firmware: m.snp, VCPUs: 1, Signature: sig, Features: 1, Hashes: &snp.KernelHashes{
		Kernel: sha256.Sum256(kernel), Initrd: sha256.Sum256(initrd), Cmdline: snp.HashCmdline(cmdline)}})
	if err != nil {
		t.Fatal(err)
	}
	all["direct SNP launch digest"] = fmt.Sprintf("%x", l.Digest)
	profile, err := tdx.ParseProfile("qemu-10.2/edk2-202502")
	if err != nil {
		t.Fatal(err)
	}
	for boot, in := range map[string]tdx.Input{
		"direct": {Firmware: m.tdx, Kernel: kernel, Initrd: tdx.HashInitrd(bytes.NewReader(initrd), int64(len(initrd))), Cmdline: cmdline},
		"uki":    {Firmware: m.tdx, UKI: uki, Disk: disk},
	} {
		r, err := tdx.Compute(in, profile)
		if err != nil {
			t.Fatal(err)
		}
		for _, reg := range r.Registers {
			all[boot+" TDX "+strings.ToUpper(reg.Register)] += fmt.Sprintf("%x ", reg.Digest)
		}
	}
	for _, reg := range []string{"uki PCR 4", "uki PCR 5", "uki PCR 9", "uki PCR 11", "direct TDX RTMR1", "direct TDX RTMR2", "uki TDX RTMR1", "uki TDX RTMR2"} {
		if all[reg] == "" {
			t.Fatalf("package measure computes no %s: %v", reg, all)
		}
	}
	return all
}

// wantRegisters holds the names against what package measure computed of A and of B: those that move and no others.
func wantRegisters(t testing.TB, r *compare.Report, was, is map[string]string) {
	t.Helper()
	var want, got []string
	for reg, v := range was {
		if is[reg] != v {
			want = append(want, reg)
		}
	}
	for _, reg := range r.Registers {
		got = append(got, reg.Boot+" "+reg.Name)
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

// TestRegistersOfForeignUKIs: sections that ukify adds and mkimage does not, and a signature, which moves nothing.
func TestRegistersOfForeignUKIs(t *testing.T) {
	on, a := newMachine(t), copyDir(t, base(t))
	uki := func(section, data string) []byte {
		parts := []string{".sdmagic", "#### LoaderInfo: systemd-stub 257.13 ####", ".osrel", "ID=x\n", ".cmdline", "quiet", ".linux", string(kernel("6.12.1-test")), ".initrd", "archive"}
		for _, s := range []string{".pcrsig", ".pcrpkey", ".splash", ".dtb", ".ucode", ".uname", ".sbat"} {
			parts = append(parts, s, map[bool]string{true: data, false: "one"}[s == section])
		}
		return peFile(1536, parts...)
	}
	write := func(dir string, b []byte) string {
		path := filepath.Join(dir, "uki.efi")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write(a, uki("", ""))
	key, cert, signed := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "signed")
	tool(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", cert)
	tool(t, "sbsign", "--key", key, "--cert", cert, "--output", signed, plain)
	twice := filepath.Join(t.TempDir(), "twice")
	tool(t, "sbsign", "--key", key, "--cert", cert, "--output", twice, signed)
	was := on.values(t, a)
	others := map[string][]byte{"signed": read(t, signed), "signed twice": read(t, twice)}
	for _, s := range []string{".pcrsig", ".pcrpkey", ".splash", ".dtb", ".ucode", ".uname", ".sbat"} {
		others[s] = uki(s, "two")
	}
	for name, b := range others {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, a)
			path := write(dir, b)
			r := paths(t, plain, path, compare.Options{})
			wantRegisters(t, r, was, on.values(t, dir))
			if note := "Secure Boot"; (len(r.Notes) == 1 && strings.Contains(r.Notes[0], note)) != strings.HasPrefix(name, "signed") || r.Equal {
				t.Errorf("notes %q, equal %v", r.Notes, r.Equal)
			}
		})
	}
}

// TestFirmware changes one byte of the code and one of the variables of a real firmware. Whether MRTD moves is held
// against package measure; RTMR0 depends on the machine, too, and is not computed here.
func TestFirmware(t *testing.T) {
	fd := newMachine(t).tdx
	out := func(change int) string {
		return build(t, func(in *mkimage.Inputs) {
			in.Firmware[0].Data = bytes.Clone(fd)
			if change >= 0 {
				in.Firmware[0].Data[change] ^= 1
			}
		})
	}
	mrtd := func(dir string) string {
		b := read(t, dir, "firmware/ovmf.fd")
		m, err := tdx.Measure(bytes.NewReader(b), int64(len(b)), tdx.SinglePass)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", m.Digest)
	}
	a := out(-1)
	for _, c := range []struct {
		what string
		at   int
		want []string
	}{
		{"variables", 0x1000, []string{"SNP launch digest", "TDX RTMR0"}},
		{"code", 0x100000, []string{"SNP launch digest", "PCR 0", "TDX MRTD"}},
	} {
		b := out(c.at)
		var got []string
		for _, r := range paths(t, a, b, compare.Options{}).Registers {
			got = append(got, r.Name)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.what, d)
		}
		if moved := mrtd(a) != mrtd(b); moved != slices.Contains(got, "TDX MRTD") {
			t.Errorf("%s: MRTD moves: %v, but named are %q", c.what, moved, got)
		}
	}
}
