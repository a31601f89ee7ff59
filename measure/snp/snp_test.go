package snp

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// unxz reads an xz file and checks what it holds.
func unxz(t testing.TB, path, sum string) []byte {
	t.Helper()
	f, err := os.Open(path)
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
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
		t.Fatalf("%s: SHA-256 %x, want %s", path, got, sum)
	}
	return b
}

func amdsev(t testing.TB) []byte {
	return unxz(t, "../../examples/minimal/firmware/OVMF.amdsev.fd.xz", "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f")
}

func firmware(t testing.TB, image []byte) *Firmware {
	t.Helper()
	f, err := ReadFirmware(image)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func hash(t testing.TB, s string) (h [32]byte) {
	t.Helper()
	if n, err := hex.Decode(h[:], []byte(s)); err != nil || n != 32 {
		t.Fatalf("bad hash %q", s)
	}
	return h
}

// TestSevSnpMeasure replays the launch-digest cases of sev-snp-measure's own suite.
func TestSevSnpMeasure(t *testing.T) {
	var v struct {
		Fixtures map[string]string `json:"fixtures_gzip_base64"`
		Cases    []struct {
			Test  string
			Calls []struct {
				Fn   string
				Args []any
				Kw   map[string]any
			}
			Expected []string
		}
	}
	readJSON(t, "sev-snp-measure.json", &v)
	images := map[string][]byte{}
	for name, text := range v.Fixtures {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		zr, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if images["tests/fixtures/"+name], err = io.ReadAll(zr); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for _, c := range v.Cases {
		for _, call := range c.Calls {
			if call.Fn != "calc_launch_digest" || call.Args[0] != "SevMode.SEV_SNP" || call.Kw["dump_vmsa"] != nil {
				continue // SEV and SEV-ES have no launch digest of this kind
			}
			image := images[fmt.Sprint(call.Args[3])]
			if image == nil {
				continue // the SVSM fixtures are not among the vectors
			}
			ran++
			t.Run(c.Test, func(t *testing.T) {
				want := c.Expected[len(c.Expected)-1]
				in, err := caseInput(t, call.Args, call.Kw, image)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Measure(in)
				if strings.Contains(c.Test, "should_fail") {
					if !errors.Is(err, ErrNoHashTable) {
						t.Errorf("error %v, want %v", err, ErrNoHashTable)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.Digest.String() != want {
					t.Errorf("launch digest %s, want %s", got.Digest, want)
				}
			})
		}
	}
	if ran < 12 {
		t.Errorf("only %d cases ran: the vector file changed", ran)
	}
}

// caseInput translates the arguments of calc_launch_digest(mode, vcpus, vcpu_sig, ovmf, kernel, initrd,
// append, guest_features, …).
func caseInput(t *testing.T, args []any, kw map[string]any, image []byte) (Input, error) {
	in := Input{VMM: QEMU, VCPUs: int(args[1].(float64)), Features: uint64(args[7].(float64))}
	if s, ok := args[2].(string); ok {
		name := strings.TrimSuffix(strings.TrimPrefix(s, "vcpu_types.CPU_SIGS['"), "']")
		var err error
		if in.Signature, err = VCPUSignature(name); err != nil {
			return in, err
		}
	}
	if s, ok := kw["vmm_type"].(string); ok {
		var err error
		if in.VMM, err = ParseVMM(strings.TrimPrefix(s, "vmm_types.VMMType.")); err != nil {
			return in, err
		}
	}
	if args[4] == "/dev/null" {
		cmdline, _ := args[6].(string)
		in.Hashes = &KernelHashes{Kernel: sha256.Sum256(nil), Initrd: NoInitrd(), Cmdline: HashCmdline(cmdline)}
	}
	in.Firmware = firmware(t, image)
	if s, ok := kw["snp_ovmf_hash_str"].(string); ok && s != "ovmf_hash" {
		if err := in.Firmware.Digest.UnmarshalText([]byte(s)); err != nil {
			return in, err
		}
	}
	return in, nil
}

type debianVectors struct {
	Inputs struct {
		Kernel, Initrd struct{ SHA256 string }
		Append         string
	}
	Vectors []struct {
		OVMF     string
		Kernel   int
		VCPUs    int
		CPU      string
		Sig      string
		Features string `json:"guest_features"`
		Digest   string `json:"launch_digest"`
	}
	GCE string `json:"gce_mode_trixie_ovmf_1vcpu (python == gce-tcb-verifier)"`
}

func TestDebianFirmware(t *testing.T) {
	var v debianVectors
	readJSON(t, "snp-debian.json", &v)
	images := map[string]*Firmware{
		"OVMF.amdsev.fd":  firmware(t, amdsev(t)),
		"OVMF.fd(trixie)": firmware(t, unxz(t, "testdata/vectors/ovmf/OVMF.fd.xz", "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db")),
	}
	for _, c := range v.Vectors {
		features, err := strconv.ParseUint(c.Features, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		in := Input{VMM: QEMU, Firmware: images[c.OVMF], VCPUs: c.VCPUs, Features: features}
		if in.Signature, err = VCPUSignature(c.CPU); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%#x", in.Signature); c.Sig != "" && c.Sig != want {
			t.Errorf("%s: signature %s, vector says %s", c.CPU, want, c.Sig)
		}
		if c.Kernel == 1 {
			in.Hashes = &KernelHashes{Kernel: hash(t, v.Inputs.Kernel.SHA256), Initrd: hash(t, v.Inputs.Initrd.SHA256), Cmdline: HashCmdline(v.Inputs.Append)}
		}
		got, err := Measure(in)
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest.String() != c.Digest {
			t.Errorf("%+v: launch digest %s", c, got.Digest)
		}
		if last := got.Events[len(got.Events)-1]; last.Digest != got.Digest {
			t.Errorf("the last event's digest is %s", last.Digest)
		}
	}
	gce, err := Measure(Input{VMM: GCE, Firmware: images["OVMF.fd(trixie)"], VCPUs: 1, Features: 1})
	if err != nil || gce.Digest.String() != v.GCE {
		t.Errorf("GCE: %v, %v; want %s", gce, err, v.GCE)
	}
}

// TestMilanReport compares with the MEASUREMENT of a report that real hardware signed.
func TestMilanReport(t *testing.T) {
	var v struct {
		Inputs struct {
			Cmdline  string `json:"base_cmdline"`
			OVMF     string `json:"ovmf_hash"`
			Kernel   string `json:"kernel_hash"`
			Initrd   string `json:"initrd_hash"`
			HashGPA  uint32 `json:"sev_hashes_table_gpa"`
			EIP      uint32 `json:"sev_es_reset_eip"`
			VCPUs    int
			VCPUType string `json:"vcpu_type"`
			Features uint64 `json:"guest_features"`
			Sections []struct {
				GPA  uint32
				Size uint32
				Type uint32 `json:"section_type"`
			} `json:"ovmf_sections"`
		}
		Digest string `json:"launch_digest"`
		Report string `json:"report_base64"`
	}
	readJSON(t, "snp-dstack-milan-report.json", &v)
	report, err := base64.StdEncoding.DecodeString(v.Report)
	if err != nil {
		t.Fatal(err)
	}
	// MEASUREMENT is at 0x90 of an attestation report (SEV-SNP Firmware ABI, table 23).
	if got := hex.EncodeToString(report[0x90 : 0x90+48]); got != v.Digest {
		t.Fatalf("the report says %s, the vector %s", got, v.Digest)
	}
	f := &Firmware{Size: 4 << 20, ResetEIP: v.Inputs.EIP, HashGPA: v.Inputs.HashGPA}
	if err := f.Digest.UnmarshalText([]byte(v.Inputs.OVMF)); err != nil {
		t.Fatal(err)
	}
	for _, s := range v.Inputs.Sections {
		f.Sections = append(f.Sections, Section(s))
	}
	in := Input{VMM: QEMU, Firmware: f, VCPUs: v.Inputs.VCPUs, Features: v.Inputs.Features,
		Hashes: &KernelHashes{Kernel: hash(t, v.Inputs.Kernel), Initrd: hash(t, v.Inputs.Initrd), Cmdline: HashCmdline(v.Inputs.Cmdline)}}
	if in.Signature, err = VCPUSignature(v.Inputs.VCPUType); err != nil {
		t.Fatal(err)
	}
	got, err := Measure(in)
	if err != nil || got.Digest.String() != v.Digest {
		t.Errorf("launch digest %v, %v; the hardware says %s", got, err, v.Digest)
	}
}

func TestVMSAPages(t *testing.T) {
	var v struct {
		Pages map[string]map[string]map[string]string
	}
	readJSON(t, "snp-vmsa-pages.json", &v)
	sig, _ := VCPUSignature("EPYC-v4")
	if len(v.Pages) != 3 {
		t.Fatalf("%d monitors in the vector, want 3", len(v.Pages))
	}
	for name, cpus := range v.Pages {
		vmm, err := ParseVMM(name)
		if err != nil {
			t.Fatal(err)
		}
		p := profiles[vmm]
		for cpu, parts := range cpus {
			want := make([]byte, pageSize)
			for off, text := range parts {
				o, err := strconv.ParseInt(off, 0, 32)
				if err != nil {
					t.Fatal(err)
				}
				b, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				copy(want[o:], b)
			}
			got := p.vmsa(cpu == "BSP", 0x80b004, sig, 1)
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s %s: byte %#x is %#x, want %#x", name, cpu, i, got[i], want[i])
				}
			}
		}
	}
}

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
	check("section size", func(in *Input) { in.Firmware.Sections[0].Size += pageSize })
	check("section order", func(in *Input) {
		s := in.Firmware.Sections
		s[0], s[1] = s[1], s[0]
	})
	for _, v := range VMMs()[1:] {
		check("vmm "+string(v), func(in *Input) { in.VMM = v })
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
		"unknown type":    {func(in *Input) { in.Firmware.Sections[0].Type = 9 }, "unknown section type 0x9"},
		"odd section":     {func(in *Input) { in.Firmware.Sections[0].Size = 5 }, "whole pages"},
		"huge section":    {func(in *Input) { in.Firmware.Sections[0].Size = 0xfffff000 }, "at most 1 GiB"},
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

func TestReadFirmwareRefusals(t *testing.T) {
	image := amdsev(t)
	for name, b := range map[string][]byte{
		"empty":       nil,
		"odd size":    image[1:],
		"no table":    image[:len(image)-pageSize],
		"zeros":       make([]byte, pageSize),
		"only tables": bytes.Repeat([]byte{0xff}, pageSize),
	} {
		if f, err := ReadFirmware(b); err == nil {
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
		if _, err := ReadFirmware(image); err != nil {
			b.Fatal(err)
		}
	}
}
