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
	f, err := ReadFirmware(bytes.NewReader(image), int64(len(image)))
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
