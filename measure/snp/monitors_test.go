package snp

import (
	"encoding/hex"
	"strconv"
	"testing"
)

// TestCloudMonitors replays EC2's two fleets and GCE over a firmware of Amazon's.
func TestCloudMonitors(t *testing.T) {
	var fw struct {
		MetadataItems []struct {
			GPA, Size      string
			SectionTypeInt uint32
		}
		ResetEIP, OVMFHash string
	}
	readJSON(t, "ovmf_img_1.json", &fw)
	f := &Firmware{Size: 4 << 20, ResetEIP: number(t, fw.ResetEIP)}
	if err := f.Digest.UnmarshalText([]byte(fw.OVMFHash)); err != nil {
		t.Fatal(err)
	}
	for _, s := range fw.MetadataItems {
		f.Sections = append(f.Sections, Section{number(t, s.GPA), number(t, s.Size), s.SectionTypeInt})
	}
	var v struct {
		Vectors []struct {
			OVMF   string
			VCPUs  int
			RDX    string `json:"bsp_ap_rdx"`
			Digest string `json:"launch_digest"`
		}
		GCE map[string]string `json:"gce_mode_from_same_module_tests"`
	}
	readJSON(t, "snp-ec2.json", &v)
	fleets := map[string]VMM{"0x0": EC22023, "0x600": EC2}
	ran := map[VMM]int{}
	for _, c := range v.Vectors {
		vmm, ok := fleets[c.RDX]
		if !ok || c.OVMF != "ovmf_img_1.bin" {
			t.Fatalf("vector %+v: unknown fleet or firmware", c)
		}
		got, err := Measure(Input{VMM: vmm, Firmware: f, VCPUs: c.VCPUs, Features: 1})
		if err != nil || got.Digest.String() != c.Digest {
			t.Errorf("%s, %d vcpus: %v, %v; want %s", vmm, c.VCPUs, got, err, c.Digest)
		}
		ran[vmm]++
	}
	if ran[EC2] != 7 || ran[EC22023] != 7 {
		t.Errorf("ran %v, want 7 of each fleet", ran)
	}
	got, err := Measure(Input{VMM: GCE, Firmware: f, VCPUs: 2, Features: 1})
	if want := v.GCE["ovmf_img_1.bin 2 vcpu"]; err != nil || got.Digest.String() != want {
		t.Errorf("GCE: %v, %v; want %s", got, err, want)
	}
}

func number(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
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
